"""Where modules are looked for by a process that judges: installed ones first, so that nobody's file takes their place.

A module named as an installed one, in the folder in which a command is typed or on PYTHONPATH, is found after it; what
is installed nowhere, as the suite in a clone, is still found.
"""

import site
import sys
import sysconfig
from pathlib import Path


def installed_first(path: list[str] = sys.path) -> None:
    """Reorder a search path in place: the standard library and the installed packages, then all else as it was."""
    places = [Path(place).resolve() for place in _installed()]

    def is_installed(entry: str) -> bool:
        return bool(entry) and any(Path(entry).resolve().is_relative_to(place) for place in places)

    path.sort(key=lambda entry: not is_installed(entry))


def _installed() -> set[str]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    zipped = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    library = Path(paths["stdlib"]).parent / zipped
    return {
        *(paths[name] for name in names),
        str(library),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
