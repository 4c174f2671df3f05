"""Files that appear whole or not at all: written under another name beside the target, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError


@contextmanager
def naming(path: str | Path, partial: Path | None = None) -> Iterator[None]:
    """Let an error of the machine in the block, such as a full disk, name ``path`` if it names no file itself.

    Errors of a write carry no name, and PyArrow's have a text of their own. ``partial`` is a name that ``path`` has
    while it is written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(partial)):
            error.filename, error.filename2, error.strerror = str(path), None, os.strerror(error.errno)
        raise


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the block ends well; otherwise ``path`` stays what it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")  # some writers go by the suffix
    try:
        with naming(path, partial):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def fresh_folders(parent: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """A temporary folder below ``parent`` with new, empty folders ``names`` (such as ``shared/test``) to write to.

    When the block ends without an exception, each of them replaces the folder of that name below ``parent``. After an
    exception the folders below ``parent`` are as they were. The temporary folder is removed in both cases, and so are
    those of processes that were killed. Only one process at a time may use a ``parent``.
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(".new-*"):
        shutil.rmtree(leftover)
    temporary = parent / f".new-{os.getpid()}"
    try:
        fresh, replaced = temporary / "fresh", temporary / "replaced"
        for name in names:
            (fresh / name).mkdir(parents=True)
        with naming(parent):
            yield fresh
        for name in names:
            for folder in (parent / name, replaced / name):
                folder.parent.mkdir(parents=True, exist_ok=True)
            if (parent / name).exists():
                (parent / name).replace(replaced / name)
            (fresh / name).replace(parent / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_in_project(*outputs: Path) -> None:
    """Make sure that no link leads the output folders of a stage out of the project.

    DVC refuses such an output, but only after the stage has done all its work.

    Raises:
        UserError: a link does; the message says what to do instead.
    """
    here = Path.cwd()
    project = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    for output in outputs:
        below = Path(os.path.normpath(here / output))
        if project is None or not below.is_relative_to(
            here
        ):  # DVC looks only at projects in git, and below their folder
            continue
        ways = [below, *below.parents][: len(below.relative_to(here).parts)]
        for way in reversed(ways):
            if way.is_symlink() and not way.resolve().is_relative_to(project.resolve()):
                raise UserError(
                    f"{way.relative_to(here)}: a link to {way.resolve()}, outside of the project. DVC takes no outputs "
                    "from there. To keep them on another disk, replace the link by a folder and let DVC keep its cache "
                    "there: dvc config --local cache.dir FOLDER && dvc config --local cache.type symlink. Or move the "
                    "whole project to that disk"
                )


def write_text(path: str | Path, text: str) -> None:
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Sorted keys and a newline at the end, so that the same content is the same file; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def write_array(path: str | Path, array: NDArray) -> None:
    """In NumPy's own format (.npy)."""
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array)
