"""Run the commands git and DVC: one place for their folder, their output and their errors."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

from streetrecall.errors import UserError

DVC = (sys.executable, "-m", "dvc")  # of this environment, whatever PATH says

_OWNER = "another user owns this folder; if you trust it, run: git config --global --add safe.directory {root}"

# What to do about an answer, by a part of it. Git is run in the locale C, so that it answers in English.
ADVICE = {
    "dubious ownership": _OWNER,
    "not owned by current user": _OWNER,
    "not a git repository": "this folder is no clone (a ZIP download is none): get the project with git clone",
}


def advice(words: str, root: Path) -> str:
    """``words`` of git or DVC, followed by what to do where the cause is known.

    >>> advice("fatal: not a git repository", Path("here")).splitlines()[1]
    'this folder is no clone (a ZIP download is none): get the project with git clone'
    """
    known = next((text for part, text in ADVICE.items() if part in words), "")
    return f"{words}\n{known.format(root=root.resolve())}" if known else words


class GitError(UserError):
    """Git refused; ``words`` are its own, ``code`` is its exit code (1 often means no more than "no")."""

    def __init__(self, root: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
        self.code, self.words = code, words or f"failed with exit code {code}"
        super().__init__(f"git {' '.join(arguments)}: {advice(self.words, root)}")


def git(root: Path, *arguments: str) -> str:
    """The output of a git command in the folder ``root``.

    Raises:
        GitError: git refused. Its own words are part of the message, with advice where the cause is known.
        UserError: there is no git on this machine.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, env=os.environ | {"LC_ALL": "C"}, check=False
        )
    except FileNotFoundError as error:
        raise UserError("git: there is no such command; install git") from error
    if done.returncode:
        raise GitError(root, arguments, done.returncode, done.stderr.decode("utf-8", "replace").strip())
    return done.stdout.decode("utf-8", "surrogateescape")


def dvc(root: Path, *arguments: str) -> str:
    """The output of a DVC command in the folder ``root``.

    Raises:
        UserError: DVC refused; its own words are part of the message.
    """
    done = subprocess.run([*DVC, *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip() or f"failed with exit code {done.returncode}"
        raise UserError(f"dvc {' '.join(arguments)}: {advice(words, root)}")
    return done.stdout


def watch(command: list[str], root: Path) -> int:
    """Run ``command`` in the folder ``root``, copy its output to stderr as it appears, and return its exit code.

    Workers of DVC's queue inherit the output of the command that starts them, and one of them sometimes stays alive
    after that command has ended. The copy ends with the command, so such a worker delays nobody.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=root, env=unbuffered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        os.set_blocking(pipe, False)
        ended = False
        while not ended:
            ended = process.poll() is not None  # before the last read, so that no output is lost
            select.select([pipe], [], [], 0 if ended else 0.1)
            with contextlib.suppress(BlockingIOError):
                while output := os.read(pipe, 65536):
                    sys.stderr.write(decoder.decode(output))
                    sys.stderr.flush()
                process.wait()  # the pipe is closed: nothing more can come
                break
    return process.returncode
