"""Months as text ``YYYY-MM``, with the empty string for an unknown one, and as numbers that can be subtracted.

The simulated city writes these texts by its own code. The key of its store is a hash of the simulator's source files
(`streetrecall.simulator.fingerprint`), and would not change with this module.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

UNKNOWN = -1  # the number of an unknown month
NAMES = (  # in English, whatever the locale
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
PATTERN = r"[0-9]{4}-(?:0[1-9]|1[0-2])"


def month_of_name(year: str, name: str) -> str:
    """``YYYY-MM`` of a year and the English name of a month, in any case.

    >>> month_of_name("2020", "september")
    '2020-09'
    """
    return f"{year}-{NAMES.index(name.capitalize()) + 1:02d}"


def month_numbers(months: pd.Series) -> NDArray[np.int64]:
    """Months since year 0 of ``YYYY-MM`` texts; ``UNKNOWN`` where the text is empty.

    >>> month_numbers(pd.Series(["2015-01", ""])).tolist()
    [24180, -1]

    Raises:
        ValueError: a text is neither empty nor a month.
    """
    known = months.str.fullmatch(PATTERN).to_numpy(bool)
    if (~known & (months != "").to_numpy(bool)).any():
        raise ValueError(f"not a month as YYYY-MM: {months[~known & (months != '')].iloc[0]!r}")
    padded = months.where(known, "0000-01")
    number = padded.str[:4].astype("int64") * 12 + padded.str[5:].astype("int64") - 1
    return np.where(known, number, UNKNOWN)
