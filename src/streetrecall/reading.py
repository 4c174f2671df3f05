"""Open regular files, and nothing that would wait for a writer or never end."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}


def not_a_file(status: os.stat_result) -> str:
    """What has this status if it is no regular file, such as "a pipe, not a file"; empty for a regular file.

    >>> not_a_file(os.stat("/dev/null")), not_a_file(os.stat(__file__))
    ('a device, not a file', '')
    """
    if stat.S_ISREG(status.st_mode):
        return ""
    return f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'a device')}, not a file"


@contextmanager
def open_regular(path: str | Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading. Links are followed.

    A pipe would wait for a writer, and a device may never end, so nothing else is opened.

    Raises:
        FileNotFoundError: there is no such file, or it is a link to nothing.
        OSError: it is no regular file, as ``strerror`` says, or it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        problem = not_a_file(os.fstat(descriptor))
        if problem:
            raise OSError(errno.EINVAL, problem, str(path))
        file = os.fdopen(descriptor, "rb", closefd=False)
        with file:
            yield file
    finally:
        os.close(descriptor)
