"""The console script: every command exists, and a user's mistake is a message, not a traceback."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys

import pytest

from streetrecall import cli
from streetrecall.commands import COMMANDS


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
