"""Photos out of an upload: at most so many, so large and with so many pixels, and of a type told by their content."""

from __future__ import annotations

import io
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from streetrecall.serve.guard import Limits
from streetrecall.serve.problems import ProblemError

FIELD = "photos"
FORMATS = ("JPEG", "PNG", "WEBP")  # as Pillow names them
ACCEPTED = "JPEG, PNG, WebP and HEIC"
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


@dataclass(frozen=True)
class Photo:
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
                HTTPStatus.CONTENT_TOO_LARGE,
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


def check(photo: Photo, limits: Limits) -> None:
    """See by its first bytes that a photo is one, and not too large to decode.

    Raises:
        ProblemError: it is not.
    """
    if not photo.data:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "The photo is empty (0 bytes).", file=photo.name)
    if photo.data[4:8] == b"ftyp" and photo.data[8:12] in _HEIF:
        return  # its size is looked at where it is decoded
    try:
        with Image.open(io.BytesIO(photo.data), formats=FORMATS) as picture:
            width, height = picture.size
    except UnidentifiedImageError as error:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"This is no photo; {ACCEPTED} are taken.", file=photo.name
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many(photo, limits) from error
    except Exception as error:  # decoders of damaged files raise almost anything
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "The photo is damaged and cannot be read.", file=photo.name
        ) from error
    if width * height > limits.pixels:
        raise _too_many(photo, limits, width, height)


def _too_many(photo: Photo, limits: Limits, width: int = 0, height: int = 0) -> ProblemError:
    has = f"{width} x {height} pixels" if width else "too many pixels"
    return ProblemError(
        HTTPStatus.CONTENT_TOO_LARGE,
        f"The photo has {has}; at most {limits.pixels / 1e6:g} megapixels are taken.",
        file=photo.name,
    )
