"""How things look: designs of buildings and how they change over the years, cameras, weather, season and sun.

Colours are RGB in 0-1 as displayed. Months are counted since year 0 (`streetrecall.simulator.city.plan.months`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.params.schema import Simulated
from streetrecall.simulator.render import textures

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TREE_KINDS = textures.CROWNS

_WALLS = np.array(
    [
        [214, 172, 112], [226, 196, 134], [205, 146, 92], [188, 112, 78], [222, 176, 152], [206, 202, 194],
        [230, 224, 210], [214, 200, 172], [178, 184, 168], [176, 190, 200], [196, 160, 130], [168, 160, 150],
    ]
) / 255.0  # fmt: skip
_BRICKS = np.array([[150, 78, 58], [128, 74, 56], [168, 96, 70], [176, 140, 104], [112, 66, 56], [186, 150, 110]]) / 255
_STONES = np.array([[168, 164, 156], [150, 140, 128], [188, 182, 170], [140, 132, 128]]) / 255.0
_TRIMS = np.array([[236, 230, 216], [214, 206, 190], [176, 166, 150], [150, 120, 96], [240, 238, 232]]) / 255.0
_FRAMES = np.array(
    [[238, 236, 230], [232, 226, 210], [96, 62, 44], [70, 84, 70], [60, 60, 64], [128, 44, 38], [210, 200, 176]]
) / 255.0  # fmt: skip
_ROOFS = np.array([[92, 90, 92], [70, 72, 76], [124, 72, 58], [96, 120, 108], [58, 56, 58], [140, 84, 62]]) / 255.0
SIGNS = np.array(
    [
        [178, 36, 40], [30, 74, 140], [34, 104, 70], [226, 178, 40], [40, 40, 44], [232, 230, 224], [120, 40, 90],
        [226, 120, 40], [20, 120, 140], [92, 66, 46], [60, 90, 60], [150, 20, 60],
    ]
) / 255.0  # fmt: skip

# Columns of the tables that the ray caster reads: one row a building.
F_EAVES, F_ROOF, F_GROUND, F_FLOOR, F_BAY, F_RELIEF, F_WALL = 0, 1, 2, 3, 4, 5, 6
F_TRIM, F_FRAME, F_TOP, F_SHOP, F_SIGN, F_BLIND, F_LIT = 9, 12, 15, 18, 21, 24, 27
FLOAT_COLUMNS = 28
I_FLOORS, I_GROUND, I_DOOR, I_FIRST, I_MAIN, I_ACCENT, I_TOP, I_MATERIAL = range(8)
I_ACCENTS, I_DOORS, I_SCAFFOLD, I_KEY, I_CORNICE, I_DORMER, I_SHOP, I_SIGNROW = range(8, 16)
INT_COLUMNS = 16


def hash_unit(*keys: Any) -> Floats:
    """Uniform numbers in [0, 1) that depend on the (broadcast) integer keys alone: splitmix64, no state.

    >>> bool(hash_unit(1, 2) == hash_unit(1, 2)), bool(hash_unit(1, 2) == hash_unit(2, 1))
    (True, False)
    """
    with np.errstate(over="ignore"):
        state: Any = np.uint64(0x9E3779B97F4A7C15)
        for key in keys:
            state = (state ^ np.asarray(key).astype(np.int64).view(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
            state = state ^ (state >> np.uint64(29))
            state = (state + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(32))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) / 2.0**53)


def pavement(width: float) -> float:
    """Width of a street's pavement, metres, for the street's width between its facades."""
    return 1.6 if width < 11 else 2.2 if width < 13 else 2.8 if width < 16 else 3.4 if width < 20 else 4.4


@dataclass(frozen=True)
class Camera:
    """A generation of camera: ``scale`` is the resolution of the 1512 pixel frame that it resolves."""

    name: str
    scale: float
    height: float
    blur: float  # standard deviation, pixels of the resolved picture
    contrast: float
    saturation: float
    gain: tuple[float, float, float]
    noise: float  # standard deviation, 8-bit levels
    vignette: float
    yaw_error: float  # degrees
    pitch_error: float  # degrees


CAMERAS = (
    Camera("2007", 0.36, 2.9, 0.75, 1.16, 0.86, (1.00, 1.00, 1.05), 3.0, 0.28, 1.6, 0.9),
    Camera("2009", 0.44, 2.75, 0.6, 1.12, 1.00, (1.02, 1.00, 0.96), 2.2, 0.20, 1.2, 0.7),
    Camera("2014", 0.54, 2.55, 0.4, 1.00, 0.94, (0.98, 1.00, 1.03), 1.4, 0.12, 0.8, 0.5),
    Camera("2018", 0.6, 2.45, 0.0, 1.06, 1.10, (1.00, 1.00, 1.00), 0.8, 0.06, 0.5, 0.3),
)


def camera(month: int) -> Camera:
    """The generation of camera that drove in a month.

    >>> camera(2008 * 12).name, camera(2023 * 12).name
    ('2007', '2018')
    """
    year = month / 12.0
    return CAMERAS[0 if year < 2009 else 1 if year < 2013.5 else 2 if year < 2017.8 else 3]


@dataclass(frozen=True)
class Weather:
    """Light and season of one drive: angles in degrees, shares 0-1, colours RGB 0-1."""

    sun_azimuth: float
    sun_elevation: float
    direct: float  # 0: overcast
    cloud: float
    snow: float
    wet: float
    haze: float
    leaves: float
    leaf_hue: float  # 0 fresh green, 1 deep green, 2 yellow, 3 brown
    exposure: float
    warmth: float
    key: int


def weather(seed: int, line: int, month: int) -> Weather:
    """The weather of the drive along street line ``line`` in ``month``: sun as at 59.3 degrees north."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 21, line, month]))
    m = month % 12
    day = m * 30.4 + rng.uniform(0, 30)
    declination = -23.44 * math.cos(2 * math.pi * (day + 10) / 365)
    span = max(2.0, 5.5 + 3.0 * math.cos(2 * math.pi * (day - 172) / 365))
    hour_angle = math.radians(15 * rng.uniform(-span, span) * 0.8)
    phi, delta = math.radians(59.3), math.radians(declination)
    sin_e = math.sin(phi) * math.sin(delta) + math.cos(phi) * math.cos(delta) * math.cos(hour_angle)
    elevation = max(6.0, math.degrees(math.asin(sin_e)))
    azimuth = 180 + math.degrees(
        math.atan2(math.sin(hour_angle), math.cos(hour_angle) * math.sin(phi) - math.tan(delta) * math.cos(phi))
    )
    sky = rng.random()
    direct = 0.0 if sky < 0.42 else rng.uniform(0.35, 0.65) if sky < 0.6 else rng.uniform(0.75, 1.0)
    cloud = rng.uniform(0.8, 1.0) if direct == 0 else rng.uniform(0.35, 0.7) if direct < 0.7 else rng.uniform(0, 0.4)
    snow = 0.0
    if m in (11, 0, 1, 2) and rng.random() < (0.7 if m in (0, 1) else 0.35):
        snow = rng.uniform(0.5, 1.0)
    leaves = (0, 0, 0, 0.12, 0.75, 1, 1, 1, 0.95, 0.6, 0.12, 0)[m]
    hue = (0, 0, 0, 0.0, 0.15, 0.7, 1.0, 1.1, 1.4, 2.2, 2.8, 3)[m] + rng.normal(0, 0.12)
    return Weather(
        sun_azimuth=azimuth % 360,
        sun_elevation=elevation,
        direct=direct,
        cloud=cloud,
        snow=snow,
        wet=float(rng.uniform(0.5, 1.0)) if direct == 0 and snow == 0 and rng.random() < 0.3 else 0.0,
        haze=rng.uniform(0.05, 0.35),
        leaves=leaves,
        leaf_hue=float(np.clip(hue, 0, 3)),
        exposure=float(rng.normal(1.0, 0.09)),
        warmth=float(rng.normal(0, 0.035)) + (0.05 if elevation < 18 and direct > 0 else 0.0),
        key=int(rng.integers(0, 2**31)),
    )


def _pick(rng: np.random.Generator, options: Any) -> int:
    options = list(options)
    return int(options[int(rng.integers(0, len(options)))])


def _design(rng: np.random.Generator, frontage: float, slab: bool, low: bool, eaves: float | None) -> dict[str, Any]:
    """One design of one building; ``eaves`` fixes the height where a building is rebuilt."""
    t = textures
    period = rng.random()  # old plaster, brick between the wars, modern
    ground = 3.2 if low else rng.uniform(3.5, 4.9) if not slab else rng.uniform(2.7, 3.2)
    floor = rng.uniform(3.2, 3.9) if period < 0.5 and not slab else rng.uniform(2.75, 3.1)
    if eaves is None:
        floors = 0 if low else int(rng.integers(3, 9) if slab else rng.choice([2, 3, 4, 4, 5, 5, 5, 6]))
        eaves = ground + floors * floor + (0.9 if not low else 0.4)
    else:
        floors = max(1, round((eaves - ground - 0.9) / floor)) if not low else 0
        floor = (eaves - ground - 0.9) / floors if floors else floor
    brick = (period > 0.5 and rng.random() < 0.5) or (slab and rng.random() < 0.4)
    stone = not brick and rng.random() < 0.14
    colour = (_BRICKS if brick else _STONES if stone else _WALLS)[_pick(rng, range(4 if stone else 6 if brick else 12))]
    colour = np.clip(colour * rng.normal(1, 0.05) + rng.normal(0, 0.015, 3), 0.05, 0.97)
    if slab or (period > 0.78 and not low):
        family, accents = t.MODERN, t.BALCONIES
    else:
        family, accents = t.CLASSIC, t.CLASSIC + t.BALCONIES
    main = _pick(rng, family)
    bay = rng.uniform(3.2, 4.6) if family is t.MODERN else rng.uniform(2.3, 3.5)
    bays = max(1, round(frontage / bay))
    style = rng.random()
    columns = np.zeros(62, dtype=bool)
    if style < 0.4:
        first, step = int(rng.integers(0, 3)), int(rng.integers(2, 5))
        columns[first::step] = True
    elif style < 0.7:
        columns[[0, max(0, bays - 1)]] = True
    elif style < 0.85:
        columns[bays // 2] = True
    shop = bool(not slab and rng.random() < 0.62)
    doors = np.zeros(62, dtype=bool)
    doors[int(rng.integers(0, max(1, bays)))] = True
    return {
        "eaves": eaves,
        "roof": eaves + (0.0 if slab or low else rng.choice([0.0, 2.2, 3.0, 3.8], p=[0.2, 0.25, 0.3, 0.25])),
        "ground": ground,
        "floor": floor,
        "bay": bay,
        "relief": rng.uniform(0.5, 1.0),
        "wall": colour,
        "trim": np.clip(_TRIMS[_pick(rng, range(5))] * rng.normal(1, 0.04), 0, 0.98)
        if rng.random() < 0.65
        else np.clip(colour * rng.uniform(0.75, 1.2), 0, 0.97),
        "frame": _FRAMES[_pick(rng, range(7))],
        "top": _ROOFS[_pick(rng, range(6))],
        "floors": floors,
        "tile_ground": _pick(rng, t.SHOPS if shop or low else t.BASEMENTS),
        "tile_door": _pick(rng, t.DOORS),
        "tile_first": _pick(rng, family) if rng.random() < 0.45 else main,
        "tile_main": main,
        "tile_accent": _pick(rng, accents) if rng.random() < 0.75 else main,
        "tile_top": _pick(rng, family) if rng.random() < 0.3 else main,
        "material": t.BRICK if brick else t.ASHLAR if stone else _pick(rng, (t.PLASTER, t.PLASTER, t.STAINED)),
        "accents": columns,
        "doors": doors,
        "cornice": int(rng.integers(0, 4)),
        "dormer": _pick(rng, t.DORMERS) if rng.random() < 0.6 else t.PLAIN,
        "shop": int(shop or low),
        "sign_row": int(rng.random() < 0.7),
    }


def _bits(columns: NDArray[np.bool_]) -> int:
    return int(sum(1 << i for i, on in enumerate(columns) if on))


@dataclass
class Buildings:
    """All buildings: two designs each (as built, and after a rebuilding), and the months in which they change."""

    seed: int
    floats: Floats  # (2, n, FLOAT_COLUMNS)
    ints: Ints  # (2, n, INT_COLUMNS)
    rebuilt: Ints  # (n,) month from which the second design stands
    repainted: Ints  # (n, 2) months
    paints: Floats  # (n, 2, 3)
    scaffold: Ints  # (n, 2) from and to month
    shop_phase: Ints  # (n,)
    shop_years: Floats  # (n,) mean life of a shop
    eaves: Floats
    roof: Floats

    @classmethod
    def draw(cls, seed: int, plans: list[dict[str, Any]], params: Simulated) -> Buildings:
        """Design every building of ``plans`` (frontage in metres, slab, twin: an earlier one of equal design)."""
        n = len(plans)
        floats = np.zeros((2, n, FLOAT_COLUMNS))
        ints = np.zeros((2, n, INT_COLUMNS), dtype=np.int64)
        first, last = params.years[0] * 12, params.years[1] * 12 + 11
        never = last + 1000
        rebuilt = np.full(n, never)
        repainted = np.full((n, 2), never)
        paints = np.zeros((n, 2, 3))
        scaffold = np.full((n, 2), never)
        designs: list[dict[str, Any]] = []
        for b, plan in enumerate(plans):
            rng = np.random.default_rng(np.random.SeedSequence([seed, 22, b]))
            twin = plan["twin"]
            if twin >= 0 and rng.random() < 0.9:
                design = dict(designs[twin])
                if rng.random() < 0.6:
                    design["wall"] = _WALLS[_pick(rng, range(12))]
            else:
                design = _design(rng, plan["frontage"], plan["slab"], plan.get("low", False), None)
            designs.append(design)
            if rng.random() < params.rebuilt_share:
                rebuilt[b] = int(rng.integers(first + 12, last - 12))
                after = _design(rng, plan["frontage"], plan["slab"], plan.get("low", False), design["eaves"])
                after["roof"] = design["roof"]
                scaffold[b] = (rebuilt[b] - rng.integers(5, 14), rebuilt[b])
            else:
                after = design
            for k in range(2):
                if rng.random() < params.repainted_share:
                    repainted[b, k] = int(rng.integers(first, last))
                    paints[b, k] = np.clip(_WALLS[_pick(rng, range(12))] * rng.normal(1, 0.06), 0.05, 0.97)
                    scaffold[b] = (repainted[b, k] - rng.integers(4, 11), repainted[b, k])
            if repainted[b, 0] > repainted[b, 1]:
                repainted[b] = repainted[b, ::-1]
                paints[b] = paints[b, ::-1]
            for v, d in enumerate((design, after)):
                f, i = floats[v, b], ints[v, b]
                f[[F_EAVES, F_ROOF, F_GROUND, F_FLOOR, F_BAY, F_RELIEF]] = [
                    d[k] for k in ("eaves", "roof", "ground", "floor", "bay", "relief")
                ]
                for column, part in ((F_WALL, "wall"), (F_TRIM, "trim"), (F_FRAME, "frame"), (F_TOP, "top")):
                    f[column : column + 3] = d[part]
                i[:] = [
                    d["floors"], d["tile_ground"], d["tile_door"], d["tile_first"], d["tile_main"], d["tile_accent"],
                    d["tile_top"], d["material"], _bits(d["accents"]), _bits(d["doors"]), 0,
                    int(rng.integers(0, 2**31)), d["cornice"], d["dormer"], d["shop"], d["sign_row"],
                ]  # fmt: skip
        rng = np.random.default_rng(np.random.SeedSequence([seed, 23]))
        return cls(
            seed, floats, ints, rebuilt, repainted, paints, scaffold,
            rng.integers(0, 200, n), rng.uniform(2.0, 9.0, n), floats[0, :, F_EAVES], floats[0, :, F_ROOF],
        )  # fmt: skip

    def at(self, month: int) -> tuple[NDArray[np.float32], Ints]:
        """Tables of the ray caster for one month: floats (n, FLOAT_COLUMNS), ints (n, INT_COLUMNS)."""
        n = len(self.rebuilt)
        version = (month >= self.rebuilt).astype(np.int64)
        rows = np.arange(n)
        floats = self.floats[version, rows].copy()
        ints = self.ints[version, rows].copy()
        for k in range(2):
            due = (month >= self.repainted[:, k]) & (ints[:, I_MATERIAL] != textures.BRICK)
            floats[due, F_WALL : F_WALL + 3] = self.paints[due, k]
        ints[:, I_SCAFFOLD] = (month >= self.scaffold[:, 0]) & (month < self.scaffold[:, 1])
        era = ((month + self.shop_phase) / (12 * self.shop_years)).astype(np.int64)

        def dice(k: int) -> Floats:
            return hash_unit(self.seed, 24, rows, era, k)

        tint = np.column_stack([dice(k) for k in (1, 2, 3)])
        floats[:, F_SHOP : F_SHOP + 3] = np.clip(
            SIGNS[(dice(0) * len(SIGNS)).astype(int)] * 0.5 + 0.1 + tint * 0.2, 0, 1
        )
        floats[:, F_SIGN : F_SIGN + 3] = SIGNS[(dice(4) * len(SIGNS)).astype(int)]
        floats[:, F_BLIND], floats[:, F_LIT] = dice(5), dice(6)
        shop = ints[:, I_SHOP] == 1
        fronts = np.array(textures.SHOPS)[(dice(7) * len(textures.SHOPS)).astype(int)]
        ints[shop, I_GROUND] = fronts[shop]
        ints[shop, I_SIGNROW] = (dice(8)[shop] * 4).astype(int)
        return floats.astype(np.float32), ints
