"""The simulated city: what stands where, what it looks like in a month, and which panoramas were taken of it.

Everything follows from ``params.simulated`` and the polygon: no clock, no global random state. Positions are metres in
EPSG:3006 less the polygon's centre (``City.origin``); x is east, y is north; headings are degrees clockwise from north.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from shapely.geometry import Point, Polygon, shape
from shapely.geometry.base import BaseGeometry

from streetrecall.errors import UserError
from streetrecall.geo import project, unproject
from streetrecall.params.schema import Params, Simulated
from streetrecall.simulator.city import styles
from streetrecall.simulator.city.styles import hash_unit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CRS = "EPSG:3006"
DEFAULT_CITY = "stockholm-district"
MAX_EXTENT_M = 2500.0

# What lies in a block, and so what ground a point beside a street is.
PERIMETER, SLABS, PARK, WATER, SQUARE = range(5)

# Kinds of wall.
FACADE, PARTY, HEDGE, QUAY = range(4)


def months(text: str) -> int:
    """Months since year 0 of ``YYYY-MM``.

    >>> months("2007-01"), month_text(24084)
    (24084, '2007-01')
    """
    return int(text[:4]) * 12 + int(text[5:7]) - 1


def month_text(month: int) -> str:
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


@dataclass(frozen=True)
class Street:
    """A straight stretch between two crossings: ``index`` keys its drives and dates."""

    index: int
    line: int
    x0: float
    y0: float
    x1: float
    y1: float
    width: float
    driven: bool

    @property
    def length(self) -> float:
        return math.hypot(self.x1 - self.x0, self.y1 - self.y0)

    @property
    def bearing(self) -> float:
        """Compass bearing of the stretch, degrees."""
        return math.degrees(math.atan2(self.x1 - self.x0, self.y1 - self.y0)) % 360.0


@dataclass(frozen=True)
class Pano:
    """One panorama: where the camera stood, and the drive that it belongs to.

    ``x, y`` is the position that the service tells; ``shown`` is the panorama whose picture is served, as a rule
    itself. ``heading`` is the way that the place's first picture looks, the same for all dates of a spot.
    """

    pano_id: str
    spot: int
    street: int
    month: int
    x: float
    y: float
    camera_height: float
    heading: float
    yaw_error: float
    pitch_error: float
    dated: bool
    shown: str
    dark: bool
    key: int

    @property
    def date(self) -> str:
        return month_text(self.month)


@dataclass
class Walls:
    """All extruded walls, one row each (see `_Builder.wall`)."""

    x0: Floats
    y0: Floats
    x1: Floats
    y1: Floats
    eaves: Floats
    roof: Floats
    setback: Floats
    kind: Ints
    building: Ints
    length: Floats


@dataclass
class _Builder:
    rows: list[tuple[float, ...]] = field(default_factory=list)
    buildings: list[dict[str, Any]] = field(default_factory=list)

    def wall(self, a: Floats, b: Floats, eaves: float, roof: float, setback: float, kind: int, building: int) -> None:
        self.rows.append((a[0], a[1], b[0], b[1], eaves, roof, setback, kind, building, math.dist(a, b)))

    def walls(self) -> Walls:
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 10)
        x0, y0, x1, y1, eaves, roof, setback, kind, building, length = (
            np.ascontiguousarray(column) for column in table.T
        )
        whole = (kind.astype(np.int64), building.astype(np.int64))
        return Walls(x0, y0, x1, y1, eaves, roof, setback, *whole, length)


def polygon_path(params: Params, root: Path | None = None) -> Path:
    """File of the polygon that the city fills: ``data/cities/NAME.geojson`` below ``root`` (the working folder)."""
    name = DEFAULT_CITY if params.city.name == "auto" else params.city.name
    relative = Path("data/cities") / f"{name}.geojson"
    path = (root or Path.cwd()) / relative
    if root is None and not path.exists():
        checkout = Path(__file__).parents[3] / relative
        path = checkout if checkout.exists() else path
    return path


def load_polygon(path: str | Path) -> BaseGeometry:
    """The polygon(s) of a GeoJSON file, EPSG:4326.

    Raises:
        UserError: no such file, not GeoJSON, or nothing with an area in it.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; the simulated city needs a polygon to fill") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    try:
        features = document["features"] if document.get("type") == "FeatureCollection" else [document]
        geometry = shapely.unary_union([shape(f.get("geometry", f)) for f in features])
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.GEOSException) as error:
        raise UserError(f"{path}: not GeoJSON that holds a polygon: {error}") from error
    if geometry.area <= 0:
        raise UserError(f"{path}: holds no polygon with an area")
    return geometry


def open_city(params: Params, root: Path | None = None) -> City:
    """The city of these params, built once per process for equal params and polygon."""
    return _cached_city(params.simulated.model_dump_json(), polygon_path(params, root).resolve())


@lru_cache(maxsize=4)
def _cached_city(simulated: str, path: Path) -> City:
    return City(Simulated.model_validate_json(simulated), load_polygon(path))


def _inset(corners: Floats, distances: list[float]) -> Floats | None:
    """A convex anticlockwise polygon with edge i (corner i to i+1) moved inwards by ``distances[i]``."""
    n = len(corners)
    lines = []
    for i in range(n):
        a, b = corners[i], corners[(i + 1) % n]
        d = (b - a) / np.hypot(*(b - a))
        normal = np.array([-d[1], d[0]])
        lines.append((a + normal * distances[i], d))
    out = []
    for i in range(n):
        (p, d), (q, e) = lines[i - 1], lines[i]
        cross = d[0] * e[1] - d[1] * e[0]
        if abs(cross) < 1e-9:
            return None
        t = ((q[0] - p[0]) * e[1] - (q[1] - p[1]) * e[0]) / cross
        out.append(p + d * t)
    result = np.array(out)
    return result if Polygon(result).is_valid and Polygon(result).exterior.is_ccw else None


class City:
    """A city that fills a polygon (EPSG:4326) and some way beyond, so that no view ends in nothing.

    Raises:
        UserError: the polygon is wider than 2.5 km; the renderer keeps a raster of the whole ground.
    """

    def __init__(self, simulated: Simulated, polygon: BaseGeometry) -> None:
        self.params = simulated
        lon, lat = shapely.get_coordinates(polygon).T
        x, y = project(lat, lon, CRS)
        self.origin = (round((x.min() + x.max()) / 2, 3), round((y.min() + y.max()) / 2, 3))
        self.half = (float(np.ptp(x)) / 2, float(np.ptp(y)) / 2)
        if max(self.half) * 2 > MAX_EXTENT_M:
            raise UserError(
                f"the polygon is {max(self.half) * 2:.0f} m wide; the simulated city fills at most "
                f"{MAX_EXTENT_M:.0f} m: draw a smaller one, or choose another provider"
            )
        ox, oy = self.origin
        self.polygon = shapely.transform(
            polygon, lambda c: np.column_stack(project(c[:, 1], c[:, 0], CRS)) - np.array([[ox, oy]])
        )
        self.seed = simulated.seed
        self._rng = np.random.default_rng(np.random.SeedSequence([simulated.seed, 1]))
        self._lay_streets()
        self._build_blocks()
        self._plant()
        self._drive()

    # -- streets and blocks ------------------------------------------------------------------------------------------

    def _lay_streets(self) -> None:
        rng, pitch = self._rng, self.params.block_m
        reach = math.hypot(*self.half) + self.params.margin_m
        self.turn = math.radians(rng.uniform(8, 35))
        cos, sin = math.cos(self.turn), math.sin(self.turn)

        def lines() -> Floats:
            positions = [-reach]
            while positions[-1] < reach:
                positions.append(positions[-1] + pitch * rng.choice([0.72, 0.86, 1.0, 1.0, 1.2, 1.4]))
            return np.array(positions)

        us, vs = lines(), lines()
        n, m = len(us), len(vs)
        nodes = np.zeros((n, m, 2))
        bend_u = rng.normal(0, 0.06 * pitch, (n, m))
        bend_v = rng.normal(0, 0.06 * pitch, (n, m))
        for i in range(n):
            for j in range(m):
                u, v = us[i] + bend_u[i, j], vs[j] + bend_v[i, j]
                nodes[i, j] = (u * cos - v * sin, u * sin + v * cos)
        self.nodes = nodes
        widths = np.array([10.0, 12.0, 14.0, 17.0, 22.0])
        self.width_u = rng.choice(widths, n, p=[0.22, 0.26, 0.24, 0.16, 0.12])  # streets along v at us[i]
        self.width_v = rng.choice(widths, m, p=[0.22, 0.26, 0.24, 0.16, 0.12])

        kinds = rng.choice(
            [PERIMETER, SLABS, SQUARE],
            (n - 1, m - 1),
            p=[1 - self.params.open_share, self.params.open_share * 0.7, self.params.open_share * 0.3],
        )
        # Parks and water come in patches that swallow the streets between their blocks.
        for kind, share in ((PARK, self.params.park_share), (WATER, self.params.water_share)):
            wanted = round(share * kinds.size)
            while (kinds == kind).sum() < wanted:
                row, column = rng.integers(0, n - 2), rng.integers(0, m - 2)
                di, dj = [(2, 1), (1, 2), (2, 2)][int(rng.integers(0, 3))]
                kinds[row : row + di, column : column + dj] = kind
        self.kinds = kinds

        def kind_at(i: int, j: int) -> int:
            return int(kinds[i, j]) if 0 <= i < n - 1 and 0 <= j < m - 1 else PERIMETER

        self.streets: list[Street] = []
        self.street_at: dict[tuple[str, int, int], int] = {}
        self.swallowed: set[int] = set()  # stretches that lie within a park or water
        for axis, count_i, count_j in (("u", n, m - 1), ("v", n - 1, m)):
            for i in range(count_i):
                for j in range(count_j):
                    a = nodes[i, j]
                    b = nodes[i, j + 1] if axis == "u" else nodes[i + 1, j]
                    sides = (kind_at(i - 1, j), kind_at(i, j)) if axis == "u" else (kind_at(i, j - 1), kind_at(i, j))
                    open_ground = sum(k in (PARK, WATER) for k in sides)
                    driven = open_ground < 2 and rng.random() > self.params.undriven_share
                    index = len(self.streets)
                    if open_ground == 2:
                        self.swallowed.add(index)
                    self.street_at[axis, i, j] = index
                    self.streets.append(
                        Street(
                            index,
                            i if axis == "u" else 1000 + j,
                            float(a[0]),
                            float(a[1]),
                            float(b[0]),
                            float(b[1]),
                            float(self.width_u[i] if axis == "u" else self.width_v[j]),
                            bool(driven),
                        )
                    )

    def _build_blocks(self) -> None:
        builder = _Builder()
        self.block_shapes: list[tuple[Floats, int]] = []
        n, m = self.kinds.shape
        for i in range(n):
            for j in range(m):
                rng = np.random.default_rng(np.random.SeedSequence([self.seed, 2, i, j]))
                kind = int(self.kinds[i, j])
                corners = np.array(
                    [self.nodes[i, j], self.nodes[i + 1, j], self.nodes[i + 1, j + 1], self.nodes[i, j + 1]]
                )
                half = [self.width_v[j], self.width_u[i + 1], self.width_v[j + 1], self.width_u[i]]
                neighbours = [(i, j - 1), (i + 1, j), (i, j + 1), (i - 1, j)]
                distances = []
                for width, (p, q) in zip(half, neighbours, strict=True):
                    same = 0 <= p < n and 0 <= q < m and self.kinds[p, q] == kind and kind in (PARK, WATER)
                    distances.append(1.2 if same and kind == PARK else 0.0 if same else width / 2)
                inner = _inset(corners, distances)
                if inner is None:
                    continue
                self.block_shapes.append((inner, kind))
                if kind == PERIMETER:
                    self._perimeter(builder, inner, rng)
                elif kind == SLABS:
                    self._slabs(builder, inner, rng)
                elif kind == SQUARE:
                    self._kiosk(builder, inner, rng)
                elif kind == PARK:
                    self._hedges(builder, inner, distances, rng)
                else:
                    for k in range(4):
                        if distances[k] > 1.5:
                            builder.wall(inner[k], inner[(k + 1) % 4], 0.45, 0.45, 0.0, QUAY, -1)
        self.walls = builder.walls()
        self.buildings = styles.Buildings.draw(self.seed, builder.buildings, self.params)
        b = self.walls.building
        faced = (self.walls.kind == FACADE) | (self.walls.kind == PARTY)
        self.walls.eaves[faced] = self.buildings.eaves[b[faced]]
        self.walls.roof[faced] = self.buildings.roof[b[faced]]
        self.walls.setback[faced & (self.walls.kind == FACADE)] = 2.2

    def _perimeter(self, builder: _Builder, inner: Floats, rng: np.random.Generator) -> None:
        # One builder may have raised several neighbours at once: runs of equal design make a street ambiguous.
        for k in range(4):
            a, b = inner[k], inner[(k + 1) % 4]
            length = float(np.hypot(*(b - a)))
            if length < 6:
                continue
            count = max(1, round(length / rng.uniform(14, 24)))
            cuts = np.concatenate([[0.0], np.cumsum(rng.uniform(0.7, 1.3, count))])
            cuts *= length / cuts[-1]
            direction = (b - a) / length
            inward = np.array([-direction[1], direction[0]])
            for q in range(count):
                twin = q > 0 and rng.random() < self.params.twin_share
                building = len(builder.buildings)
                builder.buildings.append(
                    {"frontage": cuts[q + 1] - cuts[q], "slab": False, "twin": building - 1 if twin else -1}
                )
                p, r = a + direction * cuts[q], a + direction * cuts[q + 1]
                builder.wall(p, r, 0, 0, 0, FACADE, building)
                # At a corner the neighbouring front closes the block: a party wall there would stand before it.
                for end in ([p] if q > 0 else []) + ([r] if q + 1 < count else []):
                    builder.wall(end, end + inward * 11.0, 0, 0, 0, PARTY, building)

    def _slabs(self, builder: _Builder, inner: Floats, rng: np.random.Generator) -> None:
        along = int(rng.integers(0, 2))
        a, b, c, d = np.roll(inner, -along, axis=0)
        count = 2 if np.hypot(*(d - a)) > 50 else 1
        for q in range(count):
            lo = (0.12 + 0.5 * q) if count == 2 else 0.3
            hi = lo + 0.26
            corner = [a + (d - a) * lo, b + (c - b) * lo, b + (c - b) * hi, a + (d - a) * hi]
            s = rng.uniform(0.06, 0.16)
            corner = [
                corner[0] + (corner[1] - corner[0]) * s,
                corner[1] + (corner[0] - corner[1]) * s,
                corner[2] + (corner[3] - corner[2]) * s,
                corner[3] + (corner[2] - corner[3]) * s,
            ]
            building = len(builder.buildings)
            builder.buildings.append({"frontage": math.dist(corner[0], corner[1]), "slab": True, "twin": -1})
            for k in range(4):
                builder.wall(corner[k], corner[(k + 1) % 4], 0, 0, 0, FACADE, building)

    def _kiosk(self, builder: _Builder, inner: Floats, rng: np.random.Generator) -> None:
        centre = inner.mean(axis=0) + rng.normal(0, 4, 2)
        w, h = rng.uniform(4, 9), rng.uniform(3, 6)
        e = np.array([math.cos(self.turn), math.sin(self.turn)])
        f = np.array([-e[1], e[0]])
        corner = [centre + e * sx * w + f * sy * h for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        building = len(builder.buildings)
        builder.buildings.append({"frontage": w, "slab": False, "twin": -1, "low": True})
        for k in range(4):
            builder.wall(corner[k], corner[(k + 1) % 4], 0, 0, 0, FACADE, building)

    def _hedges(self, builder: _Builder, inner: Floats, distances: list[float], rng: np.random.Generator) -> None:
        for k in range(4):
            if distances[k] < 1.5 or rng.random() < 0.35:
                continue
            a, b = inner[k], inner[(k + 1) % 4]
            length = float(np.hypot(*(b - a)))
            at = rng.uniform(1, 4)
            while at < length - 4:
                end = min(at + rng.uniform(8, 25), length - 1)
                height = rng.uniform(0.7, 1.9)
                builder.wall(a + (b - a) * at / length, a + (b - a) * end / length, height, height, 0.0, HEDGE, -1)
                at = end + rng.uniform(2, 6)

    # -- things that stand in the street -----------------------------------------------------------------------------

    def _plant(self) -> None:
        """Trees (x, y, crown radius, height, kind, key), lamps (x, y, height, kind), bays for cars and for people."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 3]))
        trees: list[tuple[float, ...]] = []
        lamps: list[tuple[float, ...]] = []
        cars: list[tuple[float, ...]] = []
        people: list[tuple[float, ...]] = []
        for inner, kind in self.block_shapes:
            if kind in (PERIMETER, WATER):
                continue
            area = Polygon(inner)
            spacing = {PARK: 70.0, SLABS: 190.0, SQUARE: 95.0}[kind]
            built = self._built_near(inner) if kind != PARK else None
            for _ in range(round(area.area / spacing)):
                x, y = rng.uniform(inner.min(axis=0), inner.max(axis=0))
                spot = Point(x, y)
                if area.buffer(-2.0).contains(spot) and (built is None or not built.buffer(3.0).contains(spot)):
                    big = rng.uniform(0.6, 1.25) * (1.25 if kind == PARK else 1.0)
                    trees.append((x, y, 3.2 * big, 9.5 * big, float(rng.integers(0, styles.TREE_KINDS)), rng.random()))
        for street in self.streets:
            if street.index in self.swallowed:
                continue
            length, width = street.length, street.width
            d = np.array([street.x1 - street.x0, street.y1 - street.y0]) / max(length, 1e-6)
            side = np.array([-d[1], d[0]])
            origin = np.array([street.x0, street.y0])
            avenue = width >= 17 and rng.random() < 0.7
            one_sided = rng.random() < 0.4
            phase = rng.uniform(0, 9)
            walk = styles.pavement(width)
            for s in (-1, 1):
                if avenue and not (one_sided and s == 1):
                    at = width / 2 + phase
                    while at < length - width / 2:
                        p = origin + d * at + side * s * (width / 2 - walk + 0.9)
                        big = rng.uniform(0.55, 1.0)
                        if rng.random() > 0.15:
                            trees.append(
                                (*p, 2.7 * big, 8.5 * big, float(rng.integers(0, styles.TREE_KINDS)), rng.random())
                            )
                        at += rng.uniform(8, 12)
                if width >= 12 or s == 1:
                    at = width / 2 + 2
                    while at < length - width / 2 - 2:
                        p = origin + d * at + side * s * (width / 2 - walk - 1.0)
                        cars.append((*p, math.atan2(d[1], d[0]), street.index, rng.random()))
                        at += 6.0
                for _ in range(int(length / 9)):
                    p = origin + d * rng.uniform(2, length - 2) + side * s * (width / 2 - rng.uniform(0.5, walk - 0.3))
                    people.append((*p, 0.0, street.index, rng.random()))
            at = width / 2 + rng.uniform(2, 14)
            kind = int(rng.integers(0, 3))
            while at < length - width / 2:
                s = rng.choice([-1, 1]) if kind == 0 else 1
                p = origin + d * at + side * s * (width / 2 - walk + 0.4)
                lamps.append((*p, 2.6 if kind == 2 else 6.5, kind, rng.random()))
                at += rng.uniform(18, 30)
        self.trees = np.array(trees).reshape(-1, 6)
        self.lamps = np.array(lamps).reshape(-1, 5)
        self.car_bays = np.array(cars).reshape(-1, 5)
        self.people_bays = np.array(people).reshape(-1, 5)

    def _built_near(self, inner: Floats) -> BaseGeometry:
        w = self.walls
        lo, hi = inner.min(axis=0) - 1, inner.max(axis=0) + 1
        near = (w.kind == FACADE) & (w.x0 > lo[0]) & (w.x0 < hi[0]) & (w.y0 > lo[1]) & (w.y0 < hi[1])
        lines = np.stack([np.column_stack([w.x0, w.y0]), np.column_stack([w.x1, w.y1])], axis=1)[near]
        polygons = []
        for building in np.unique(w.building[near]):
            points = lines[w.building[near] == building].reshape(-1, 2)
            polygons.append(shapely.MultiPoint(points).convex_hull)
        return shapely.unary_union(polygons) if polygons else Point(1e9, 1e9)

    # -- panoramas ---------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        """Drives per street line and month; a spot has those that passed it, 1-16 of them."""
        p = self.params
        first, last = p.years[0] * 12, p.years[1] * 12 + 11
        # Camera cars drive when it is light and dry, with exceptions.
        by_month = np.array([0.3, 0.4, 1.2, 2.2, 3.0, 3.4, 3.2, 2.6, 2.2, 1.4, 0.6, 0.3])
        calendar = np.arange(first, last + 1)
        weight = by_month[calendar % 12]
        panos: list[Pano] = []
        spots: list[tuple[float, float, int]] = []
        self.spot_panos: list[list[int]] = []
        inside = self.polygon.buffer(p.margin_m / 3)
        schedule: dict[int, Ints] = {}
        for street in self.streets:
            if not street.driven:
                continue
            if street.line not in schedule:
                rng = np.random.default_rng(np.random.SeedSequence([self.seed, 4, street.line]))
                # Log-weights plus Gumbel noise, one drive a year at most: sixteen distinct months of the period.
                score = np.log(weight) + rng.gumbel(size=len(calendar))
                best = [calendar[c] for c in np.argsort(-score, kind="stable")]
                chosen: dict[int, int] = {}
                for c in best:
                    chosen.setdefault(int(c) // 12, int(c))
                schedule[street.line] = np.array(list(chosen.values())[:16])
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, 5, street.index]))
            count = max(1, int(street.length / p.spot_spacing_m))
            typical = rng.normal(p.dates_mode, p.dates_spread)
            flip = 180.0 * (rng.random() < 0.5)
            stuck = self._stuck_frames(street, schedule[street.line], rng)
            d = np.array([street.x1 - street.x0, street.y1 - street.y0]) / street.length
            side = np.array([-d[1], d[0]])
            at_street: list[list[tuple[int, int]]] = []
            for k in range(count):
                at = street.length * (k + 0.5) / count
                centre = np.array([street.x0, street.y0]) + d * at
                number = int(np.clip(round(typical + rng.normal(0, 1.0)), 1, 16))
                passed = sorted(schedule[street.line][:16][rng.permutation(16)[:number]], reverse=True)
                if not inside.contains(Point(centre)):
                    continue
                spot = len(spots)
                spots.append((float(centre[0]), float(centre[1]), street.index))
                ids = []
                mine = []
                for month in passed:
                    key = int(hash_unit(self.seed, 6, spot, month) * 2**53)
                    drive = np.random.default_rng(np.random.SeedSequence([self.seed, 7, spot, int(month)]))
                    era = styles.camera(int(month))
                    lane = (street.width / 2 - styles.pavement(street.width) - 2.4) * drive.choice([-0.7, 0.15, 0.7])
                    x, y = (
                        centre
                        + d * drive.normal(0, p.position_error_m)
                        + side * (max(-4.0, min(4.0, lane)) + drive.normal(0, 0.35))
                    )
                    mine.append((int(month), len(panos)))
                    ids.append(len(panos))
                    panos.append(
                        Pano(
                            pano_id=_pano_id(self.seed, spot, int(month)),
                            spot=spot,
                            street=street.index,
                            month=int(month),
                            x=float(x),
                            y=float(y),
                            camera_height=float(era.height + drive.normal(0, 0.04)),
                            heading=round((street.bearing + flip) % 360.0, 1),
                            yaw_error=float(drive.normal(0, era.yaw_error * p.yaw_error)),
                            pitch_error=float(drive.normal(0, era.pitch_error)),
                            dated=bool(drive.random() > p.undated_share),
                            shown="",
                            dark=bool(drive.random() < p.dark_share),
                            key=key,
                        )
                    )
                at_street.append(mine)
                self.spot_panos.append(ids)
            for month in stuck:
                frames = [i for spot_frames in at_street for m, i in spot_frames if m == month]
                for i in frames[1:]:
                    panos[i] = Pano(**{**panos[i].__dict__, "shown": panos[frames[0]].pano_id})
        self.panos = panos
        self.spots = np.array(spots).reshape(-1, 3)
        self.by_id = {pano.pano_id: i for i, pano in enumerate(panos)}

    def _stuck_frames(self, street: Street, drives: Ints, rng: np.random.Generator) -> list[int]:
        """Drives whose camera hung on this stretch: all spots along it are served the same frame."""
        return [int(m) for m in drives if rng.random() < self.params.stuck_share]

    def pano(self, pano_id: str) -> Pano | None:
        i = self.by_id.get(pano_id)
        return None if i is None else self.panos[i]

    def dates(self, pano: Pano) -> list[Pano]:
        """All panoramas of the pano's spot, newest first."""
        return [self.panos[i] for i in self.spot_panos[pano.spot]]

    @cached_property
    def latlon(self) -> tuple[Floats, Floats]:
        """Degrees of all panoramas, in the order of ``panos``, rounded as the service tells them."""
        x = np.array([p.x for p in self.panos]) + self.origin[0]
        y = np.array([p.y for p in self.panos]) + self.origin[1]
        lat, lon = unproject(x, y, CRS)
        return lat.round(7), lon.round(7)

    def position(self, pano: Pano) -> tuple[float, float]:
        """Latitude and longitude of a panorama, degrees."""
        i = self.by_id[pano.pano_id]
        return float(self.latlon[0][i]), float(self.latlon[1][i])

    @cached_property
    def _newest(self) -> tuple[cKDTree, list[int]]:
        newest = [ids[0] for ids in self.spot_panos]
        return cKDTree([(self.panos[i].x, self.panos[i].y) for i in newest]), newest

    def nearest(self, lat: float, lon: float, radius_m: float) -> Pano | None:
        """The newest panorama of the spot nearest to a point within ``radius_m``, or None."""
        x, y = project(lat, lon, CRS)
        tree, newest = self._newest
        distance, i = tree.query([float(x) - self.origin[0], float(y) - self.origin[1]])
        return self.panos[newest[int(i)]] if distance <= radius_m else None

    def neighbours(self, pano: Pano, radius_m: float = 22.0) -> list[Pano]:
        """Panoramas of other spots a step away: of the same month where there is one, else the newest there."""
        tree, newest = self._newest
        found = []
        for i in tree.query_ball_point([pano.x, pano.y], radius_m):
            spot = self.panos[newest[i]].spot
            if spot == pano.spot:
                continue
            same = [self.panos[k] for k in self.spot_panos[spot] if self.panos[k].month == pano.month]
            found.append(same[0] if same else self.panos[newest[i]])
        return sorted(found, key=lambda p: p.pano_id)


def _pano_id(seed: int, spot: int, month: int) -> str:
    """22 characters of the URL-safe alphabet, as the real service's."""
    import base64

    digest = hashlib.blake2b(f"{seed}/{spot}/{month}".encode(), digest_size=16).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
