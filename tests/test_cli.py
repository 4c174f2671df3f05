"""The console script: every command exists, and a user's mistake is a message, not a traceback."""

from __future__ import annotations

import importlib

import pytest

from streetrecall import cli


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert "usage: streetrecall" in capsys.readouterr().out
    assert hasattr(importlib.import_module(cli.COMMANDS[command][0]), "main")


def test_a_users_mistake_is_one_message(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["order", "--params", "nowhere.yaml", "--panoramas", "a", "--locations", "b", "--metrics", "c"])
    assert code == 2
    message = capsys.readouterr().err
    assert message.startswith("streetrecall order: nowhere.yaml: there is no such file")
    assert "Traceback" not in message
