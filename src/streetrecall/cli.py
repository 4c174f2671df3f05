"""The console script: `streetrecall COMMAND`. Stages are commands too; dvc.yaml calls them with their paths.

A command is a module with ``configure(parser)`` and ``main(args) -> int | None``, imported only when it is called.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence

from streetrecall import __version__
from streetrecall.cluster import ADDRESS
from streetrecall.commands import CLUSTERED, COMMANDS
from streetrecall.errors import UserError

# What the machine refuses, and what to do; any other OSError is a fault of ours and keeps its traceback.
REFUSALS = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EFBIG: "write to a disk that takes larger files, or raise the limit (ulimit -f),",
    errno.EROFS: "that disk can only be read; choose another folder",
    errno.EACCES: "let this user read and write there",
    errno.EPERM: "let this user read and write there",
    errno.EIO: "check that disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "part of this path is a file; name another path",
    errno.EEXIST: "there is a file where a folder is needed; name another path",
    errno.EISDIR: "this is a folder; name a file",
    errno.ELOOP: "remove the links that lead in a circle",
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streetrecall", description="Recognise a place of a city across years and seasons."
    )
    parser.add_argument("--version", action="version", version=f"streetrecall {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--params", default="params.yaml", help="parameter file (%(default)s)")
        if name in CLUSTERED:
            sub.add_argument(
                "--cluster",
                metavar="ADDRESS",
                help=f"give the work to the Dask cluster with this scheduler, tcp://HOST:8786 (default: {ADDRESS})",
            )
        if name == command:
            importlib.import_module(module).configure(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in argv if not a.startswith("-")), None)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        args = build_parser(command).parse_args(argv)
        if getattr(args, "cluster", None):
            os.environ[ADDRESS] = args.cluster
        status: int = importlib.import_module(COMMANDS[args.command][0]).main(args) or 0
        sys.stdout.flush()  # here, where a closed pipe can be told from a fault
        return status
    except UserError as error:
        print(f"streetrecall {command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python flushes once more when it ends, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (OSError, sqlite3.OperationalError) as error:
        advice = refusal(error)
        if advice is None:
            raise
        print(f"streetrecall {command}: {advice}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not missing_extra(error):
            raise
        print(f"streetrecall {command}: {missing_extra(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"streetrecall {command}: interrupted; run it again to continue", file=sys.stderr)
        return 130


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """What to tell a person who runs a stage without the packages that stages need; None if it is our own module.

    >>> missing_extra(ModuleNotFoundError("No module named 'pandas'", name="pandas"))
    "this command needs the package 'pandas', which is in an extra: pip install 'streetrecall[pipeline]'"
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "streetrecall"):
        return None
    return f"this command needs the package '{package}', which is in an extra: pip install 'streetrecall[pipeline]'"


def refusal(error: BaseException) -> str | None:
    """What to tell a person of an error that the machine made (a full disk, no permission); None for any other.

    >>> refusal(OSError(errno.ENOSPC, "No space left on device", "data/grid.parquet"))
    'data/grid.parquet: No space left on device; free some space on that disk and run it again'
    >>> refusal(FileNotFoundError(errno.ENOENT, "No such file or directory", "a")) is None
    True
    """
    if isinstance(error, sqlite3.OperationalError):
        store = os.environ.get("STREETRECALL_STORE") or "the user's cache folder"
        return f"the ledger in {store}: {error}; see that its disk has space and can be written, then run it again"
    if not isinstance(error, OSError) or error.errno not in REFUSALS:
        return None
    name = str(error.filename or "")
    where = f"{name if len(name) <= 300 else f'{name[:297]}...'}: " if name else ""
    return f"{where}{os.strerror(error.errno)}; {REFUSALS[error.errno]} and run it again"


if __name__ == "__main__":
    sys.exit(main())
