"""Values in the answers of services: of the type that they should have, or missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit


def mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under ``key``; empty where there is none."""
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str:
    """A text that can be printed, of at most 200 characters; empty where there is none."""
    raw = value if isinstance(value, str) else ""
    return "".join(c for c in raw if c.isprintable()).strip()[:200]


def number(value: Any) -> float:
    """A finite number; NaN where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        found = float(value)
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def is_url(value: Any) -> bool:
    """Whether a value is an address of the web.

    >>> is_url("https://a.example/b.jpg"), is_url("file:///etc/passwd"), is_url("http://["), is_url(3)
    (True, False, False, False)
    """
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return False
    return parts is not None and parts.scheme in ("http", "https") and bool(parts.netloc)


def joined(base: str, href: str) -> str:
    """The address that ``href`` means on the page ``base``; empty where it means none.

    >>> joined("http://a.example/b/c", "/d"), joined("http://a.example", "http://["), joined("http://a.example", "x:y")
    ('http://a.example/d', '', '')
    """
    try:
        found = urljoin(base, href)
    except ValueError:
        return ""
    return found if is_url(found) else ""
