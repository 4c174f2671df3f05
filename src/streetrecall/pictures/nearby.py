"""How far positions are from the views of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]


def nearest_m(xy: Floats, views: pd.DataFrame) -> Floats:
    """Metres (n,) from each position ``xy`` (n, 2; metres) to the nearest of ``views`` (columns x, y).

    They are infinite if there is none.

    >>> nearest_m(np.array([[3.0, 4.0]]), pd.DataFrame({"x": [0.0, 9.0], "y": [0.0, 9.0]})).tolist()
    [5.0]
    """
    if not len(xy) or views.empty:
        return np.full(len(xy), np.inf)
    return np.asarray(cKDTree(views[["x", "y"]].to_numpy(float)).query(xy)[0])


def nearest_of_month_m(xy: Floats, months: pd.Series, views: pd.DataFrame) -> Floats:
    """As `nearest_m`, among the views of each position's own month (``months``, n; the column month of ``views``).

    >>> views = pd.DataFrame({"x": [0.0, 9.0], "y": 0.0, "month": ["2020-01", "2021-01"]})
    >>> nearest_of_month_m(np.zeros((2, 2)), pd.Series(["2021-01", "2022-01"]), views).tolist()
    [9.0, inf]
    """
    distance = np.full(len(xy), np.inf)
    for month in months.unique():
        of = (months == month).to_numpy()
        distance[of] = nearest_m(xy[of], views[views["month"] == month])
    return distance
