"""Progress on standard error: a bar in a terminal, a line every ten seconds at most in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

TERMINAL_S, LOG_S = 0.2, 10.0  # shortest time between two updates, seconds


class _Log:
    """Standard error as a log: each update is a line of its own, where tqdm would return to the begin of the line."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(total: int, name: str, unit: str, **options: Any) -> tqdm:
    """A bar for ``total`` items of ``unit``; use it as a context manager and call ``update``.

    ``options`` are tqdm's own. Nothing is shown where there is nothing to do.
    """
    disable = options.pop("disable", not total)
    if sys.stderr.isatty():
        shown: dict[str, Any] = {"file": sys.stderr, "mininterval": TERMINAL_S}
    else:
        line = "{desc}: {percentage:3.0f}% {r_bar}"
        shown = {"file": _Log(), "mininterval": LOG_S, "miniters": 1, "bar_format": line}
    return tqdm(total=total, desc=name, unit=unit, disable=disable, **shown, **options)
