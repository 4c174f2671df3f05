"""The one way in which figures become PNG files: the same input gives the same bytes, whatever matplotlibrc says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streetrecall.files import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def canvas(
    path: Path, size: tuple[float, float], dpi: int, background: str, **settings: str | float | bool
) -> Iterator[Figure]:
    """A figure of ``size`` (width, height in inches) to draw on; it is saved to ``path`` when the block ends well.

    Matplotlib's own defaults hold inside, with ``settings`` (dots in names of rcParams as double underscores) on top.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    changed = {name.replace("__", "."): value for name, value in settings.items()}
    with matplotlib.style.context(["default", {"font.family": "DejaVu Sans", **changed}], after_reset=True):
        figure = Figure(figsize=size, dpi=dpi, facecolor=background, layout="constrained")
        yield figure
        with whole(path) as partial:
            figure.savefig(partial, format="png", dpi=dpi, metadata={"Software": None})
