"""What a subject says about itself: `subject.toml`, or the table [tool.honestloop] of a `pyproject.toml`.

    train  = "{python} train.py --out {out} --steps {steps} --save-every {checkpoint_every} --stop-after {stop_after}"
    resume = "{python} train.py --out {out} --resume --stop-after {stop_after}"

Commands are split as a shell would and run without one, in the file's folder. What the file offers decides how much
can be judged (`Level`). A subject without a file is a module that answers to `python -m NAME VERB`.
"""

import dataclasses
import enum
import importlib.util
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from honestloop.conventions import ConventionError, Conventions, declared
from honestloop.protocol import ProtocolError, expected_failures
from honestloop.suite_location import ROOT


class Level(enum.IntEnum):
    """How much a subject hands over, and so how much is judged; each level includes the one before."""

    COMMAND = 1
    RECORD = 2
    MODEL = 3
    PHASE_18 = 4

    def __str__(self) -> str:
        return LEVEL_NAMES[self]


LEVEL_NAMES = {
    Level.COMMAND: "command",
    Level.RECORD: "record",
    Level.MODEL: "model",
    Level.PHASE_18: "phase 18",
}

TRAINING = ("out", "data", "seed", "steps", "checkpoint_every", "stop_after")
PLACEHOLDERS: dict[str, tuple[str, ...]] = {
    "train": TRAINING,
    "resume": TRAINING,
    "logits": ("run", "tokens", "out"),
    "loss": ("run", "weights", "batch", "dtype", "out"),
    "rows": ("run", "updates", "out"),
    "masks": ("run", "update", "out"),
    "encode": ("run", "texts", "out"),
    "decode": ("run", "ids", "out"),
    "serve": (),
}
"""Every verb that a description may have, and what may stand in braces in its command, beside {python}."""
TABLES = ("conventions", "optimizer", "run", "model", "expected")
OTHERS = ("python", "module", "adapter", "level")
MODULE = re.compile(r"\w+(\.\w+)*")
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Layout:
    """The table [run]: what a graded run is given, and where it leaves what. The defaults are our own layout."""

    log: str = "train_log.jsonl"
    checkpoints: str = "checkpoints/step-{step:08d}"
    """The folder of the checkpoint after so many updates."""
    weights: str = "weights.safetensors"
    optimizer: str = "optimizer.safetensors"
    m: str = "m.{name}"
    v: str = "v.{name}"
    """Names of a parameter's two moments in the optimizer's file."""
    manifest: str = "manifest.json"
    steps: int = 40
    checkpoint_every: int = 10
    seed: int = 1
    data: str = ""
    may_differ: tuple[str, ...] = ()
    """What may differ between two runs that are equal: "*.png", or the field of a JSON file, "log.jsonl:seconds"."""
    timeout: float = 300.0
    """Seconds that one command may take."""


@dataclass(frozen=True)
class Description:
    """A subject, described."""

    name: str
    level: Level
    folder: Path = ROOT
    """Where its commands run."""
    python: str = sys.executable
    commands: Mapping[str, str] = field(default_factory=dict)
    """Verb -> command, with placeholders in braces."""
    module: str | None = None
    """What `python -m` starts, of a subject of phase 18."""
    adapter: str | None = None
    """The module whose functions the properties grade; None if it is not said."""
    conventions: Conventions = field(default_factory=Conventions)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the optimizer and the schedule, named as in a manifest's config.optimizer."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Texts and limits of the gates of level 3."""
    run: Layout = field(default_factory=Layout)
    expected: Mapping[str, str] = field(default_factory=dict)
    """Rule -> reason, of the rules that are declared not to hold."""
    source: Path | None = None
    """The file that says so."""

    def offers(self, verb: str) -> bool:
        """Whether there is a command for the verb."""
        return verb in self.commands

    def placeholders(self, verb: str) -> set[str]:
        """What the command of a verb leaves to be filled in."""
        return set(PLACEHOLDER.findall(self.commands[verb])) - {"python"}

    def argv(self, verb: str, **values: object) -> list[str]:
        """The words of a command. ProtocolError if there is no such command, or a placeholder gets no value."""
        if verb not in self.commands:
            raise ProtocolError(f"{self.source or self.name}: there is no command {verb!r}")
        given = {"python": self.python, **values}
        if missing := sorted(self.placeholders(verb) - given.keys()):
            raise ProtocolError(f"{self.source}: {verb}: nothing stands for {{{missing[0]}}}")
        return [
            PLACEHOLDER.sub(lambda found: str(given[found[1]]), word)
            for word in shlex.split(self.commands[verb])
        ]


def describe(subject: str) -> Description:
    """The description of a subject: the path of a file that holds it or of its folder, or the name of a module.

    A module is found, never imported; its file is beside it or in its package. ProtocolError, one line that names the
    file, for anything in it that is not known, and for a path at which there is none.
    """
    path = Path(subject)
    for file in _files(path) if path.is_dir() else [path] if path.suffix == ".toml" else []:
        if (said := _read(file)) is not None:
            module = subject if subject.isidentifier() else None  # a package's folder is its module too
            return _description(subject, file.absolute(), said, module)
    if not MODULE.fullmatch(subject) or path.suffix == ".toml":
        raise ProtocolError(
            f"no such subject: {subject} (a subject.toml, a pyproject.toml with [tool.honestloop], or a module)"
        )
    for folder in folders(subject):
        for file in _files(folder):
            if (said := _read(file)) is not None:
                return _description(subject, file.absolute(), said, module=subject)
    return Description(subject, Level.PHASE_18, module=subject)


def must_be_there(description: Description) -> Description:
    """Itself. ProtocolError, one line, if it is a module that is not found, or a program of it is not."""
    if description.module is not None and description.level == Level.PHASE_18:
        top = description.module.partition(".")[0]
        if not folders(top) and not any((description.folder / name).exists() for name in (top, f"{top}.py")):
            raise ProtocolError(
                f"no such subject: {description.name} (no module {top} in {description.folder} or installed)"
            )
    for program in {shlex.split(command)[0] for command in description.commands.values()}:
        name = description.python if program == "{python}" else program
        if not PLACEHOLDER.search(name) and shutil.which(name, path=_search_path(description.folder)) is None:
            raise ProtocolError(f"{description.source}: there is no program {name!r}")
    return description


def _search_path(folder: Path) -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), str(folder)])


def folders(module: str) -> list[Path]:
    """The folders of the package, and the one that the top-level package or module lies in; none if it is not found."""
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # "", "__main__"
        return []
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        return []
    if spec.submodule_search_locations:
        package = Path(next(iter(spec.submodule_search_locations)))
        return [package.joinpath(*module.split(".")[1:]), package, package.parent]
    return [Path(str(spec.origin)).parent]


def _files(folder: Path) -> list[Path]:
    return [folder / "subject.toml", folder / "pyproject.toml"]


def _read(path: Path) -> dict[str, Any] | None:
    """What a file says of a subject; None if there is no such file or table. ProtocolError if it is not TOML."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ProtocolError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path}: not valid TOML ({error})") from None
    if path.name != "pyproject.toml":
        return said
    found: dict[str, Any] | None = said.get("tool", {}).get("honestloop")
    return found


def _description(subject: str, file: Path, said: dict[str, Any], module: str | None) -> Description:
    try:
        return _checked(subject, file, said, module)
    except (ValueError, ConventionError) as error:
        raise ProtocolError(f"{file}: {error}") from None


def _checked(subject: str, file: Path, said: dict[str, Any], module: str | None) -> Description:
    """ValueError or ConventionError for what is wrong in it."""
    known = (*PLACEHOLDERS, *OTHERS, *TABLES)
    if unknown := sorted(said.keys() - set(known)):
        what = "table" if isinstance(said[unknown[0]], dict) else "key"
        raise ValueError(f"unknown {what} {unknown[0]!r}; there is {', '.join(known)}")
    expected = expected_failures(said.get("expected", {}))
    for key in said.keys() & {*PLACEHOLDERS, *OTHERS}:
        if not isinstance(said[key], str):
            raise ValueError(f"{key} is of type {type(said[key]).__name__}, not a string")
    for key in said.keys() & set(TABLES):
        if not isinstance(said[key], dict):
            raise ValueError(f"{key} is of type {type(said[key]).__name__}, not a table")
    commands = {verb: said[verb] for verb in PLACEHOLDERS if verb in said}
    for verb, command in commands.items():
        _check_command(verb, command)
    level = _level(said)
    module = said.get("module", module)
    if level == Level.PHASE_18 and module is None:
        raise ValueError("it has neither a command `train` nor a `module` that answers to python -m")
    return Description(
        subject,
        level,
        ROOT if module == subject and "train" not in said else file.parent,
        _interpreter(said.get("python"), file.parent),
        commands,
        module,
        said.get("adapter"),
        declared(said.get("conventions", {})),
        said.get("optimizer", {}),
        said.get("model", {}),
        _layout(said.get("run", {})),
        expected,
        file,
    )


def _level(said: Mapping[str, Any]) -> Level:
    """The level that is declared, else the one that follows from what is offered."""
    if (name := said.get("level")) is not None:
        found = next((level for level, word in LEVEL_NAMES.items() if word == name), None)
        if found is None:
            raise ValueError(f"level {name!r} is none of {', '.join(map(repr, LEVEL_NAMES.values()))}")
        if found < Level.PHASE_18 and "train" not in said:
            raise ValueError(f"level {name!r} needs a command `train`")
        if found == Level.MODEL and not {"logits", "loss"} <= said.keys():
            raise ValueError("level 'model' needs the commands `logits` and `loss`")
        return found
    if "train" not in said:
        return Level.PHASE_18
    if {"logits", "loss"} <= said.keys():
        return Level.MODEL
    return Level.RECORD if said.keys() & {"optimizer"} else Level.COMMAND


def _check_command(verb: str, command: str) -> None:
    """ValueError unless the command can be split, its placeholders are known, and it says where its output goes."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{verb}: {error} in {command!r}") from None
    if not words:
        raise ValueError(f"{verb} is empty")
    found, legal = set(PLACEHOLDER.findall(command)), {"python", *PLACEHOLDERS[verb]}
    if unknown := sorted(found - legal):
        raise ValueError(f"{verb}: unknown placeholder {{{unknown[0]}}}; there is {', '.join(sorted(legal))}")
    if "out" in PLACEHOLDERS[verb] and "out" not in found:
        raise ValueError(f"{verb} does not say where its output goes: it has no {{out}}")


def _interpreter(said: str | None, folder: Path) -> str:
    """What {python} stands for: a path in it is relative to the file's folder."""
    if said is None:
        return sys.executable
    return str((folder / said).absolute()) if len(Path(said).parts) > 1 else said


def _layout(said: Mapping[str, Any]) -> Layout:
    fields = {f.name: f for f in dataclasses.fields(Layout)}
    if unknown := sorted(said.keys() - fields.keys()):
        raise ValueError(f"[run] has no key {unknown[0]!r}; there is {', '.join(fields)}")
    given: dict[str, Any] = {}
    for name, value in said.items():
        default: Any = fields[name].default
        if isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ValueError(f"[run] {name} is not a list of strings")
            given[name] = tuple(value)
            continue
        wanted = (int, float) if isinstance(default, float) else (type(default),)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"[run] {name} is of type {type(value).__name__}, not {type(default).__name__}")
        if not isinstance(value, str) and value <= 0 and name != "seed":
            raise ValueError(f"[run] {name} is {value}, not positive")
        given[name] = value
    return Layout(**given)
