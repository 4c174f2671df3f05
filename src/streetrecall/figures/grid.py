"""The picture of the grid that the stage `grid` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from streetrecall.figures.canvas import canvas
from streetrecall.geo import project

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon


def draw_grid(points: pd.DataFrame, polygon: MultiPolygon, crs: str, spacing_m: float, path: Path) -> None:
    """Draw the grid over the polygon, and beside it a close-up of some 30 x 30 points; same input, same bytes.

    Args:
        points: GRID columns.
        polygon: the city, degrees of EPSG:4326.
        crs: projected CRS of the picture, such as EPSG:3006; metres.
        spacing_m: distance of neighbouring points, metres.
        path: PNG to write.
    """
    import shapely
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    x, y = project(points["lat"], points["lon"], crs)
    rings = [
        np.column_stack(project(ring[:, 1], ring[:, 0], crs))
        for ring in (shapely.get_coordinates(r) for part in polygon.geoms for r in (part.exterior, *part.interiors))
    ]
    middle = int(np.argmin(np.hypot(x - np.median(x), y - np.median(y))))
    half = 15 * spacing_m
    box = (x[middle] - half, y[middle] - half)
    near = (np.abs(x - x[middle]) <= half) & (np.abs(y - y[middle]) <= half)

    def finish(axis: Axes, title: str) -> None:
        axis.add_collection(LineCollection(rings, colors="#1b3a57", linewidths=0.8))
        axis.set_aspect("equal")
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.ticklabel_format(style="plain", useOffset=False)
        axis.set_xlabel(f"east, m ({crs})", fontsize=8)

    with canvas(path, (11, 5.2), 110, "white") as figure:
        overview, close = figure.subplots(1, 2, width_ratios=[1.6, 1])
        if len(points) > 20_000:  # they would be closer than a pixel: draw their density instead
            # At most 2000 bins along each axis, because parts of a city may lie far apart.
            bins = [min(2000, max(1, int(np.ptp(along) // 40))) for along in (x, y)]
            counts, easts, norths = np.histogram2d(x, y, bins=bins)
            density = np.ma.masked_equal(counts.T, 0)
            overview.pcolormesh(easts, norths, density, cmap="Blues", vmin=-counts.max(), vmax=counts.max() * 3)
        else:
            overview.plot(x, y, ".", color="#4b8fd0", markersize=2)
        overview.add_patch(Rectangle(box, 2 * half, 2 * half, fill=False, edgecolor="#c8321e", linewidth=1.5))
        overview.set_ylabel(f"north, m ({crs})", fontsize=8)
        overview.margins(0.03)
        finish(overview, f"{len(points):,} grid points, {spacing_m:g} m apart")
        close.plot(x[near], y[near], ".", color="#4b8fd0", markersize=4)
        finish(close, "the red square")
        close.set(xlim=(box[0], box[0] + 2 * half), ylim=(box[1], box[1] + 2 * half))
        for side in close.spines.values():
            side.set_edgecolor("#c8321e")
