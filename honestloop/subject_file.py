"""`subject.toml`, or the table [tool.honestloop] of a `pyproject.toml`: what a subject says about itself.

It lies beside the subject's module or package, or inside the package. Read are the expected failures:

    [expected]
    UPDATE-04 = "counts its steps from 0, as the paper does"
"""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

from honestloop.protocol import ProtocolError, expected_failures

KNOWN = ("expected",)


def expected_of(module: str) -> dict[str, str]:
    """Rule -> reason, of the rules that the subject declares not to keep; the module is found, never imported.

    ProtocolError, one line that names the file, for a table that is not known, a rule that does not exist or no reason.
    """
    for folder in folders(module):
        for path, table in (
            (folder / "subject.toml", ()),
            (folder / "pyproject.toml", ("tool", "honestloop")),
        ):
            said = read(path, table)
            if said is not None:
                if unknown := sorted(said.keys() - set(KNOWN)):
                    raise ProtocolError(f"{path}: unknown table {unknown[0]!r}; there is {', '.join(KNOWN)}")
                try:
                    return expected_failures(said.get("expected", {}))
                except ValueError as error:
                    raise ProtocolError(f"{path}: {error}") from None
    return {}


def folders(module: str) -> list[Path]:
    """The folders of the package, and the one that the top-level package or module lies in; none if it is not found."""
    top = module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        return []
    if spec.submodule_search_locations:
        package = Path(next(iter(spec.submodule_search_locations)))
        return [package.joinpath(*module.split(".")[1:]), package, package.parent]
    return [Path(str(spec.origin)).parent]


def read(path: Path, table: tuple[str, ...]) -> dict[str, Any] | None:
    """The table of a TOML file; None if there is no such file or table. ProtocolError if it is not TOML."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path}: not valid TOML ({error})") from None
    for name in table:
        if name not in said:
            return None
        said = said[name]
    return said
