"""The no-pickle gate: every roundabout way is seen, ordinary code is not; files are what they say; the guard holds."""

import json
import os
import struct
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

import numpy as np
import pytest

from gates.errors import GateError
from gates.judge import artefacts, static_scan
from gates.judge.unpickling_attempts import breaks, works_without_unpickling
from gates.subject import source, tensors
from gates.subject.process import Finished
from gates.subject.unpickling_guard import Report, environment, read_reports
from honestloop.suite_location import ROOT

TRICKS = [
    "import pickle",
    "import pickle as safe",
    "from pickle import loads",
    "import _pickle",
    "import cloudpickle, json",
    "from torch import load",
    "import torch\ntorch.load('x')",
    "import torch as t\nt.save({}, 'x')",
    "import torch.serialization as s\ns.x",
    "import torch.nn\ntorch.load('x')",
    "def f():\n    return t.load('x')\nimport torch as t",
    "from torch import *",
    "import joblib.numpy_pickle",
    "import shelve",
    "import marshal",
    "import copyreg",
    "__import__('pickle')",
    "__import__('pick' + 'le')",
    "import importlib\nimportlib.import_module('pick' 'le')",
    "import importlib\nimportlib.import_module(f'{\"pick\"}le')",
    "from importlib import import_module as get\nget('elkcip'[::-1])",
    "import importlib\nname = input()\nimportlib.import_module(name)",
    "import importlib\nimportlib.import_module(bytes.fromhex('7069636b6c65').decode())",
    "import importlib\nimportlib.import_module('json' if x else y)",
    "name = ''.join(['pic', 'kle'])",
    "name = chr(112) + 'ickle'",
    "name = 'PICKLE'.lower()",
    "name = 'pickXe'.replace('X', 'l')",
    "exec('x = 1')",
    "eval('1')",
    "compile('1', '', 'eval')",
    "import builtins\nbuiltins.exec('x')",
    "from builtins import eval as calculate",
    "__builtins__['exec']",
    "globals()['pickle']()",
    "globals()[name]",
    "f = globals()[name]\nf.loads(x)",
    "f = globals()[name]\nuse(f)",
    "globals()['__builtins__']['exec'](x)",
    "from importlib import import_module\nglobals()[name]('x')",
    "import importlib\nglobals()['importlib']",
    "from numpy import load\nglobals()[name](p, None, flag)",
    "globals().update(x)",
    "locals()[name]()",
    "eval('1')\ndef eval(x): ...",
    "def f():\n    return eval('1')\ndef eval(x): ...",
    "if x:\n    def eval(x): ...\neval('1')",
    "def eval(x): ...\ndel eval\neval('1')",
    "class A:\n    eval = 1\n    eval('1')",
    "class A:\n    def eval(self): ...\n    def f(self):\n        eval('1')",
    "def f():\n    global eval\n    eval = 1\ndef g():\n    eval('1')",
    "def f(x=eval):\n    return x('1')",
    "def outer():\n    def inner(eval): ...\n    eval('1')",
    "if x:\n    from mine import eval\neval('1')",
    "[eval for x in y]",
    "def f(g=eval, eval=None):\n    return g('1')",
    "import sys\nsys.modules['pickle']",
    "import sys\nsys.modules[name]",
    "import numpy as np\nnp.load('x', allow_pickle=True)",
    "import numpy as np\nnp.load('x', allow_pickle=flag)",
    "import numpy as np\nnp.load('x', **options)",
    "import numpy as np\nnp.save('x', y)",
    "import numpy\nnumpy.lib.format.pickle.loads(x)",
    "import pandas as pd\npd.read_pickle('x')",
    "import numpy as np\ngetattr(np, name)",
    "import numpy as np\ngetattr(np, 'pickle')",
    "import runpy",
    "import ctypes",
    "import numpy as np\nnp.load(p, None, True)",
    "import numpy as np\nnp.load(*arguments)",
    "from numpy import load\nf = load\nf(p, None, 1 > 0)",
    "import numpy as np\nnp.lib.format.read_array(f, True)",
    "import importlib\nimportlib.__import__(x)",
    "import importlib\ng = importlib.import_module\ng(x)",
    "from importlib import import_module\nmap(import_module, names)",
    "import importlib as i\nj = i\nj.import_module('json')",
    "import importlib\nimportlib.import_module('builtins')",
    "from importlib import *",
    "import builtins\nbuiltins.__dict__['exec'](source)",
    "import builtins\nvars(builtins)['exec'](source)",
    "import builtins\ngetattr(builtins, name)(source)",
    "import builtins as b\nother = b",
    "import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-c', 'import pickle'])",
    "import subprocess\nsubprocess.run(['python', '-m', 'pickle', p])",
    "import sys\ncommand = [sys.executable, '-m', 'pickle']",
    "import sys\ncommand = [sys.executable, '-I', program]",
    "import sys\ncommand = [sys.executable] + ['-Sc', program]",
    "from sys import executable as python\nstart(python, '-E')",
    "PROGRAM = 'import json; import pickle'",
    "import _posixsubprocess",
    "class A:\n    def __reduce__(self):\n        return 1",
    "async def __reduce_ex__():\n    pass",
]
ORDINARY = [
    "import json\njson.loads('1')",
    "import re\nre.compile('x')",
    "import numpy as np\nnp.load('x', allow_pickle=False)",
    "import importlib\nimportlib.import_module('mlflow')",
    "def f(options):\n    return dict(**options)",
    "x = vars(machine).values()",
    "getattr(machine, name).restore()",
    "'''A sentence that says: pickle is not used here.'''",
    "from impl.kernels.compile import kernel",
    "import tomli_w\ntomli_w.dumps({})",
    "model.eval()",
    'def f():\n    """Never import pickle, which unpickles."""',
    "NOTE = 'no pickle'",
    "import sys\ncommand = [sys.executable, '-m', 'impl.report.mlflow_helper', str(path)]",
    "command = ['ls', '-S']",
    "import numpy as np\nnp.load(p, None, False)",
    "import sys\nsys.modules[__name__]",
    "import os.path\nos.replace('a', 'b')",
    "@app.command('eval')\ndef evaluate(): ...",
    "import sys\nverb = sys.argv[1]\nglobals()[verb](sys.argv[2:])",
    "handler = globals()[f'run_{verb}']\nhandler(arguments)",
    "globals()['f']()",
    "def eval(arguments):\n    return 0\nVERBS = {'train': train, 'eval': eval}\nVERBS[verb](x)",
    "def eval(arguments):\n    return 0\ndef main():\n    return eval(1)",
    "from mine.verbs import eval\neval(1)",
    "def train(model, compile=False):\n    if compile:\n        model.go()",
    "compile = True\nif compile:\n    go()",
    "def f(options):\n    compile = options.compile\n    return compile",
    "class Trainer:\n    def eval(self):\n        return self.eval()",
    "ok = [compile for compile in settings]",
]


@pytest.mark.parametrize("source", TRICKS)
def test_sees_a_way_to_unpickle(tmp_path, source):
    file = tmp_path / "trick.py"
    file.write_text(source, encoding="utf-8")
    assert static_scan.scan(file)


@pytest.mark.parametrize("source", ORDINARY)
def test_does_not_cry_wolf(tmp_path, source):
    file = tmp_path / "ordinary.py"
    file.write_text(source, encoding="utf-8")
    assert static_scan.scan(file) == []


def package(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / f"{name.replace('__SLASH__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_scans_the_package_and_what_it_imports_without_running_it(tmp_path):
    package(
        tmp_path,
        subject_a__SLASH____init__="raise SystemExit('this must never run')",
        subject_a__SLASH____main__="from subject_a.inner import loop\nimport json",
        subject_a__SLASH__inner__SLASH____init__="",
        subject_a__SLASH__inner__SLASH__loop="from ...helper_a import load\nfrom .. import other",
        subject_a__SLASH__other="",
        helper_a="import pickle",
        unrelated="import pickle",
    )
    names = {str(path.relative_to(tmp_path)) for path in source.sources("subject_a", tmp_path)}
    assert {"subject_a/__main__.py", "subject_a/inner/loop.py", "subject_a/other.py"} <= names
    assert "unrelated.py" not in names
    package(tmp_path, subject_a__SLASH__other="import helper_a")
    finding = static_scan.check("subject_a", tmp_path)
    assert "helper_a.py:1: imports pickle" in finding.message


def test_a_subject_that_is_one_module_is_followed_into_its_imports(tmp_path):
    package(tmp_path, single="import helper_b", helper_b="import marshal")
    assert not static_scan.check("single", tmp_path).passed


def test_a_subject_that_is_not_there_or_not_readable_is_no_pass(tmp_path):
    with pytest.raises(GateError, match="was not found"):
        static_scan.check("nowhere_at_all", tmp_path)
    package(tmp_path, torn="def f(:")
    with pytest.raises(GateError, match="cannot be parsed"):
        static_scan.check("torn", tmp_path)
    package(tmp_path, native__SLASH____init__="")
    (tmp_path / "native" / "core.so").write_bytes(b"\x7fELF")
    with pytest.raises(GateError, match="not Python source"):
        static_scan.check("native", tmp_path)


def test_an_installed_subject_is_scanned_and_an_installed_library_is_not(tmp_path, monkeypatch):
    paths = {**sysconfig.get_paths(), "purelib": str(tmp_path), "platlib": str(tmp_path)}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    package(
        tmp_path,
        installed__SLASH____init__="",
        installed__SLASH__inner="import pickle",
        installed_too="from installed import inner\nimport library",
        library="import pickle",
    )
    assert "inner.py:1: imports pickle" in static_scan.check("installed", tmp_path).message
    assert list(source.sources("installed_too", tmp_path)) == [tmp_path / "installed_too.py"]


def test_no_file_at_all_is_no_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(static_scan, "sources", lambda subject, root: iter([]))
    with pytest.raises(GateError, match="no source file"):
        static_scan.check("anything", tmp_path)


def test_a_package_without_init_is_found(tmp_path):
    package(
        tmp_path,
        bare__SLASH____main__="import bare.inner.deep",
        bare__SLASH__inner__SLASH__deep="import dill",
    )
    assert "imports dill" in static_scan.check("bare", tmp_path).message
    assert "imports dill" in static_scan.check("bare.inner", tmp_path).message


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG = artefacts.PNG_SIGNATURE + chunk(b"IHDR", b"\0" * 13) + chunk(b"IDAT", b"x") + chunk(b"IEND")
TENSORS = tensors.write({"E": np.ones(2, np.float32)})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("results.json", b'{"a": [1, 2.5, null]}'),
        ("train_log.jsonl", b'{"step": 1}\n{"step": 2}\n'),
        ("config.toml", b"steps = 3\n"),
        ("weights.safetensors", TENSORS),
        ("plot.png", PNG),
        ("flips.md", "| ¿verbo? | sí |\n".encode()),
    ],
)
def test_allowed_formats_are_allowed(name, data):
    assert artefacts.why_not(name, data) is None


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("state.json", b"\x80\x04K\x01.", "a pickle of protocol 4"),
        ("state.json", b"(dp0\n.", "a pickle of protocol 0"),
        ("notes.md", b"cposix\nsystem\np0\n.", "a pickle"),
        ("config.toml", b"cposix\nsystem\np0\n(Vls\ntR.", "a pickle"),
        ("state.json", b"I1\n.", "a pickle"),
        ("weights.safetensors", b"PK\x03\x04", "a zip archive"),
        ("plot.png", b"\x93NUMPY\x01\x00", "a NumPy file"),
        ("notes.md", b"\x1f\x8b\x08", "a gzip stream"),
        ("weights.pt", b"anything", "no allowed format"),
        ("weights", b"anything", "no allowed format"),
        ("a.json", b'{"a": NaN}', "NaN is not JSON"),
        ("a.json", b'{"a": 1, "a": 2}', "stands twice"),
        ("a.json", b"{", "not what its name says"),
        ("log.jsonl", b'{"step": 1}\n{"st', "torn"),
        ("log.jsonl", b"[1]\n", "no object"),
        ("c.toml", b"=", "not what its name says"),
        ("w.safetensors", TENSORS + b"!", "1 bytes after"),
        ("p.png", PNG + b"!", "nothing else"),
        ("p.png", PNG[:-1], "not what its name says"),
        ("p.png", PNG.replace(b"IDATx", b"IDATy"), "wrong checksum"),
        ("f.md", b"a\0b", "control characters"),
        ("f.md", b"\xff", "not what its name says"),
    ],
)
def test_everything_else_is_refused(name, data, says):
    assert says in str(artefacts.why_not(name, data))


def test_a_run_directory_with_nothing_in_it_or_with_a_link_is_refused(tmp_path):
    assert not artefacts.check(tmp_path).passed
    (tmp_path / "a.json").write_bytes(b"{}")
    assert artefacts.check(tmp_path).passed
    (tmp_path / "b.json").symlink_to(tmp_path / "a.json")
    assert "symbolic link" in artefacts.check(tmp_path).message


def test_a_link_to_a_directory_is_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "a.json").write_bytes(b"{}")
    (run / "more").symlink_to(tmp_path, target_is_directory=True)
    assert "more: a symbolic link" in artefacts.check(run).message


def test_text_of_this_repository_is_no_pickle():
    files = [
        file for place in ("docs", "impl", "gates") for file in (ROOT / place).rglob("*") if file.is_file()
    ]
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        *(f for f in files if f.suffix in {".md", ".py", ".json"}),
    ]
    assert texts
    assert [file for file in texts if artefacts.is_pickle(file.read_bytes())] == []


ATTEMPTS = {
    "pickle.loads": "import pickle\npickle.loads(b'K\\x01.')",
    "_pickle.loads": "import _pickle\n_pickle.loads(b'K\\x01.')",
    "pickle.Unpickler": "import io, pickle\npickle.Unpickler(io.BytesIO(b'K\\x01.')).load()",
    "pickle._Unpickler": "import io, pickle\npickle._Unpickler(io.BytesIO(b'K\\x01.')).load()",
    "numpy": "import numpy as np, io\nf = io.BytesIO()\nnp.save(f, np.array([{}], object))\nf.seek(0)\n"
    "np.load(f, allow_pickle=True)",
}


def run_guarded(directory: Path, code: str) -> tuple[subprocess.CompletedProcess[str], list[Report]]:
    variables = {**os.environ, **environment(directory)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=ROOT, capture_output=True, text=True
    )
    return done, read_reports(directory)


@pytest.mark.parametrize("code", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_the_guard_refuses_to_unpickle(tmp_path, code):
    done, reports = run_guarded(tmp_path, code)
    assert done.returncode == 1
    assert "unpickling is forbidden" in done.stderr
    assert len(reports) == 1
    assert reports[0].refused


STARTS = {
    "isolated": "import subprocess, sys\nsubprocess.run([sys.executable, '-I', '-c', '1'])",
    "shell": "import subprocess\nsubprocess.run('true', shell=True)",
    "named git": "import subprocess, sys\nsubprocess.run(['git', '-c', '1'], executable=sys.executable)",
    "git by a path": "import subprocess\nsubprocess.run(['./git', 'status'])",
    "git of another place": "import subprocess\nsubprocess.run(['git', 'status'], env={'PATH': '.'})",
    "git alias": "import subprocess\nsubprocess.run(['git', '-c', 'alias.x=!true', 'x'])",
    "exec": "import os, sys\nos.execv(sys.executable, ['python', '-I', '-c', '1'])",
    "spawn": "import os, sys\nos.posix_spawn(sys.executable, ['python', '-I', '-c', '1'], os.environ)",
    "system": "import os\nos.system('true')",
}


@pytest.mark.parametrize("code", STARTS.values(), ids=STARTS.keys())
def test_the_guard_refuses_to_start_a_program(tmp_path, code):
    done, reports = run_guarded(tmp_path, code)
    assert done.returncode == 1
    assert "starting a program is forbidden" in done.stderr
    assert [what.split()[0] for report in reports for what in report.refused] == ["starts"]
    finished = Finished("python", 1, "", "", 0.0)
    assert "another program: starts" in breaks(finished, reports).message


def test_the_guard_lets_git_and_uname_through(tmp_path):
    code = (
        "import platform, subprocess\nplatform.processor()\nsubprocess.run(['git', '--version'], check=True)"
    )
    done, reports = run_guarded(tmp_path, code)
    assert (done.returncode, done.stderr) == (0, "")
    assert reports == [Report({}, [])]


def test_the_guard_lets_cpuinfo_ask_the_processor(tmp_path):
    done, reports = run_guarded(
        tmp_path, "import cpuinfo, platform\ncpuinfo.get_cpu_info()\nplatform.architecture()"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [report.refused for report in reports if report.refused] == []


def test_the_guard_refuses_a_cpuinfo_that_it_would_not_be_in(tmp_path):
    start = "import os, subprocess, sys\nos.environ['PYTHONPATH'] = '.'\n"
    start += "subprocess.run([sys.executable, '-m', 'cpuinfo', '--internal-cpuid'])"
    done, reports = run_guarded(tmp_path, start)
    assert done.returncode == 1
    assert "starts" in reports[0].refused[0]


def test_the_guard_lets_everything_else_through(tmp_path):
    done, reports = run_guarded(tmp_path, "import pickle, json\npickle.dumps([1])\nprint(json.loads('1'))")
    assert (done.returncode, done.stdout.strip()) == (0, "1")
    assert reports == [Report({}, [])]


def test_the_guard_excepts_the_cache_of_numba_and_counts_it(tmp_path):
    code = (
        "import types, pickle\n"
        "cache = types.ModuleType('numba.core.caching')\n"
        "exec('import pickle, collections\\nx = pickle.loads(pickle.dumps(collections.OrderedDict))', vars(cache))"
    )
    done, reports = run_guarded(tmp_path, code)
    assert (done.returncode, done.stderr) == (0, "")
    assert reports == [Report({"numba.core.caching": 1}, [])]


def test_a_guard_that_was_not_there_is_no_pass(tmp_path):
    from gates.subject.run_directory import RunDirectory

    assert not works_without_unpickling(RunDirectory(tmp_path), []).passed
    (tmp_path / "1.json").write_text(
        json.dumps({"armed": True, "excepted": {}, "refused": ["x"]}), encoding="utf-8"
    )
    assert "unpickling: x" in works_without_unpickling(RunDirectory(tmp_path), read_reports(tmp_path)).message
