"""The closure of a module holds every file of the package that runs when the module is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streetrecall.imports import PACKAGE, closure, code_digest

LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*(m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "streetrecall"), sep="\\n")
"""


@pytest.mark.parametrize("module", ["retrieval.index", "stages.evaluate", "stages.index"])
def test_it_holds_every_file_that_an_import_loads(module: str) -> None:
    name = f"streetrecall.{module}"
    done = subprocess.run([sys.executable, "-c", LOADED, name], check=True, capture_output=True, text=True, timeout=120)
    loaded = {Path(line) for line in done.stdout.split()}
    assert loaded <= set(closure(name))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of five modules in place of this one."""
    home = tmp_path / "streetrecall"
    for name, source in {
        "__init__.py": "",
        "a.py": "import numpy\nfrom streetrecall.room import b\n",
        "room/__init__.py": "",
        "room/b.py": "def f():\n    try:\n        import streetrecall.c\n    finally:\n        pass\n",
        "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from streetrecall import d\n",
        "d.py": "from streetrecall.a import x\n",
    }.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(source)
    monkeypatch.setattr("streetrecall.imports.PACKAGE", home)
    return home


def test_imports_in_functions_count_and_those_for_types_do_not(package: Path) -> None:
    found = [path.relative_to(package).as_posix() for path in closure("streetrecall.a")]
    assert found == ["__init__.py", "a.py", "c.py", "room/__init__.py", "room/b.py"]
    assert "a.py" in {path.name for path in closure("streetrecall.d")}
    with pytest.raises(ValueError, match=r"no module streetrecall\.none"):
        closure("streetrecall.none")


def test_the_digest_changes_with_each_file_of_the_closure_and_with_no_other(package: Path) -> None:
    before = code_digest("streetrecall.a")
    assert code_digest("streetrecall.a") == before
    for path in package.rglob("*.py"):
        source = path.read_text()
        path.write_text(f"{source}#")
        assert (code_digest("streetrecall.a") != before) == (path.name != "d.py")
        path.write_text(source)


def test_the_package_is_this_one() -> None:
    assert PACKAGE.name == "streetrecall"
    assert (PACKAGE / "cli.py").is_file()
