"""Loaded by Python before anything else when its directory is on PYTHONPATH: from then on, unpickling raises.

Nothing else may be started either but a few programs that tell what machine and what commit this is, because another
Python could be started without the guard.

Two locks. The functions and classes of `pickle` and `_pickle` are replaced by ones that raise; and an audit hook, which
code written in C cannot avoid either, raises whenever an unpickler looks up a class. One caller is let through, and
counted: numba's cache of compiled functions, which holds machine code and no weights. What happened is written to the
directory that HONESTLOOP_GUARD names, one file a process, at the start and again at the end.
"""

import _pickle
import atexit
import json
import os
import pickle
import sys
import threading

EXCEPTED = "numba.core.caching"
# git for the manifest; what `platform` and `cpuinfo` ask for the processor, and Matplotlib for the fonts.
PROGRAMS = (
    "git",
    "uname",
    "lscpu",
    "sysctl",
    "fc-list",
    "system_profiler",
    "file",
    "dmesg",
    "sestatus",
    "cpufreq-info",
)
STARTS = ("os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "pty.spawn")
CPUINFO = ("-m", "cpuinfo", "--internal-cpuid")
_search = os.environ.get("PATH")
_let_through = threading.local()
_excepted: dict[str, int] = {}
_refused: list[str] = []
_path = os.path.join(os.environ["HONESTLOOP_GUARD"], f"{os.getpid()}.json")


class UnpicklingForbidden(RuntimeError):
    """Something tried to unpickle where nothing may."""


def _write() -> None:
    with open(_path, "w", encoding="utf-8") as file:
        json.dump({"armed": True, "excepted": _excepted, "refused": _refused}, file)


def _refuse(what: str, kind: str = "unpickling") -> None:
    _refused.append(what)
    _write()
    raise UnpicklingForbidden(f"{what}: {kind} is forbidden in this process")


def _guarded(function, what):
    """`function` for the excepted caller, an error for everybody else."""

    def call(*args, **kwargs):
        caller = sys._getframe(1).f_globals.get("__name__", "?")
        if caller != EXCEPTED:
            _refuse(f"{what} called by {caller}")
        _excepted[caller] = _excepted.get(caller, 0) + 1
        _let_through.depth = getattr(_let_through, "depth", 0) + 1
        try:
            return function(*args, **kwargs)
        finally:
            _let_through.depth -= 1

    return call


def _forbidden_class(base, what):
    """A class in the place of `base` that cannot be made."""

    def refuse(self, *args, **kwargs):
        _refuse(f"{what} made by {sys._getframe(1).f_globals.get('__name__', '?')}")

    return type(base.__name__, (base,), {"__init__": refuse})


def _is_guarded_cpuinfo(words, environment):
    """What `cpuinfo` starts to ask the processor itself: a Python that has this guard too."""
    given = os.environ if environment is None else environment
    return words == [sys.executable, *CPUINFO] and _of_python(given) == _inherited


def _of_python(environment):
    """The variables that decide what a Python loads first."""
    return {
        name: value for name, value in environment.items() if name.startswith(("PYTHON", "HONESTLOOP_GUARD"))
    }


def _may_start(program, arguments, environment):
    """One of the programs, found where it always is, and git without settings that make it run something else."""
    if isinstance(arguments, (str, bytes)):
        arguments = [arguments]
    words = [os.fsdecode(word) for word in arguments]
    if _is_guarded_cpuinfo(words, environment):
        return True
    where = (os.environ if environment is None else environment).get("PATH", _search)
    settings = [word for word in words if word == "-c" or word.startswith(("--exec-path", "--config-env"))]
    return os.fsdecode(program) in PROGRAMS and words[:1] == [program] and where == _search and not settings


def _audit(event, args):
    if event in STARTS or (event == "subprocess.Popen" and not _may_start(args[0], args[1], args[3])):
        _refuse(f"starts {args[0]!s}" + (f" ({args[1]!r})" if len(args) > 1 else ""), "starting a program")
    if event == "pickle.find_class" and not getattr(_let_through, "depth", 0):
        _refuse(f"pickle looks up {args[0]}.{args[1]}")


for _module in (pickle, _pickle):
    for _name in ("load", "loads", "_load", "_loads"):
        if hasattr(_module, _name):
            setattr(_module, _name, _guarded(getattr(_module, _name), f"{_module.__name__}.{_name}"))
    for _name in ("Unpickler", "_Unpickler"):
        if hasattr(_module, _name):
            setattr(_module, _name, _forbidden_class(getattr(_module, _name), f"{_module.__name__}.{_name}"))
_inherited = _of_python(os.environ)
sys.addaudithook(_audit)
_write()
atexit.register(_write)
