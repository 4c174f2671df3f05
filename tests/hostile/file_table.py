"""A table of hostile files and names in a collection. A new case is a new line.

Each line says what is put in the place of a picture, what becomes of it and what the reason says. ``failed``: a planned
picture whose file cannot be read. ``left_out``: a file that is not used. ``ok``: a picture. ``""``: it is ignored.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from picture_table import PNG, REFUSED

NAME = "0_1_0_March 2023_2024-01-06 19:02:10.773088.jpg"  # of a picture of place 0
CONTENT = b"\xff\xd8\xff, whatever"


def link(to: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(to)


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def pipe_elsewhere(path: Path) -> None:
    os.mkfifo(path.parents[5] / "pipe")
    path.symlink_to(path.parents[5] / "pipe")


def listening(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:  # the path of a socket may have 107 bytes
        server.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def folder_with(name: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / name).write_bytes(CONTENT)

    return make


def elsewhere(path: Path) -> None:
    """A folder that two links lead to."""
    target = path.parents[5] / "elsewhere"
    target.mkdir()
    (target / "notes.txt").write_bytes(CONTENT)
    path.symlink_to(target)
    path.with_name("zweitens").symlink_to(target)


# name -> the file's name, what makes it, what becomes of it, the reason, the name in the metrics if it is another one
FILES: dict[str, tuple[str | bytes, Callable[[Path], object], str, str, str]] = {
    "dangling link": (NAME, link("nowhere"), "failed", "a link to nothing", ""),
    "link to itself": (NAME, link(NAME), "failed", "in a circle", ""),
    "pipe": (NAME, os.mkfifo, "failed", "a pipe", ""),
    "link to a pipe": (NAME, pipe_elsewhere, "failed", "a pipe", ""),
    "socket": (NAME, listening, "failed", "a socket", ""),
    "link to a device": (NAME, link("/dev/zero"), "failed", "a device", ""),
    "terabyte of zeros": (NAME, sparse, "failed", "larger than 256 MB", ""),
    "folder": (NAME, folder_with("a.txt"), "failed", "a folder, not a picture", ""),
    "folder with pictures": (NAME, folder_with(NAME), "failed", "a folder, not a picture", ""),
    "folder, another name": ("a.JPG", folder_with(NAME), "left_out", "a folder, not a picture", ""),
    "empty": (NAME, content(b""), "failed", "empty file", ""),
    "WebP within .jpg": (NAME, content(REFUSED["WebP"][0]()), "failed", r"\(WebP\)", ""),
    "pointer of Git LFS": (NAME, content(REFUSED["a pointer of Git LFS"][0]()), "failed", "git lfs pull", ""),
    "PNG within .jpg": (NAME, content(PNG), "ok", "", ""),
    "JPEG within .png": (NAME.replace("jpg", "PNG"), content(REFUSED["half a JPEG"][0]()), "failed", "truncated", ""),
    "dangling link, another name": ("a.jpg", link("nowhere"), "left_out", "a link to nothing", ""),
    "pipe, another name": ("notes", os.mkfifo, "left_out", "a pipe", ""),
    "name that is not UTF-8": (
        os.fsencode(NAME)[:-4] + b"\xe9.jpg", content(PNG), "left_out", "not UTF-8", r"\xe9.jpg",
    ),
    "time that is not UTF-8": (
        os.fsencode(NAME).replace(b":", b"\xff", 1), content(PNG), "left_out", "not UTF-8", r" 19\xff02:10.773088.jpg",
    ),
    "folder whose name is not UTF-8": (b"caf\xe9", folder_with(NAME), "left_out", "not UTF-8", r"caf\xe9"),
    "name with an escape": ("\x1b[2J\n.jpg", content(PNG), "left_out", "cannot be printed", r"/\x1b[2J\n.jpg"),
    "name that turns what follows": ("a\u202egpj.b", content(PNG), "left_out", "cannot be printed", r"/a\u202egpj.b"),
    "time with an escape": (
        NAME.replace(":", "\x1b", 1), content(PNG), "left_out", "cannot be printed", r" 19\x1b02:10.773088.jpg",
    ),
    "no month": (NAME.replace("March", "Sep"), content(PNG), "left_out", "its name is not complete", ""),
    "underscores for blanks": (NAME.replace(" ", "_"), content(PNG), "left_out", "its name is not complete", ""),
    "another suffix": (NAME.replace("jpg", "webp"), content(PNG), "left_out", r"only \.jpg", ""),
    "no suffix": (NAME[:-4], content(PNG), "left_out", r"only \.jpg", ""),
    "unknown place": ("9" + NAME[1:], content(PNG), "left_out", "its place is unknown; place 9", ""),
    "link to the folder above": ("a", link(".."), "left_out", "read already", ""),
    "link to this folder": ("a", link("."), "left_out", "read already", ""),
    "link to the collection": ("a", link("../../../.."), "left_out", "contains the collection", ""),
    "link to everything": ("a", link("/"), "left_out", "contains the collection", ""),
    "two links to a folder": ("erstens", elsewhere, "left_out", "read already; it is .*erstens", "zweitens"),
    ".DS_Store": (".DS_Store", content(CONTENT), "", "", ""),
    "macOS's second half of a file": ("._" + NAME, content(CONTENT), "", "", ""),
    "Thumbs.db": ("Thumbs.db", content(CONTENT), "", "", ""),
    "desktop.ini": ("Desktop.ini", content(CONTENT), "", "", ""),
    ".directory": (".directory", content(CONTENT), "", "", ""),
    "Synology's thumbnails": ("@eaDir", folder_with(NAME), "", "", ""),
    "macOS's folder in a ZIP": ("__MACOSX", folder_with(NAME), "", "", ""),
    "git": (".git", folder_with(NAME), "", "", ""),
    "pipe of git": (".git", os.mkfifo, "", "", ""),
}  # fmt: skip
