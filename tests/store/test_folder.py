"""Where the store lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from streetrecall.errors import UserError
from streetrecall.store.folder import store_folder


def test_an_absolute_path_or_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path))
    assert store_folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STREETRECALL_STORE", "~/store")
    assert store_folder() == tmp_path / "store"
    monkeypatch.delenv("STREETRECALL_STORE")
    assert store_folder().is_absolute()


@pytest.mark.parametrize("named", ["store", "./store", "../store", "a b"])
def test_a_relative_path_is_refused(named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An experiment in a copy of the project would make it in the copy, and delete it with the copy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREETRECALL_STORE", named)
    with pytest.raises(UserError, match=f"STREETRECALL_STORE={named}: not an absolute path; set it to {tmp_path}"):
        store_folder()


def test_the_home_folder_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREETRECALL_STORE", "~no-such-user/store")
    with pytest.raises(UserError, match="there is no such user"):
        store_folder()
