"""Regular files are opened, also through links, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from streetrecall.reading import open_regular


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "a pipe, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "a device, not a file"),
        (Path.mkdir, "a folder, not a file"),
        (lambda path: path.symlink_to("nothing"), "No such file or directory"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_regular_file_is_not_opened(make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    make(tmp_path / "a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match=reason), open_regular(tmp_path / "a"):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_regular_file_is_opened_through_a_link_and_closed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    assert file.closed and len(list(Path("/proc/self/fd").iterdir())) == before
