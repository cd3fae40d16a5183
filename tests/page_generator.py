"""docs/generate.py and what it is made of, imported from where they lie: docs/ is no package."""

import importlib.util
import sys
from types import ModuleType

from honestloop.suite_location import ROOT

DOCS = ROOT / "docs"


def generator(name: str) -> ModuleType:
    """A module of docs/ by its path without suffix: "generate", "page_writers/rules"."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    spec = importlib.util.spec_from_file_location(name.replace("/", "."), DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
