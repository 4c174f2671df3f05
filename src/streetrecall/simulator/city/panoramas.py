"""The panoramas: where camera cars drove, when, and what was recorded there.

Positions are metres from the city's origin; x is east, y is north. Months are counted since year 0.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry

from streetrecall.params.schema import Simulated
from streetrecall.simulator.city import cameras
from streetrecall.simulator.city.chance import Stream, generator
from streetrecall.simulator.city.streets import Street, pavement

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_DATES = 16  # of a spot
# How often cars drive in each month, January first: when it is light and dry, with exceptions.
_MONTH_WEIGHTS = np.array([0.3, 0.4, 1.2, 2.2, 3.0, 3.4, 3.2, 2.6, 2.2, 1.4, 0.6, 0.3])


def month_text(month: int) -> str:
    """``YYYY-MM`` of a month.

    >>> month_text(2007 * 12)
    '2007-01'
    """
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


@dataclass(frozen=True)
class Pano:
    """One panorama: where the camera was, and the drive that it belongs to."""

    pano_id: str
    spot: int  # number of the point along a street that has one panorama of each date
    street: int
    month: int
    x: float  # as the service gives it
    y: float
    camera_height: float  # metres
    heading: float  # degrees: where the spot's first view looks, the same for all dates
    yaw_error: float  # degrees
    pitch_error: float  # degrees
    dated: bool  # the metadata give the month
    shown: str  # panorama whose picture the service gives in place of this one's; empty: its own
    dark: bool  # the picture is almost black

    @property
    def date(self) -> str:
        """``YYYY-MM``."""
        return month_text(self.month)


class Survey(NamedTuple):
    """All panoramas, and for each spot the numbers of its panoramas, newest first."""

    panos: list[Pano]
    spot_panos: list[list[int]]


def drive(params: Simulated, streets: list[Street], area: BaseGeometry) -> Survey:
    """Drive along all streets; a spot within ``area`` gets the panoramas of 1 to 16 drives."""
    survey = Survey([], [])
    schedules: dict[int, Ints] = {}
    for street in streets:
        if not street.driven:
            continue
        if street.line not in schedules:
            schedules[street.line] = _schedule(params, street.line)
        _drive_street(params, street, schedules[street.line], area, survey)
    return survey


def _schedule(params: Simulated, line: int) -> Ints:
    """Months of the drives along a street line, the most likely ones first: one a year, 16 at most."""
    calendar = np.arange(params.years[0] * 12, params.years[1] * 12 + 12)
    rng = generator(params.seed, Stream.SCHEDULE, line)
    # Ordering log-weights plus Gumbel noise draws without replacement, by weight.
    score = np.log(_MONTH_WEIGHTS[calendar % 12]) + rng.gumbel(size=len(calendar))
    chosen: dict[int, int] = {}
    for month in calendar[np.argsort(-score, kind="stable")]:
        chosen.setdefault(int(month) // 12, int(month))
    return np.array(list(chosen.values())[:MAX_DATES])


def _drive_street(params: Simulated, street: Street, schedule: Ints, area: BaseGeometry, survey: Survey) -> None:
    """Append the panoramas of one street to the survey."""
    rng = generator(params.seed, Stream.STREET, street.index)
    count = max(1, int(street.length / params.spot_spacing_m))
    typical = rng.normal(params.dates_mode, params.dates_spread)
    heading = round((street.bearing + 180.0 * (rng.random() < 0.5)) % 360.0, 1)
    # Months in which the camera froze: all spots along the street got its first frame.
    frozen = [int(month) for month in schedule if rng.random() < params.stuck_share]
    along = np.array([street.x1 - street.x0, street.y1 - street.y0]) / street.length
    first_frame: dict[int, str] = {}
    for k in range(count):
        centre = np.array([street.x0, street.y0]) + along * (street.length * (k + 0.5) / count)
        number = int(np.clip(round(typical + rng.normal(0, 1.0)), 1, MAX_DATES))
        passed = sorted(schedule[rng.permutation(len(schedule))[:number]], reverse=True)
        if not area.contains(Point(centre)):
            continue
        numbers = []
        for month in map(int, passed):
            pano = _record(params, street, len(survey.spot_panos), month, centre, heading)
            if month in frozen:
                pano = replace(pano, shown=first_frame.get(month, ""))
                first_frame.setdefault(month, pano.pano_id)
            numbers.append(len(survey.panos))
            survey.panos.append(pano)
        survey.spot_panos.append(numbers)


def _record(params: Simulated, street: Street, spot: int, month: int, centre: Floats, heading: float) -> Pano:
    """The panorama of one spot and month: the camera misses the spot's centre, its heading and its level a little."""
    rng = generator(params.seed, Stream.DRIVE, spot, month)
    camera = cameras.camera(month)
    along = np.array([street.x1 - street.x0, street.y1 - street.y0]) / street.length
    across = np.array([-along[1], along[0]])
    lane = (street.width / 2 - pavement(street.width) - 2.4) * rng.choice([-0.7, 0.15, 0.7])
    x, y = (
        centre
        + along * rng.normal(0, params.position_error_m)
        + across * (max(-4.0, min(4.0, lane)) + rng.normal(0, 0.35))
    )
    return Pano(
        pano_id=_pano_id(params.seed, spot, month),
        spot=spot,
        street=street.index,
        month=month,
        x=float(x),
        y=float(y),
        camera_height=float(camera.height + rng.normal(0, 0.04)),
        heading=heading,
        yaw_error=float(rng.normal(0, camera.yaw_error * params.yaw_error)),
        pitch_error=float(rng.normal(0, camera.pitch_error)),
        dated=bool(rng.random() > params.undated_share),
        shown="",
        dark=bool(rng.random() < params.dark_share),
    )


def _pano_id(seed: int, spot: int, month: int) -> str:
    """22 characters of the URL-safe alphabet, as the real service's."""
    digest = hashlib.blake2b(f"{seed}/{spot}/{month}".encode(), digest_size=16).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
