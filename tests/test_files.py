"""Folders that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from streetrecall.files import fresh_folders

NAMES = ("shared/test", "local")


def _content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_folders_are_replaced_when_the_block_ends(tmp_path: Path) -> None:
    for word in ("old", "new"):
        with fresh_folders(tmp_path / "data", NAMES) as fresh:
            for name in NAMES:
                assert list((fresh / name).iterdir()) == []
                (fresh / name / word).write_text(word)
    assert _content(tmp_path) == {"data/shared/test/new": "new", "data/local/new": "new"}
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["local", "shared"]


def test_after_an_exception_everything_is_as_before_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with fresh_folders(tmp_path, NAMES) as fresh:
        (fresh / "local" / "kept").write_text("old")
    (tmp_path / ".new-1").mkdir()  # of a process that was killed
    with pytest.raises(OSError, match="disk is full"), fresh_folders(tmp_path, NAMES) as fresh:
        (fresh / "local" / "half").write_text("new")
        raise OSError("the disk is full")
    assert _content(tmp_path) == {"local/kept": "old"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["local", "shared"]
