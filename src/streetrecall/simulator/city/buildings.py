"""Buildings: their designs, and how they change over the years.

Colours are RGB in 0-1 as displayed. Months are counted since year 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streetrecall.params.schema import Simulated
from streetrecall.simulator.city import kinds
from streetrecall.simulator.city.chance import Stream, generator, hash_unit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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

# Columns of the two tables of buildings, which the ray caster reads. A colour takes three columns.
F_EAVES, F_ROOF, F_GROUND, F_FLOOR, F_BAY, F_RELIEF, F_WALL = 0, 1, 2, 3, 4, 5, 6
F_TRIM, F_FRAME, F_TOP, F_SHOP, F_SIGN, F_BLIND, F_LIT = 9, 12, 15, 18, 21, 24, 27
FLOAT_COLUMNS = 28
I_FLOORS, I_GROUND, I_DOOR, I_FIRST, I_MAIN, I_ACCENT, I_TOP, I_MATERIAL = range(8)
I_ACCENTS, I_DOORS, I_SCAFFOLD, I_KEY, I_CORNICE, I_DORMER, I_SHOP, I_SIGNROW = range(8, 16)
INT_COLUMNS = 16

MAX_BAYS = 62  # a building's marked bays are the bits of one integer


@dataclass(frozen=True)
class Plot:
    """What the plan says of a building before it is designed."""

    frontage: float  # metres
    slab: bool = False  # a free-standing slab of flats
    low: bool = False  # a kiosk of one storey
    twin: int = -1  # an earlier building with the same design, or -1


@dataclass(frozen=True)
class Design:
    """What a building looks like. Heights are metres above the street; ``tile_*`` are numbers of facade tiles."""

    eaves: float
    roof: float
    ground: float  # height of the ground floor
    floor: float  # height of every other floor
    bay: float  # width of a bay, metres
    relief: float
    wall: Floats
    trim: Floats
    frame: Floats
    top: Floats  # colour of the roof
    floors: int  # above the ground floor
    tile_ground: int
    tile_door: int
    tile_first: int
    tile_main: int
    tile_accent: int
    tile_top: int
    material: int
    accents: NDArray[np.bool_]  # bays with the accent's tile
    doors: NDArray[np.bool_]  # bays with a door
    cornice: int
    dormer: int
    shop: int
    sign_row: int


def design(rng: np.random.Generator, plot: Plot, eaves: float | None = None) -> Design:
    """A random design for a plot; ``eaves`` fixes the height where a building is rebuilt."""
    slab, low = plot.slab, plot.low
    period = rng.random()  # from 0, old plaster, over brick between the wars to 1, modern
    ground, floor, floors, eaves = _storeys(rng, plot, period, eaves)
    brick = (period > 0.5 and rng.random() < 0.5) or (slab and rng.random() < 0.4)
    stone = not brick and rng.random() < 0.14
    palette = _BRICKS if brick else _STONES if stone else _WALLS
    colour = palette[rng.integers(0, len(palette))]
    colour = np.clip(colour * rng.normal(1, 0.05) + rng.normal(0, 0.015, 3), 0.05, 0.97)
    modern = slab or (period > 0.78 and not low)
    family = kinds.MODERN if modern else kinds.CLASSIC
    main = _pick(rng, family)
    bay = rng.uniform(3.2, 4.6) if modern else rng.uniform(2.3, 3.5)
    bays = max(1, round(plot.frontage / bay))
    accents = _accent_bays(rng, bays)
    shop = bool(not slab and rng.random() < 0.62)
    doors = np.zeros(MAX_BAYS, dtype=bool)
    doors[int(rng.integers(0, max(1, bays)))] = True
    return Design(
        eaves=eaves,
        roof=eaves + (0.0 if slab or low else rng.choice([0.0, 2.2, 3.0, 3.8], p=[0.2, 0.25, 0.3, 0.25])),
        ground=ground,
        floor=floor,
        bay=bay,
        relief=rng.uniform(0.5, 1.0),
        wall=colour,
        trim=np.clip(_TRIMS[rng.integers(0, 5)] * rng.normal(1, 0.04), 0, 0.98)
        if rng.random() < 0.65
        else np.clip(colour * rng.uniform(0.75, 1.2), 0, 0.97),
        frame=_FRAMES[rng.integers(0, 7)],
        top=_ROOFS[rng.integers(0, 6)],
        floors=floors,
        tile_ground=_pick(rng, kinds.SHOPS if shop or low else kinds.BASEMENTS),
        tile_door=_pick(rng, kinds.DOORS),
        tile_first=_pick(rng, family) if rng.random() < 0.45 else main,
        tile_main=main,
        tile_accent=_pick(rng, kinds.BALCONIES if modern else kinds.CLASSIC + kinds.BALCONIES)
        if rng.random() < 0.75
        else main,
        tile_top=_pick(rng, family) if rng.random() < 0.3 else main,
        material=kinds.BRICK
        if brick
        else kinds.ASHLAR
        if stone
        else _pick(rng, [kinds.PLASTER, kinds.PLASTER, kinds.STAINED]),
        accents=accents,
        doors=doors,
        cornice=int(rng.integers(0, 4)),
        dormer=_pick(rng, kinds.DORMERS) if rng.random() < 0.6 else kinds.PLAIN,
        shop=int(shop or low),
        sign_row=int(rng.random() < 0.7),
    )


def _pick(rng: np.random.Generator, options: list[int]) -> int:
    return options[int(rng.integers(0, len(options)))]


def _storeys(
    rng: np.random.Generator, plot: Plot, period: float, eaves: float | None
) -> tuple[float, float, int, float]:
    """Height of the ground floor, height of the other floors, their number, and height of the eaves."""
    slab, low = plot.slab, plot.low
    ground = 3.2 if low else rng.uniform(3.5, 4.9) if not slab else rng.uniform(2.7, 3.2)
    floor = rng.uniform(3.2, 3.9) if period < 0.5 and not slab else rng.uniform(2.75, 3.1)
    if eaves is None:
        floors = 0 if low else int(rng.integers(3, 9) if slab else rng.choice([2, 3, 4, 4, 5, 5, 5, 6]))
        return ground, floor, floors, ground + floors * floor + (0.9 if not low else 0.4)
    floors = max(1, round((eaves - ground - 0.9) / floor)) if not low else 0
    return ground, (eaves - ground - 0.9) / floors if floors else floor, floors, eaves


def _accent_bays(rng: np.random.Generator, bays: int) -> NDArray[np.bool_]:
    """Which bays have the accent's tile: every few, the outermost, the middle one or none."""
    columns = np.zeros(MAX_BAYS, dtype=bool)
    style = rng.random()
    if style < 0.4:
        first, step = int(rng.integers(0, 3)), int(rng.integers(2, 5))
        columns[first::step] = True
    elif style < 0.7:
        columns[[0, max(0, bays - 1)]] = True
    elif style < 0.85:
        columns[bays // 2] = True
    return columns


def _bits(columns: NDArray[np.bool_]) -> int:
    return int(sum(1 << i for i, on in enumerate(columns) if on))


def _write(design: Design, key: int, floats: Floats, ints: Ints) -> None:
    """Fill a building's rows (FLOAT_COLUMNS,) and (INT_COLUMNS,) with a design."""
    floats[[F_EAVES, F_ROOF, F_GROUND, F_FLOOR, F_BAY, F_RELIEF]] = [
        design.eaves, design.roof, design.ground, design.floor, design.bay, design.relief,
    ]  # fmt: skip
    for column, colour in (
        (F_WALL, design.wall),
        (F_TRIM, design.trim),
        (F_FRAME, design.frame),
        (F_TOP, design.top),
    ):
        floats[column : column + 3] = colour
    ints[:] = [
        design.floors, design.tile_ground, design.tile_door, design.tile_first, design.tile_main, design.tile_accent,
        design.tile_top, design.material, _bits(design.accents), _bits(design.doors), 0, key, design.cornice,
        design.dormer, design.shop, design.sign_row,
    ]  # fmt: skip


@dataclass
class Buildings:
    """All n buildings: two designs each (as built, and after a rebuilding), and the months in which they change."""

    seed: int
    floats: Floats  # (2, n, FLOAT_COLUMNS)
    ints: Ints  # (2, n, INT_COLUMNS)
    rebuilt: Ints  # (n,) month from which the second design applies
    repainted: Ints  # (n, 2) months, the earlier one first
    paints: Floats  # (n, 2, 3) colours of the two repaintings
    scaffold: Ints  # (n, 2) first month with a scaffold, first month without
    shop_phase: Ints  # (n,) months
    shop_years: Floats  # (n,) mean life of a shop
    eaves: Floats
    roof: Floats

    @classmethod
    def draw(cls, seed: int, plots: list[Plot], params: Simulated) -> Buildings:
        """Design the buildings of all plots, in order: a twin must come after the building that it copies."""
        n = len(plots)
        floats = np.zeros((2, n, FLOAT_COLUMNS))
        ints = np.zeros((2, n, INT_COLUMNS), dtype=np.int64)
        first, last = params.years[0] * 12, params.years[1] * 12 + 11
        never = last + 1000
        rebuilt = np.full(n, never)
        repainted = np.full((n, 2), never)
        paints = np.zeros((n, 2, 3))
        scaffold = np.full((n, 2), never)
        designs: list[Design] = []
        for b, plot in enumerate(plots):
            rng = generator(seed, Stream.BUILDING, b)
            if plot.twin >= 0 and rng.random() < 0.9:
                before = designs[plot.twin]
                if rng.random() < 0.6:
                    before = replace(before, wall=_WALLS[rng.integers(0, 12)])
            else:
                before = design(rng, plot)
            designs.append(before)
            after = before
            if rng.random() < params.rebuilt_share:
                rebuilt[b] = int(rng.integers(first + 12, max(first + 13, last - 12)))
                after = replace(design(rng, plot, before.eaves), roof=before.roof)
                scaffold[b] = (rebuilt[b] - rng.integers(5, 14), rebuilt[b])
            for k in range(2):
                if rng.random() < params.repainted_share:
                    repainted[b, k] = int(rng.integers(first, last))
                    paints[b, k] = np.clip(_WALLS[rng.integers(0, 12)] * rng.normal(1, 0.06), 0.05, 0.97)
                    scaffold[b] = (repainted[b, k] - rng.integers(4, 11), repainted[b, k])
            if repainted[b, 0] > repainted[b, 1]:
                repainted[b] = repainted[b, ::-1]
                paints[b] = paints[b, ::-1]
            for version, built in enumerate((before, after)):
                _write(built, int(rng.integers(0, 2**31)), floats[version, b], ints[version, b])
        rng = generator(seed, Stream.SHOPS)
        return cls(
            seed, floats, ints, rebuilt, repainted, paints, scaffold,
            rng.integers(0, 200, n), rng.uniform(2.0, 9.0, n), floats[0, :, F_EAVES], floats[0, :, F_ROOF],
        )  # fmt: skip

    def at(self, month: int) -> tuple[NDArray[np.float32], Ints]:
        """What all buildings look like in a month: tables (n, FLOAT_COLUMNS) and (n, INT_COLUMNS)."""
        rows = np.arange(len(self.rebuilt))
        version = (month >= self.rebuilt).astype(np.int64)
        floats = self.floats[version, rows].copy()
        ints = self.ints[version, rows].copy()
        for k in range(2):
            due = (month >= self.repainted[:, k]) & (ints[:, I_MATERIAL] != kinds.BRICK)
            floats[due, F_WALL : F_WALL + 3] = self.paints[due, k]
        ints[:, I_SCAFFOLD] = (month >= self.scaffold[:, 0]) & (month < self.scaffold[:, 1])
        # A shop changes its front with its tenant.
        tenant = ((month + self.shop_phase) / (12 * self.shop_years)).astype(np.int64)

        def dice(k: int) -> Floats:
            return hash_unit(self.seed, Stream.SHOP_FRONTS, rows, tenant, k)

        tint = np.column_stack([dice(k) for k in (1, 2, 3)])
        floats[:, F_SHOP : F_SHOP + 3] = np.clip(
            SIGNS[(dice(0) * len(SIGNS)).astype(int)] * 0.5 + 0.1 + tint * 0.2, 0, 1
        )
        floats[:, F_SIGN : F_SIGN + 3] = SIGNS[(dice(4) * len(SIGNS)).astype(int)]
        floats[:, F_BLIND], floats[:, F_LIT] = dice(5), dice(6)
        shop = ints[:, I_SHOP] == 1
        fronts = np.array(kinds.SHOPS)[(dice(7) * len(kinds.SHOPS)).astype(int)]
        ints[shop, I_GROUND] = fronts[shop]
        ints[shop, I_SIGNROW] = (dice(8)[shop] * 4).astype(int)
        return floats.astype(np.float32), ints
