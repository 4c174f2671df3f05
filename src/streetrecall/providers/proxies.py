"""A list of proxies. One is in use; the next one takes over when it cannot be reached."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from streetrecall.errors import UserError

log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Proxies:
    """Proxies by URL, shared by all threads. No text shows a URL's password.

    Raises:
        UserError: a URL is not that of a proxy.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UserError(
                    "STREETRECALL_PROXIES: give URLs such as http://host:3128, separated by commas; "
                    f"{_without_password(url)!r} is not one"
                )
        self.urls = list(urls)
        self._index = 0
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Proxies:
        """Those of ``STREETRECALL_PROXIES``: URLs separated by commas or blanks."""
        return cls([url for url in re.split(r"[,\s]+", os.environ.get("STREETRECALL_PROXIES", "")) if url])

    def __len__(self) -> int:
        return len(self.urls)

    @property
    def current(self) -> str | None:
        return self.urls[self._index] if self.urls else None

    def unreachable(self, url: str | None) -> None:
        """Switch from ``url`` to the next proxy, unless another thread has done so already."""
        with self._lock:
            if url is not None and url == self.current and len(self.urls) > 1:
                self._index = (self._index + 1) % len(self.urls)
                log.warning(
                    "proxy %s cannot be reached; the next one, %s, is used",
                    _without_password(url),
                    _without_password(self.urls[self._index]),
                )


def _without_password(url: str) -> str:
    """A proxy's URL as it may be shown.

    >>> _without_password("http://me:secret@proxy.example:3128")
    'http://***@proxy.example:3128'
    """
    return re.sub(r"//[^/@]*@", "//***@", url)
