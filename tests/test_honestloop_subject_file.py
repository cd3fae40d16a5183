"""What a subject says about itself in a file, found beside its module and never imported."""

import pytest

from honestloop.protocol import ProtocolError
from honestloop.subject_file import expected_of

EXPECTED = '[expected]\nUPDATE-04 = "counts from 0"\n'
IN_PYPROJECT = '[tool.honestloop.expected]\nUPDATE-04 = "counts from 0"\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a package and a module that must not be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / f"package_{tmp_path.name.replace('-', '_')}"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    return tmp_path, package


@pytest.mark.parametrize(
    ("place", "name", "text"),
    [
        ("package", "subject.toml", EXPECTED),
        ("root", "subject.toml", EXPECTED),
        ("root", "pyproject.toml", IN_PYPROJECT),
    ],
)
def test_it_is_found_beside_the_package_or_in_it(place, name, text, project):
    root, package = project
    ({"package": package, "root": root}[place] / name).write_text(text)
    assert expected_of(package.name) == {"UPDATE-04": "counts from 0"}
    assert expected_of(f"{package.name}.loop") == {"UPDATE-04": "counts from 0"}


def test_it_is_found_beside_a_module(project):
    root, _ = project
    module = f"module_{root.name.replace('-', '_')}"
    (root / f"{module}.py").write_text("raise RuntimeError('imported')\n")
    (root / "subject.toml").write_text(EXPECTED)
    assert expected_of(module) == {"UPDATE-04": "counts from 0"}


def test_without_a_file_nothing_is_declared(project):
    assert expected_of(project[1].name) == {}
    assert expected_of("no_such_module_anywhere") == {}
    (project[0] / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert expected_of(project[1].name) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[expected", "not valid TOML"),
        ("[expcted]\n", "unknown table 'expcted'; there is expected"),
        ('[expected]\nUPDATE-99 = "why"\n', "EXPECTED names 'UPDATE-99', which is no rule"),
        ('[expected]\nUPDATE-04 = ""\n', r"EXPECTED\['UPDATE-04'\] needs a reason"),
        ('expected = "all"\n', "EXPECTED is of type str"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(text, said, project):
    (project[0] / "subject.toml").write_text(text)
    with pytest.raises(ProtocolError, match=f"subject.toml: {said}") as caught:
        expected_of(project[1].name)
    assert "\n" not in str(caught.value)
