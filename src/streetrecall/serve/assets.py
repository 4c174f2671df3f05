"""The files of the page. All are read at the start, so that no path of a request reaches the file system."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fastapi import Request, Response

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
FRESH = "private, no-cache"  # kept by the client, and asked for again each time
LASTING = "private, max-age=31536000, immutable"
LEAST_TO_COMPRESS = 1000  # bytes


@dataclass(frozen=True)
class Asset:
    """A text, plain and compressed."""

    plain: bytes
    packed: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Asset:
        packed = gzip.compress(content, 6, mtime=0) if len(content) >= LEAST_TO_COMPRESS else b""
        return cls(content, packed, media_type, hashlib.sha256(content).hexdigest()[:24])

    @classmethod
    def json(cls, content: Any) -> Asset:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return cls.of(text.encode("utf-8", "replace"), "application/json")

    def answer(self, request: Request, cache: str) -> Response:
        """The text, compressed where the client takes that; 304 where it has the text already."""
        headers = {"cache-control": cache, "etag": f'"{self.tag}"', "vary": "Accept-Encoding"}
        if unchanged(request, self.tag):
            return Response(None, 304, headers)
        takes = [part.partition(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")]
        if self.packed and "gzip" in takes:
            return Response(self.packed, 200, headers | {"content-encoding": "gzip"}, self.media_type)
        return Response(self.plain, 200, headers, self.media_type)


def unchanged(request: Request, tag: str) -> bool:
    """Whether the client has the version ``tag`` already."""
    given = request.headers.get("if-none-match", "")
    return any(part.strip().removeprefix("W/") == f'"{tag}"' for part in given.split(","))


def load() -> dict[str, Asset]:
    """The page's files by their path below ``static/``."""
    found: dict[str, Asset] = {}
    _collect(files("streetrecall.serve").joinpath("static"), "", found)
    return found


def _collect(folder: Traversable, prefix: str, found: dict[str, Asset]) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            _collect(item, f"{prefix}{item.name}/", found)
        else:
            suffix = item.name[item.name.rfind(".") :]
            if suffix in TYPES:
                found[prefix + item.name] = Asset.of(item.read_bytes(), TYPES[suffix])
