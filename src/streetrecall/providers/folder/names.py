"""File names of the field's data sets, and what their folders mean.

``@UTM_east@UTM_north@zone@letter@lat@lon@pano@tile@heading@pitch@roll@height@timestamp@note@.jpg`` in
``images/{train,val,test}/{database,queries}``, as the public downloaders of place-recognition data sets write them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from pyproj import Transformer

from streetrecall.providers.shots import compass, is_position

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
ROLES = {"database": "database", "queries": "queries", "query": "queries", "gallery": "database"}
_FIELDS = 16  # the text before the first @ and the suffix included
_STAMP = re.compile(r"(\d{4})-?_?(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Named:
    """What a name says; heading NaN and texts empty where it says nothing."""

    lat: float
    lon: float
    pano: str
    heading_deg: float
    month: str
    taken: str


def read_name(name: str) -> Named | str:
    """What a file's name says, or why it says nothing usable.

    The position is that of the UTM coordinates: they have centimetres, and the field measures in them. Latitude and
    longitude count where there are none.

    >>> read_name("@674000.00@6580000.00@33@V@@@pano7@@90@@@@202105@@.jpg").month
    '2021-05'
    >>> read_name("@1@2@.jpg")
    'its name has 4 parts between @, not 16'
    """
    parts = name.split("@")
    if len(parts) != _FIELDS:
        return f"its name has {len(parts)} parts between @, not {_FIELDS}"
    east, north, zone, letter, lat_text, lon_text, pano, _, heading_text, *_rest = parts[1:]
    stamp = parts[13]
    lat, lon = _from_utm(_number(east), _number(north), zone.strip(), letter.strip().upper())
    if not is_position(lat, lon):
        lat, lon = _number(lat_text), _number(lon_text)
    if not is_position(lat, lon):
        return "no position in its name"
    heading = _number(heading_text)
    match = _STAMP.match(stamp.strip())
    month = f"{match[1]}-{match[2]}" if match and 1990 <= int(match[1]) <= 2100 else ""
    return Named(lat, lon, pano, compass(heading), month, stamp.strip())


def read_folders(path: str) -> tuple[str, str]:
    """The split and the role that a path below the folder states; empty where it states none.

    >>> read_folders("images/val/queries/@1@.jpg"), read_folders("queries/a.jpg"), read_folders("holiday/a.jpg")
    (('validation', 'queries'), ('test', 'queries'), ('', ''))
    """
    above = path.split("/")[:-1]
    for depth in range(len(above) - 1, -1, -1):
        role = ROLES.get(above[depth].lower(), "")
        if role in ("database", "queries") and above[depth].lower() in ("database", "queries"):
            split = SPLITS.get(above[depth - 1].lower(), "") if depth else ""
            return split or "test", role
    return "", ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _from_utm(east: float, north: float, zone: str, letter: str) -> tuple[float, float]:
    if not zone.isdecimal() or not 1 <= int(zone) <= 60 or not (math.isfinite(east) and math.isfinite(north)):
        return math.nan, math.nan
    if not (len(letter) == 1 and "C" <= letter <= "X") or not (0 < east < 1e6 and 0 <= north <= 1e7):
        return math.nan, math.nan
    lon, lat = _transformer(f"EPSG:{32600 + int(zone) + (100 if letter < 'N' else 0)}").transform(east, north)
    return (float(lat), float(lon)) if math.isfinite(lat) and math.isfinite(lon) else (math.nan, math.nan)


@lru_cache(maxsize=8)
def _transformer(crs: str) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
