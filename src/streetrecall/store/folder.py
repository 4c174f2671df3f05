"""Where the store lies: what providers answered, and caches of training."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from streetrecall.errors import UserError


def store_folder() -> Path:
    """``STREETRECALL_STORE``, or this user's cache folder.

    Raises:
        UserError: the variable holds a relative path. A stage may run in a copy of the project (`dvc exp run --temp`),
            where it would name another folder, which is deleted with the copy. Or it begins with the home folder of a
            user that this machine does not know.
    """
    named = os.environ.get("STREETRECALL_STORE")
    if not named:
        return Path(platformdirs.user_cache_dir("streetrecall"))
    try:
        folder = Path(named).expanduser()
    except RuntimeError as error:
        raise UserError(f"STREETRECALL_STORE={named}: there is no such user; write the path without '~'") from error
    if not folder.is_absolute():
        raise UserError(f"STREETRECALL_STORE={named}: not an absolute path; set it to {folder.absolute()} for example")
    return folder
