"""Progress on standard error: a bar in a terminal, a line every ten seconds at most in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

TERMINAL_S, LOG_S = 0.2, 10.0  # shortest time between two updates, seconds


def progress(total: int, name: str, unit: str, **options: Any) -> tqdm:
    """A bar for ``total`` items of ``unit``; use it as a context manager and call ``update``.

    ``options`` are tqdm's own. Nothing is shown where there is nothing to do.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total, desc=name, unit=unit, file=sys.stderr, mininterval=TERMINAL_S if terminal else LOG_S,
        miniters=None if terminal else 1, disable=options.pop("disable", not total), **options,
    )  # fmt: skip
