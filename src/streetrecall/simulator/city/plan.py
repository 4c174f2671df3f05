"""The simulated city: what is where, what it looks like in a month, and which panoramas were taken of it.

Everything follows from ``params.simulated``, ``city.crs`` and the polygon, without a clock or global random state.
Positions are metres of ``city.crs`` from the polygon's centre (``City.origin``); x is east, y is north; headings are
degrees clockwise from north.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from streetrecall.errors import UserError
from streetrecall.geo import DEFAULT_CITY, city_polygon, project, unproject
from streetrecall.params.schema import Params, Simulated
from streetrecall.polygons import read_polygon
from streetrecall.simulator.city.blocks import build_blocks
from streetrecall.simulator.city.chance import Stream, generator
from streetrecall.simulator.city.furniture import furnish
from streetrecall.simulator.city.panoramas import Pano, drive
from streetrecall.simulator.city.streets import lay_streets

Floats = NDArray[np.float64]

MAX_EXTENT_M = 2500.0
STEP_M = 22.0  # panoramas this near are one step of the viewer away


def polygon_path(params: Params, root: Path | None = None) -> Path:
    """File of the polygon that the city fills: ``data/cities/NAME.geojson`` below ``root`` (the working folder)."""
    name = DEFAULT_CITY if params.city.name == "auto" else params.city.name
    return city_polygon((root or Path.cwd()) / "data/cities", name)


def open_city(params: Params, root: Path | None = None) -> City:
    """The city of these params, built once per process for equal params and polygon.

    Raises:
        UserError: the polygon cannot be read (`streetrecall.polygons.read_polygon`) or is too large (`City`).
    """
    polygon = read_polygon(polygon_path(params, root), params.city.crs, params.grid.features)
    return _build(params.simulated.model_dump_json(), polygon, params.city.crs)


@lru_cache(maxsize=4)
def _build(simulated: str, polygon: BaseGeometry, crs: str) -> City:
    return City(Simulated.model_validate_json(simulated), polygon, crs)


class City:
    """A city that fills a polygon and some ground around it, so that no view ends in nothing.

    Args:
        polygon: longitude and latitude, EPSG:4326.
        crs: projected CRS, such as ``EPSG:3006``, in whose metres the city is planned.

    Raises:
        UserError: the polygon is wider than 2.5 km (the renderer keeps a raster of the whole ground), or the last of
            ``simulated.years`` is before the first.
    """

    def __init__(self, simulated: Simulated, polygon: BaseGeometry, crs: str) -> None:
        if simulated.years[0] > simulated.years[1]:
            raise UserError(f"params.yaml: simulated.years: {simulated.years}: the first year is after the last")
        self.params, self.seed, self.crs = simulated, simulated.seed, crs
        lon, lat = shapely.get_coordinates(polygon).T
        x, y = project(lat, lon, crs)
        self.origin = (round((x.min() + x.max()) / 2, 3), round((y.min() + y.max()) / 2, 3))
        extent = (float(np.ptp(x)), float(np.ptp(y)))
        if max(extent) > MAX_EXTENT_M:
            raise UserError(
                f"the polygon is {max(extent):.0f} m wide; the simulated city fills at most "
                f"{MAX_EXTENT_M:.0f} m: draw a smaller one, or choose another provider"
            )
        self.polygon = shapely.transform(
            polygon, lambda c: np.column_stack(project(c[:, 1], c[:, 0], crs)) - np.array([self.origin])
        )
        reach = math.hypot(extent[0] / 2, extent[1] / 2) + simulated.margin_m
        self.street_grid = lay_streets(simulated, reach, generator(self.seed, Stream.STREETS))
        self.streets = self.street_grid.streets
        blocks = build_blocks(simulated, self.street_grid)
        self.walls, self.buildings, self.block_shapes = blocks
        self.trees, self.lamps, self.car_bays, self.people_bays = furnish(self.seed, self.street_grid, blocks)
        self.panos, self.spot_panos = drive(simulated, self.streets, self.polygon.buffer(simulated.margin_m / 3))
        self.by_id = {pano.pano_id: i for i, pano in enumerate(self.panos)}

    def pano(self, pano_id: str) -> Pano | None:
        """The panorama of that id, or None."""
        i = self.by_id.get(pano_id)
        return None if i is None else self.panos[i]

    def dates(self, pano: Pano) -> list[Pano]:
        """All panoramas of the panorama's spot, newest first."""
        return [self.panos[i] for i in self.spot_panos[pano.spot]]

    @cached_property
    def latlon(self) -> tuple[Floats, Floats]:
        """Latitude and longitude, degrees, of all panoramas, in the order of ``panos``, rounded as the service does."""
        x = np.array([p.x for p in self.panos]) + self.origin[0]
        y = np.array([p.y for p in self.panos]) + self.origin[1]
        lat, lon = unproject(x, y, self.crs)
        return lat.round(7), lon.round(7)

    def position(self, pano: Pano) -> tuple[float, float]:
        """Latitude and longitude of a panorama, degrees."""
        i = self.by_id[pano.pano_id]
        return float(self.latlon[0][i]), float(self.latlon[1][i])

    @cached_property
    def _newest(self) -> tuple[cKDTree, list[int]]:
        """The newest panorama of each spot, and a tree of their positions."""
        newest = [numbers[0] for numbers in self.spot_panos]
        return cKDTree(np.array([(self.panos[i].x, self.panos[i].y) for i in newest]).reshape(-1, 2)), newest

    def nearest(self, lat: float, lon: float, radius_m: float) -> Pano | None:
        """The newest panorama of the spot nearest to a point within ``radius_m``, or None."""
        x, y = project(lat, lon, self.crs)
        tree, newest = self._newest
        distance, i = tree.query([float(x) - self.origin[0], float(y) - self.origin[1]])
        return self.panos[newest[int(i)]] if distance <= radius_m else None

    def neighbours(self, pano: Pano, radius_m: float = STEP_M) -> list[Pano]:
        """One panorama of each other spot within ``radius_m``: of the same month if there is one, else the newest."""
        tree, newest = self._newest
        found = []
        for i in tree.query_ball_point([pano.x, pano.y], radius_m):
            spot = self.panos[newest[i]].spot
            if spot == pano.spot:
                continue
            same = [self.panos[k] for k in self.spot_panos[spot] if self.panos[k].month == pano.month]
            found.append(same[0] if same else self.panos[newest[i]])
        return sorted(found, key=lambda p: p.pano_id)
