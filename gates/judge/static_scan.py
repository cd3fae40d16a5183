"""Ways to unpickle, looked for in source code that is parsed and never run.

Scanned are the subject's own files, wherever they lie, and whatever they import that is neither the standard library
nor an installed package. Strings are folded before they are compared, so `"pick" + "le"`, an f-string or a reversed
literal is seen; a name that cannot be folded may not be imported, executed or looked up in a module. What a scan cannot
see is code that an installed library runs; that is what the guarded process is for.
"""

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gates.errors import GateError
from gates.judge.bound_names import own_uses
from gates.judge.constants import fold
from gates.subject.source import parse, sources
from gates.verdict.finding import Finding, Problem, no_problems
from honestloop.guarded_files import printable

PICKLERS = {"pickle", "_pickle", "cPickle", "pickle5", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
PICKLERS |= {"copyreg", "_compat_pickle", "pickletools", "jsonpickle", "hickle", "klepto"}
FORBIDDEN_NAMES = PICKLERS | {
    "Unpickler",
    "Pickler",
    "find_class",
    "read_pickle",
    "to_pickle",
    "_reconstruct",
}
EXECUTORS = {"eval", "exec", "compile", "__import__", "__builtins__", "__loader__"}
HOOKS = {"__reduce__", "__reduce_ex__"}
# Names that no other string needs to spell ("eval" and "compile" are also ordinary words, of a command line for one).
SPELLED = FORBIDDEN_NAMES | HOOKS | {"__import__", "__builtins__"}
# Modules that import or run code by name: rarely needed, and a way round every rule above.
LOADERS = {"runpy", "imp", "ctypes", "code", "codeop", "zipimport", "pkgutil", "_posixsubprocess"}
IMPORTERS = {"import_module", "__import__", "resolve_name", "find_spec", "spec_from_file_location"}
# Modules that may only be used by writing `module.name`: in the module itself any name can be looked up.
NEVER_LOOSE = {"builtins", "importlib"}
# Which positional argument of a function of NumPy is allow_pickle.
ALLOW_PICKLE_AT = {"load": 2, "NpzFile": 2, "read_array": 1, "write_array": 3}
PICKLE_WORD = re.compile(r"(?<![a-z])(_|c|cloud)?pickle(?![a-z])", re.IGNORECASE)
PICKLE_IMPORT = re.compile(r"\b(import|from)\s+(_|c|cloud)?pickle\b")
# Options of Python that ignore PYTHONPATH, or the directory in which the guard is found.
WITHOUT_GUARD = re.compile(r"-[A-Za-z]*[IES][A-Za-z]*")
TORCH_CALLS = {"torch.load", "torch.save", "torch.serialization", "torch.package", "torch.jit.load"}
WHOLE_MODULES = {"torch.*", "builtins.*", "importlib.*"}
FORBIDDEN_CALLS = TORCH_CALLS | WHOLE_MODULES
# These pickle arrays of objects by default.
PICKLES_BY_DEFAULT = {"numpy.save", "numpy.savez", "numpy.savez_compressed"}


@dataclass(frozen=True)
class Occurrence:
    """A place in a source file and what is wrong with it."""

    file: Path
    line: int
    what: str


def check(subject: str, root: Path) -> Finding:
    """No file of the subject has a way to unpickle."""
    files = list(sources(subject, root))
    if not files:
        raise GateError(f"no source file of subject {subject!r} was scanned")
    problems = [
        Problem(f"{_short(found.file, root)}:{found.line}: {found.what}", "in the subject's source", "none")
        for file in files
        for found in scan(file)
    ]
    return no_problems("no_pickle/source", problems, of=f"{len(files)} files", what="ways to unpickle")


def scan(file: Path) -> list[Occurrence]:
    """Every way to unpickle in one source file, in order of lines. GateError if it does not parse."""
    scanner = _Scanner(file)
    try:
        scanner.visit(parse(file))
    except RecursionError:
        raise GateError(f"{printable(file)}: is nested too deep to be scanned") from None
    return sorted(scanner.found, key=lambda found: found.line)


@dataclass
class _Scanner(ast.NodeVisitor):
    file: Path
    found: list[Occurrence] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)  # local name -> what it was imported as
    called: set[ast.AST] = field(default_factory=set)  # functions of calls seen so far
    bases: set[ast.AST] = field(default_factory=set)  # what stands before a dot, seen so far
    own: set[ast.AST] = field(default_factory=set)  # names that the file has bound itself
    harmless: set[ast.AST] = field(
        default_factory=set
    )  # calls of globals() that find a function to be called

    def add(self, node: ast.AST, what: str) -> None:
        self.found.append(Occurrence(self.file, getattr(node, "lineno", 0), what))

    def visit_Module(self, node: ast.Module) -> None:
        """Learn what every imported name stands for before looking at its uses."""
        for statement in ast.walk(node):
            if isinstance(statement, ast.Import):
                for name in statement.names:
                    top = name.name.split(".")[0]
                    self.aliases[name.asname or top] = name.name if name.asname else top
            elif isinstance(statement, ast.ImportFrom):
                for name in statement.names:
                    whole = f"{statement.module or ''}.{name.name}"
                    self.aliases[name.asname or name.name] = whole.lstrip(".")
        self.own = own_uses(node)
        self.harmless = self._dispatches(node)
        self._strings(node)
        self.generic_visit(node)

    def _dispatches(self, tree: ast.Module) -> set[ast.AST]:
        """Every `globals()` of which one name is looked up only to be called: a function of the file, by its verb.

        Not in a file that imports by name what loads other modules or arrays: that could be the one looked up.
        """
        if any(self._loads(whole) for whole in self.aliases.values()):
            return set()
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        uses: dict[str, list[ast.AST]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                uses.setdefault(node.id, []).append(node)
        found: set[ast.AST] = set()
        for looked_up in called:
            parent = parents.get(parents[looked_up])  # globals -> globals() -> globals()[verb]
            if not (
                isinstance(looked_up, ast.Name)
                and looked_up.id == "globals"
                and isinstance(parent, ast.Subscript)
            ):
                continue
            text = fold(parent.slice)
            if text is not None and (text in FORBIDDEN_NAMES or text.startswith("__")):
                continue
            above = parents.get(parent)
            if (
                isinstance(above, ast.Assign)
                and len(above.targets) == 1
                and isinstance(above.targets[0], ast.Name)
            ):
                others = [use for use in uses[above.targets[0].id] if use is not above.targets[0]]
                only_called = all(use in called for use in others)
            else:
                only_called = parent in called
            if only_called:
                found.add(parents[looked_up])
        return found

    @staticmethod
    def _loads(whole: str) -> bool:
        """Whether it is a function that imports modules, or reads or writes arrays."""
        last = whole.rpartition(".")[2]
        return (
            last in IMPORTERS
            or (whole.startswith("numpy.") and last in ALLOW_PICKLE_AT)
            or whole in PICKLES_BY_DEFAULT
        )

    def _strings(self, tree: ast.Module) -> None:
        """Programs in strings: what is handed to a call, and how another Python is started."""
        said = _docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self._words([*node.args, *(k.value for k in node.keywords)], PICKLE_WORD.search, "in a call")
            if isinstance(node, ast.Constant) and node not in said:
                self._words([node], PICKLE_IMPORT.search, "as a program")
            if isinstance(node, ast.stmt) and not hasattr(node, "body") and self._starts_python(node):
                self._words([node], PICKLE_WORD.search, "beside sys.executable")
                self._words([node], WITHOUT_GUARD.fullmatch, "beside sys.executable")

    def _words(self, nodes: Sequence[ast.AST], wrong: Callable[[str], object], where: str) -> None:
        """Look at every text that stands in the nodes or that their constants make."""
        for part in (part for node in nodes for part in ast.walk(node) if isinstance(part, ast.expr)):
            text = fold(part)
            if text is not None and wrong(text):
                self.add(part, f"says {text[:60]!r} {where}")

    def _starts_python(self, node: ast.AST) -> bool:
        names = (part for part in ast.walk(node) if isinstance(part, (ast.Name, ast.Attribute)))
        return any(self._dotted(name) == "sys.executable" for name in names)

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self._imported(node, name.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for name in node.names:
            inside = [] if node.level or not node.module else [node.module]
            self._imported(node, ".".join([*inside, name.name]))

    def _imported(self, node: ast.AST, name: str) -> None:
        parts = set(name.split("."))
        if parts & FORBIDDEN_NAMES:
            self.add(node, f"imports {name}")
        elif name.split(".")[0] in LOADERS:
            self.add(node, f"imports {name}, which runs code by name")
        elif name in FORBIDDEN_CALLS or (name.startswith("builtins.") and parts & EXECUTORS):
            self.add(node, f"imports {name}")

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in EXECUTORS and isinstance(node.ctx, ast.Load) and node not in self.own:
            self.add(node, f"uses {node.id}")
        elif node.id in FORBIDDEN_NAMES and node.id not in self.aliases:
            self.add(node, f"uses the name {node.id}")
        self._loose(node, self.aliases.get(node.id, ""))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        whole = self._dotted(node)
        if node.attr in FORBIDDEN_NAMES:
            self.add(node, f"uses .{node.attr}")
        elif whole in FORBIDDEN_CALLS or (whole.startswith("builtins.") and node.attr in EXECUTORS):
            self.add(node, f"uses {whole}")
        elif node.attr == "__import__":
            self.add(node, "uses .__import__")
        elif node.attr.startswith("__") and self._dotted(node.value) in NEVER_LOOSE:
            self.add(node, f"uses {whole}, where names can be computed")
        self.bases.add(node.value)
        self._loose(node, whole)
        self.generic_visit(node)

    def _loose(self, node: ast.expr, whole: str) -> None:
        """An importer, or NumPy's reader, may be called by its name and not be handed on; nor may some modules."""
        first, _, last = whole.rpartition(".")
        importer = last == "import_module" or (last in IMPORTERS and first.startswith("importlib"))
        reader = whole.startswith("numpy.") and last in ALLOW_PICKLE_AT
        if (importer or reader) and node not in self.called:
            self.add(node, f"hands on {whole}")
        if whole in NEVER_LOOSE and node not in self.bases:
            self.add(node, f"hands on the module {whole}")

    def visit_Call(self, node: ast.Call) -> None:
        whole = self._dotted(node.func)
        self.called.add(node.func)
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle" and not _is_false(keyword.value):
                self.add(node, f"allow_pickle={ast.unparse(keyword.value)}")
            if keyword.arg is None and whole.startswith("numpy."):
                self.add(node, f"{whole} with unknown keywords, allow_pickle may be one")
        last = whole.rsplit(".", 1)[-1]
        if whole.startswith("numpy.") and last in ALLOW_PICKLE_AT:
            self._positional(node, ALLOW_PICKLE_AT[last])
        if whole in PICKLES_BY_DEFAULT:
            self.add(node, f"{whole} pickles arrays of objects")
        if last in IMPORTERS - {"__import__"}:
            self._computed(node, node.args[0] if node.args else None, f"{last} of a computed name")
        if whole == "getattr" and len(node.args) > 1 and self._is_module(node.args[0]):
            self._computed(node, node.args[1], "getattr of a computed name on a module")
        if whole in ("globals", "locals", "vars") and not _harmless_vars(node) and node not in self.harmless:
            self.add(node, f"uses {whole}(), where names can be computed")
        self.generic_visit(node)

    def _positional(self, node: ast.Call, place: int) -> None:
        """allow_pickle given by its place, or by a list of unknown length."""
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            self.add(node, "unknown arguments, allow_pickle may be one")
        elif len(node.args) > place and not _is_false(node.args[place]):
            self.add(node, f"allow_pickle={ast.unparse(node.args[place])}, by its place")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if self._dotted(node.value) == "sys.modules":
            self._computed(node, node.slice, "sys.modules at a computed name")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in HOOKS:
            self.add(node, f"defines {node.name}")
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            text = fold(node)
            if text is not None and text in SPELLED:
                self.add(node, f"spells the name {text!r}")
                return
        super().generic_visit(node)

    def _computed(self, node: ast.AST, name: ast.expr | None, what: str) -> None:
        """A name given to an importer must be a literal, and not a forbidden one; `__name__` is the file's own."""
        if isinstance(name, ast.Name) and name.id == "__name__":
            return
        text = fold(name) if name is not None else None
        if text is None:
            self.add(node, what)
        elif set(text.split(".")) & (FORBIDDEN_NAMES | LOADERS | EXECUTORS | NEVER_LOOSE):
            self.add(node, f"imports {text}")

    def _is_module(self, node: ast.expr) -> bool:
        return self._dotted(node).split(".")[0] in {name.split(".")[0] for name in self.aliases.values()}

    def _dotted(self, node: ast.expr) -> str:
        """`np.lib.load` -> "numpy.lib.load", through the file's own imports; "" for anything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ".".join(["", *reversed(parts)]) if parts else ""
        return ".".join([self.aliases.get(node.id, node.id), *reversed(parts)])


def _harmless_vars(node: ast.Call) -> bool:
    """`vars(x)` of an object is only its fields; `vars()`, `globals()` and a subscript by a computed name are not."""
    return isinstance(node.func, ast.Name) and node.func.id == "vars" and len(node.args) == 1


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _docstrings(tree: ast.Module) -> set[ast.AST]:
    """Every string that is a statement of its own, which says something to the reader and nothing to Python."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _short(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
