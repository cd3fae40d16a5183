"""What the start of the command line leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRY = """
import gc, sys
sys.modules.update({missing!r})
try:
    import impl.__main__
    print("imported", gc.isenabled())
except ImportError:
    print("failed", gc.isenabled())
"""


@pytest.mark.parametrize(
    ("missing", "said"), [({}, "imported True"), ({"impl.commands": None}, "failed True")]
)
def test_the_collector_is_on_after_the_imports(missing, said):
    """Also if one of them fails: whoever imports the module may go on."""
    done = subprocess.run(
        [sys.executable, "-c", TRY.format(missing=missing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == said
