"""The city with its right and wrong queries, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from streetrecall.figures.canvas import canvas
from streetrecall.tables import RIGHT_M

RIGHT, WRONG, PLAIN = "#1a7fc4", "#d1495b", "#c9c5bc"


def draw_map(rows: pd.DataFrame, predictions: pd.DataFrame, path: Path) -> None:
    """Draw every place, the places of the queries by share found, and a line from each wrong query to its answer.

    ``rows`` is the descriptor table, ``predictions`` those of one system under one protocol; positions are in metres.
    The background is light, so that the picture can be read on a dark page too. The same input gives the same bytes
    with the same version of Matplotlib.
    """
    from matplotlib.collections import LineCollection

    spots = rows.groupby("place")[["x", "y"]].first()
    asked = predictions[(predictions["right_images"] > 0) & (predictions["answer_place"] >= 0)]
    found = (asked[f"rank_{RIGHT_M}m"] == 1).groupby(asked["place"]).mean()
    lost = asked[asked[f"rank_{RIGHT_M}m"] != 1]

    width, height = (np.ptp(spots.to_numpy(), axis=0) + 1) if len(spots) else (1.0, 1.0)
    aspect = float(np.clip(height / width, 0.5, 1.6))
    with canvas(path, (10, 10 * aspect + 1.1), 96, "#fbfaf7", font__size=11, path__simplify=False) as figure:
        axes = figure.add_subplot(facecolor="#fbfaf7")
        axes.scatter(spots["x"], spots["y"], s=9, color=PLAIN, linewidths=0, label="other places", zorder=1)
        start = spots.reindex(lost["place"]).to_numpy()
        end = spots.reindex(lost["answer_place"]).to_numpy()
        axes.add_collection(
            LineCollection(list(np.stack([start, end], axis=1)), colors=WRONG, linewidths=0.7, alpha=0.45, zorder=2)
        )
        for label, marker, colour, chosen in (
            ("all queries right", "o", RIGHT, found[found == 1]),
            ("some wrong", "D", "#8a5fb0", found[(found > 0) & (found < 1)]),
            ("all wrong", "X", WRONG, found[found == 0]),
        ):
            at = spots.reindex(chosen.index)
            axes.scatter(
                at["x"], at["y"], s=42, marker=marker, color=colour, edgecolors="#fbfaf7", linewidths=0.5,
                label=f"{label} ({len(at)} places)", zorder=3,
            )  # fmt: skip
        axes.plot(
            [], [], color=WRONG, alpha=0.6, linewidth=1.2, label=f"from a query to its wrong answer ({len(lost)})"
        )
        axes.set_aspect("equal")
        axes.margins(0.04)
        axes.set_axis_off()
        _scale_bar(axes, float(width))
        axes.set_title(
            f"First answers on test, gallery of the whole city: {len(asked) - len(lost)} of {len(asked)} right",
            fontsize=13,
            color="#222222",
        )
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.005), ncols=3, frameon=False, labelcolor="#333333")


def _scale_bar(axes, width_m: float) -> None:  # type: ignore[no-untyped-def]
    length = max(s for s in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if s <= max(10.0, width_m / 4))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = left + 0.03 * (right - left), bottom + 0.03 * (top - bottom)
    axes.plot([x, x + length], [y, y], color="#333333", linewidth=2.5, solid_capstyle="butt", zorder=4)
    text = f"{length} m" if length < 1000 else f"{length // 1000} km"
    axes.text(x, y + 0.008 * (top - bottom), text, color="#333333", va="bottom")
