"""Views of the simulated city: a panorama seen at a heading, as the service serves it.

A view is cast at the resolution of the generation of cameras that took it and then enlarged, so old pictures are soft,
as in real collections. Equal params, polygon, panorama and view give the same bytes on one machine.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streetrecall.simulator.city import cameras
from streetrecall.simulator.city.panoramas import Pano
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.render import develop, textures
from streetrecall.simulator.render.city_tables import city_tables
from streetrecall.simulator.render.kernels import compiled
from streetrecall.simulator.render.scene import scene_of
from streetrecall.simulator.render.tables import Buildings, Bytes, Camera, Lens, Scene

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 1512, 810  # of the viewer's frame, pixels
FOV = 120.0  # degrees from its left edge to its right one
# Share of its height above the horizon, so that the horizon is in the middle of the crop of the upper 670 rows.
HORIZON = 0.448
MAX_FOV = 150.0
MAX_PITCH = 60.0


class Renderer:
    """Draws views of a city. It may be used from several threads; they draw at the same time."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.tables = city_tables(city, textures.atlas())
        # Threads that miss the same entry at once compute it twice and do not wait for each other.
        self._buildings = lru_cache(maxsize=24)(lambda month: Buildings(*city.buildings.at(month)))
        self.scene = lru_cache(maxsize=12)(self._make_scene)

    def _make_scene(self, pano: Pano) -> Scene:
        return scene_of(self.city, self.tables, self._buildings(pano.month), pano)

    def view(
        self,
        pano: Pano,
        heading: float,
        width: int = WIDTH,
        height: int = HEIGHT,
        fov: float = FOV,
        pitch: float = 0.0,
        horizon: float = HORIZON,
        scene: Scene | None = None,
    ) -> Bytes:
        """A view in perspective, (height, width, 3) uint8 RGB.

        Args:
            heading: compass degrees of the middle column.
            fov: degrees from the left edge to the right one, 150 at most.
            pitch: degrees that the view looks up, within 60; upright lines stay upright.
            horizon: share of the height above the horizon at pitch 0.
            scene: what surrounds the panorama, in place of ``self.scene(pano)``.
        """
        shown = self._shown(pano)
        if shown.dark:
            return develop.dark(width, height)
        camera = cameras.camera(shown.month)
        scale = _scale(camera, width, fov)
        w, h = max(16, round(width * scale)), max(16, round(height * scale))
        focal = w / 2 / math.tan(math.radians(min(fov, MAX_FOV)) / 2)
        tilt = math.radians(max(-MAX_PITCH, min(MAX_PITCH, pitch + shown.pitch_error)))
        offset = np.arctan((np.arange(w) + 0.5 - w / 2) / focal)
        azimuth = math.radians(heading + shown.yaw_error) + offset
        lens = Lens(False, focal, h * horizon + focal * math.tan(tilt), h)
        return develop.develop(self._cast(shown, azimuth, np.cos(offset), lens, scene), camera, width, height)

    def panorama(self, pano: Pano, width: int = 2048) -> Bytes:
        """The whole sphere, equirectangular, (width / 2, width, 3) uint8 RGB; the middle column looks north."""
        shown = self._shown(pano)
        if shown.dark:
            return develop.dark(width, width // 2)
        camera = cameras.camera(shown.month)
        w = max(32, round(width * _scale(camera, width, 360.0)) // 2 * 2)
        azimuth = (np.arange(w) + 0.5) / w * 2 * math.pi - math.pi + math.radians(shown.yaw_error)
        lens = Lens(True, 1.0, 0.0, w // 2)
        return develop.develop(self._cast(shown, azimuth, np.ones(w), lens), camera, width, width // 2)

    def _shown(self, pano: Pano) -> Pano:
        """The panorama whose picture is served for this one."""
        return (self.city.pano(pano.shown) if pano.shown else None) or pano

    def _cast(self, pano: Pano, azimuth: Floats, stretch: Floats, lens: Lens, scene: Scene | None = None) -> Bytes:
        """The light in each column's direction, (rows, columns, 3) uint8; azimuths in radians."""
        image = np.zeros((len(azimuth), lens.rows, 3), np.uint8)
        camera = Camera(pano.x, pano.y, pano.camera_height, np.sin(azimuth), np.cos(azimuth), stretch, lens)
        compiled.draw(image, camera, self.tables, scene or self.scene(pano))
        return np.ascontiguousarray(image.transpose(1, 0, 2))


def _scale(camera: cameras.Camera, width: int, fov: float) -> float:
    """How much smaller than asked for a view is cast: a camera resolves so many pixels a degree, and no more."""
    asked = width / fov
    resolved = camera.scale * WIDTH / FOV
    return min(1.0, resolved / asked)


@lru_cache(maxsize=2)
def renderer(city: City) -> Renderer:
    """The renderer of a city, one a process."""
    return Renderer(city)


def view(city: City, pano_id: str, heading: float) -> Bytes:
    """The frame that the viewer page shows at 1512 x 810: (810, 1512, 3) uint8 RGB.

    Raises:
        KeyError: the city has no such panorama.
    """
    pano = city.pano(pano_id)
    if pano is None:
        raise KeyError(pano_id)
    return renderer(city).view(pano, heading)
