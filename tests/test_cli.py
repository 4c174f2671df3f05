"""The console script: every command exists, and a user's mistake is a message, not a traceback."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streetrecall import cli
from streetrecall.cluster import ADDRESS
from streetrecall.commands import CLUSTERED, COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert "usage: streetrecall" in capsys.readouterr().out
    assert hasattr(importlib.import_module(COMMANDS[command][0]), "main")


def test_a_users_mistake_is_one_message(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["order", "--params", "nowhere.yaml", "--panoramas", "a", "--locations", "b", "--metrics", "c"])
    assert code == 2
    message = capsys.readouterr().err
    assert message.startswith("streetrecall order: nowhere.yaml: there is no such file")
    assert "Traceback" not in message


def test_the_option_names_the_cluster_for_each_command_that_can_use_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ADDRESS, "tcp://other:1")
    for command in CLUSTERED:
        seen: list[str] = []
        module = importlib.import_module(COMMANDS[command][0])
        monkeypatch.setattr(module, "configure", lambda parser: None)
        monkeypatch.setattr(module, "main", lambda args, seen=seen: seen.append(os.environ[ADDRESS]))
        assert cli.main([command]) == 0
        assert cli.main([command, "--cluster", f"tcp://{command}:8786"]) == 0
        assert seen == ["tcp://other:1", f"tcp://{command}:8786"]
        monkeypatch.setenv(ADDRESS, "tcp://other:1")
    with pytest.raises(SystemExit):
        cli.main(["order", "--cluster", "tcp://host:8786"])


ROOT = Path(__file__).parents[1]
LONG = "/".join("x" * 50 for _ in range(100))
GRID = ["grid", "--cities", "cities", "--plot", "new/grid.png", "--metrics", "new/grid.json", "--grid"]
# Changes of params.yaml, a command, and what it says.
PATHS = {
    "a folder that is a file": ([], [*GRID, "file/grid.parquet"], "file: File exists; there is a file where a folder"),
    "a folder below a file": ([], [*GRID, "file/a/grid.parquet"], "file/a: Not a directory; part of this path"),
    "an output that is a folder": ([], [*GRID, "folder"], "folder: Is a directory; this is a folder"),
    "an archive's long path": (
        ["provider=archive", f"archive.path={LONG}", "city.name=auto"],
        [*GRID, "g"],
        "x...: File name too long",
    ),
    "a folder's long path": (
        ["provider=folder", f"folder.path={LONG}", "city.name=auto"],
        [*GRID, "g"],
        "x...: File name too long",
    ),
    "a city's long name": ([f"city.name={'x' * 300}"], [*GRID, "g"], "x...: File name too long; choose a shorter"),
    "a city that is a link to nothing": (
        ["city.name=dangling"],
        [*GRID, "g"],
        "city.name: cities/dangling.geojson is a link to gone.geojson, which leads nowhere",
    ),
    "a city that is a pipe": (["city.name=pipe"], [*GRID, "g"], "pipe.geojson: is not a regular file"),
    "streets that are a pipe": (
        ["grid.kind=streets"],
        [*GRID, "g"],
        "stockholm-district.geojson: cannot be read (a pipe, not a file)",
    ),
    "a table that is a pipe": (
        [],
        ["order", "--panoramas", "pipe", "--locations", "b", "--metrics", "c"],
        "pipe: not a regular file; name the table 'panoramas'",
    ),
    "a table that is a folder": (
        [],
        ["order", "--panoramas", "folder", "--locations", "b", "--metrics", "c"],
        "folder: not a regular file; name the table 'panoramas'",
    ),
    "parameters that are a pipe": ([], ["order", "--params", "pipe"], "pipe: cannot be read (a pipe, not a file)"),
    "parameters that are a folder": (
        [],
        ["order", "--params", "folder"],
        "folder: cannot be read (a folder, not a file)",
    ),
    "parameters nested deeply": ([], ["order", "--params", "deep"], "deep: not valid YAML"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", PATHS)
def test_a_path_that_cannot_be_used_is_one_message(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, command, words = PATHS[case]
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", ".")
    shutil.copytree(ROOT / "data/cities", "cities", dirs_exist_ok=True)
    for pipe in ("pipe", "cities/pipe.geojson", "cities/streets/simulated-stockholm-district.geojson"):
        Path(pipe).parent.mkdir(exist_ok=True)
        Path(pipe).unlink(missing_ok=True)
        os.mkfifo(pipe)
    Path("cities/dangling.geojson").symlink_to("gone.geojson")
    Path("folder").mkdir()
    Path("file").write_text("")
    Path("deep").write_text("a: " + "[" * 3000 + "]" * 3000)
    if command[0] == "order" and "--params" in command:
        command = [*command, "--panoramas", "a", "--locations", "b", "--metrics", "c"]
    if changes or command[0] == "grid":
        city = [] if any(change.startswith("city.name") for change in changes) else ["city.name=stockholm-district"]
        assert cli.main(["set", *city, *changes]) == 0
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"streetrecall {command[0]}: ")
    assert words in said
    assert len(said) < 1000


@pytest.mark.skipif(platform.machine() != "x86_64", reason="OpenBLAS's kernels are chosen on x86-64 alone")
@pytest.mark.parametrize("given", [None, "Zen"])
def test_numpys_kernels_are_those_of_one_processor_unless_the_user_says_so(given: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    environment |= {} if given is None else {"OPENBLAS_CORETYPE": given}
    seen = "import streetrecall, sys, os; assert 'numpy' not in sys.modules; print(os.environ['OPENBLAS_CORETYPE'])"
    done = subprocess.run([sys.executable, "-c", seen], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == (given or "Haswell")


def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    loud = (
        "import sys, types; from streetrecall import cli; loud = types.ModuleType('loud'); sys.modules['loud'] = loud; "
        "loud.configure = lambda parser: None; loud.main = lambda args: print('line\\n' * 200_000); "
        "cli.COMMANDS['loud'] = ('loud', ''); sys.exit(cli.main(['loud']))"
    )
    piped = ["bash", "-o", "pipefail", "-c", '"$0" -c "$1" | head -1', sys.executable, loud]
    done = subprocess.run(piped, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("line\n", "")
    assert done.returncode == 141  # as of a program that SIGPIPE ended
