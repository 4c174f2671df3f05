"""Light, weather and season of a drive."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from streetrecall.simulator.city.chance import Stream, generator

LATITUDE = 59.3  # of the sun's path, degrees

# By month, January first.
_LEAVES = (0, 0, 0, 0.12, 0.75, 1, 1, 1, 0.95, 0.6, 0.12, 0)
_LEAF_HUES = (0, 0, 0, 0.0, 0.15, 0.7, 1.0, 1.1, 1.4, 2.2, 2.8, 3)


@dataclass(frozen=True)
class Weather:
    """Light and season of one drive: angles in degrees, shares 0-1."""

    sun_azimuth: float
    sun_elevation: float
    direct: float  # direct sunlight; 0: overcast
    cloud: float
    snow: float
    wet: float
    haze: float
    leaves: float
    leaf_hue: float  # 0 fresh green, 1 deep green, 2 yellow, 3 brown
    exposure: float  # factor
    warmth: float  # added to red and taken from blue
    key: int  # chooses the clouds


def weather(seed: int, line: int, month: int) -> Weather:
    """The weather of the drive along street line ``line`` in ``month`` (months since year 0)."""
    rng = generator(seed, Stream.WEATHER, line, month)
    m = month % 12
    elevation, azimuth = _sun(m * 30.4 + rng.uniform(0, 30), rng)
    sky = rng.random()
    direct = 0.0 if sky < 0.42 else rng.uniform(0.35, 0.65) if sky < 0.6 else rng.uniform(0.75, 1.0)
    cloud = rng.uniform(0.8, 1.0) if direct == 0 else rng.uniform(0.35, 0.7) if direct < 0.7 else rng.uniform(0, 0.4)
    snow = 0.0
    if m in (11, 0, 1, 2) and rng.random() < (0.7 if m in (0, 1) else 0.35):
        snow = rng.uniform(0.5, 1.0)
    hue = _LEAF_HUES[m] + rng.normal(0, 0.12)
    return Weather(
        sun_azimuth=azimuth % 360,
        sun_elevation=elevation,
        direct=direct,
        cloud=cloud,
        snow=snow,
        wet=float(rng.uniform(0.5, 1.0)) if direct == 0 and snow == 0 and rng.random() < 0.3 else 0.0,
        haze=rng.uniform(0.05, 0.35),
        leaves=_LEAVES[m],
        leaf_hue=float(np.clip(hue, 0, 3)),
        exposure=float(rng.normal(1.0, 0.09)),
        warmth=float(rng.normal(0, 0.035)) + (0.05 if elevation < 18 and direct > 0 else 0.0),
        key=int(rng.integers(0, 2**31)),
    )


def _sun(day: float, rng: np.random.Generator) -> tuple[float, float]:
    """Elevation and azimuth of the sun in degrees, on a day of the year and at a random hour of daylight."""
    declination = -23.44 * math.cos(2 * math.pi * (day + 10) / 365)
    span = max(2.0, 5.5 + 3.0 * math.cos(2 * math.pi * (day - 172) / 365))
    hour_angle = math.radians(15 * rng.uniform(-span, span) * 0.8)
    phi, delta = math.radians(LATITUDE), math.radians(declination)
    sin_e = math.sin(phi) * math.sin(delta) + math.cos(phi) * math.cos(delta) * math.cos(hour_angle)
    elevation = max(6.0, math.degrees(math.asin(sin_e)))
    azimuth = 180 + math.degrees(
        math.atan2(math.sin(hour_angle), math.cos(hour_angle) * math.sin(phi) - math.tan(delta) * math.cos(phi))
    )
    return elevation, azimuth
