"""Photos out of an upload: at most so many and so large. Their format is recognised by content, later."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from streetrecall.serve.guard import Limits
from streetrecall.serve.problems import ProblemError

FIELD = "photos"


@dataclass(frozen=True)
class Upload:
    """An uploaded photo; ``name`` is what the client calls it, and is only shown."""

    name: str
    data: bytes


async def receive(request: Request, limits: Limits) -> list[UploadFile]:
    """The files of a multipart request. They are on disk where they are large; nothing is decoded yet.

    Raises:
        ProblemError: it is no such request, or it has no files, too many or too large ones.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Send photos as multipart/form-data, in the field '{FIELD}'."
        )
    try:
        form = await request.form(max_files=limits.files, max_fields=8, max_part_size=1000)
    except ProblemError:
        raise
    except (MultiPartException, HTTPException, ValueError, KeyError) as error:
        words = getattr(error, "detail", None) or getattr(error, "message", None) or "it is not well formed"
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"The upload cannot be read: {words} At most {limits.files} photos are taken at once.",
        ) from error
    files = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
    if not files:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"The upload has no photo in the field '{FIELD}'.")
    for file in files:
        if (file.size or 0) > limits.file_bytes:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The photo has {(file.size or 0) / 1e6:.1f} MB; at most {limits.file_bytes / 1e6:g} MB are taken.",
                file=shown(file.filename),
            )
    return files


def shown(name: str | None) -> str:
    """The client's name of a file, short and printable.

    >>> shown("../a\\x00b.jpg"), shown(None)
    ('../ab.jpg', 'photo')
    """
    return "".join(c for c in name or "" if c.isprintable())[:80] or "photo"
