"""The files of a collection on this machine: what can be read, and what cannot, each with the reason.

Links are followed. Only regular files are opened, so a pipe or a device cannot stop a run.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from streetrecall.reading import not_a_file, open_regular

# Files and folders that file managers, archivers and network drives leave in a collection, in small letters. Names that
# begin with a dot are skipped too (.DS_Store, ._*, .git, .directory, .Trashes).
DROPPINGS = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini", "__macosx", "@eadir",
    "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip
MAX_BYTES = 1 << 28  # of a file; more than the largest picture or table that the pipeline takes


class UnreadableError(Exception):
    """A file cannot be read; the message says why."""


@dataclass(frozen=True)
class Found:
    """An entry of a collection. ``problem`` says why it cannot be read; it is empty for a regular file.

    ``path`` is below the collection's folder, with "/" between its parts. Bytes of a name that are not UTF-8 are lone
    surrogates in it; `printable` makes a path fit for messages and tables.
    """

    path: str
    problem: str
    status: os.stat_result | None = None  # of the target of a link; None if it cannot be known


def walk(root: Path, parts: Sequence[str] = (".",), refuse: Callable[[str], str] = lambda path: "") -> list[Found]:
    """All files in the folders (or files) ``parts`` below ``root``, sorted by path; a missing part is left out.

    A folder that can be reached in several ways is read once, if possible not through a link. This also ends loops. A
    link to a folder that contains the collection is not followed. What file managers leave is skipped.

    Args:
        refuse: says for the path of a folder why it is not to be read; the empty string for one that is to be read.
    """
    known = {
        _identity(above): "a folder that contains the collection" for part in parts for above in _above(root / part)
    }
    found: list[Found] = []
    folders: deque[str] = deque()
    links: deque[str] = deque()

    def look(path: str, link: bool = False) -> None:
        entry = _judge(root / path, path)
        if entry.problem or entry.status is None or not stat.S_ISDIR(entry.status.st_mode):
            found.append(entry)
        elif reason := refuse(path):
            found.append(Found(path, reason))
        else:
            (links if link else folders).append(path)

    for part in sorted(parts):
        if os.path.lexists(root / part):
            look(part)
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        try:
            identity = _identity(root / folder)
            if identity in known:
                found.append(Found(folder, known[identity]))
                continue
            known[identity] = f"a folder that is read already; it is {printable(folder)}"
            with os.scandir(root / folder) as listed:
                entries = sorted((os.fsencode(entry.name), entry.name, entry.is_symlink()) for entry in listed)
        except OSError as error:
            found.append(Found(folder, reason_of(error)))
            continue
        for _, name, link in entries:
            if not _is_dropping(name):
                look(name if folder == "." else f"{folder}/{name}", link)
    return sorted(found, key=lambda entry: os.fsencode(entry.path))


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading.

    Raises:
        UnreadableError: it cannot be opened, is no regular file, is too large, or fails while it is read.
    """
    try:
        with open_regular(path) as file:
            problem = _problem(os.fstat(file.fileno()))
            if problem:
                raise UnreadableError(problem)
            yield file
    except OSError as error:
        raise UnreadableError(reason_of(error)) from error


def reason_of(error: OSError) -> str:
    """Why the system could not read a file or folder."""
    if error.errno == errno.ELOOP:
        return "a link that leads in a circle"
    if error.errno == errno.EINVAL and error.strerror:  # what `open_regular` says of a pipe or a device
        return error.strerror
    return f"unreadable: {error.strerror or error}"


def printable(path: str) -> str:
    r"""``path`` with everything escaped that is not UTF-8 or that a terminal would not show as it is.

    >>> printable("caf\udce9/a\n\x1b[2J b.jpg")
    'caf\\xe9/a\\n\\x1b[2J b.jpg'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _judge(full: Path, path: str) -> Found:
    try:
        os.fsencode(path).decode("utf-8")
        status = full.stat()
    except UnicodeDecodeError:
        return Found(path, "its name is not UTF-8")
    except OSError as error:
        dangling = error.errno == errno.ENOENT and full.is_symlink()
        return Found(path, "a link to nothing" if dangling else reason_of(error))
    return Found(path, "" if stat.S_ISDIR(status.st_mode) else _problem(status), status)


def _problem(status: os.stat_result) -> str:
    """Why what has this status is not read as a file; empty if it is."""
    other = not_a_file(status)
    if other:
        return other
    return f"larger than {MAX_BYTES >> 20} MB" if status.st_size > MAX_BYTES else ""


def _is_dropping(name: str) -> bool:
    return name.startswith(".") or name.lower() in DROPPINGS


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _above(folder: Path) -> Sequence[Path]:
    try:
        return folder.resolve().parents
    except (OSError, RuntimeError):  # a link that leads in a circle
        return ()
