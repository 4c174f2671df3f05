"""Generations of cameras: what the pictures of a year look like."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Camera:
    """A generation of cameras."""

    name: str
    scale: float  # share of the 1512 pixels of the viewer's frame that the camera resolves
    height: float  # of the lens above the street, metres
    blur: float  # standard deviation, pixels of the resolved picture
    contrast: float
    saturation: float
    gain: tuple[float, float, float]  # of red, green and blue
    noise: float  # standard deviation, 8-bit levels
    yaw_error: float  # standard deviation, degrees
    pitch_error: float  # standard deviation, degrees


CAMERAS = (
    Camera("2007", 0.36, 2.9, 0.75, 1.16, 0.86, (1.00, 1.00, 1.05), 3.0, 1.6, 0.9),
    Camera("2009", 0.44, 2.75, 0.6, 1.12, 1.00, (1.02, 1.00, 0.96), 2.2, 1.2, 0.7),
    Camera("2014", 0.54, 2.55, 0.4, 1.00, 0.94, (0.98, 1.00, 1.03), 1.4, 0.8, 0.5),
    Camera("2018", 0.6, 2.45, 0.0, 1.06, 1.10, (1.00, 1.00, 1.00), 0.8, 0.5, 0.3),
)


def camera(month: int) -> Camera:
    """The generation of cameras that drove in a month (months since year 0).

    >>> camera(2008 * 12).name, camera(2023 * 12).name
    ('2007', '2018')
    """
    year = month / 12.0
    return CAMERAS[0 if year < 2009 else 1 if year < 2013.5 else 2 if year < 2017.8 else 3]
