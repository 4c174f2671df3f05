"""Pictures of the simulated city: a panorama seen at a heading, as the service serves it.

The light of a picture is computed at the resolution of the camera generation that took it, then enlarged: old cameras
are soft, as in real collections. Everything is a function of (params, polygon, panorama, view): the same bytes twice
on one machine.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from streetrecall.simulator.city import styles
from streetrecall.simulator.city.plan import City, Pano
from streetrecall.simulator.city.styles import hash_unit
from streetrecall.simulator.render import kernels, textures

Bytes = NDArray[np.uint8]
T = TypeVar("T")

WIDTH, HEIGHT = 1512, 810
# At 1512 x 810 the viewer shows 120 degrees from left to right; the horizon lies above the middle, so that the crop of
# the upper 670 rows is centred on it.
FOV = 120.0
HORIZON = 0.448
QUALITY = 88


class Cache:
    """The last ``size`` results by key; threads that miss at once compute twice rather than wait."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                found: T = self._items[key]
                return found
        value = make()
        with self._lock:
            self._items[key] = value
            while len(self._items) > self.size:
                self._items.popitem(last=False)
        return value


@dataclass(frozen=True)
class _Scene:
    """What the ray caster needs of one panorama besides the city's plan."""

    floats: NDArray[np.float32]
    ints: NDArray[np.int64]
    shade: NDArray[np.float32]
    sprites: NDArray[np.float64]
    cars: NDArray[np.float64]
    environment: NDArray[np.float64]
    weather: styles.Weather


class Renderer:
    """Draws views of a city. Safe to use from several threads: the ray caster releases the interpreter's lock."""

    def __init__(self, city: City) -> None:
        self.city = city
        self.atlas = textures.atlas()
        self._looks = Cache(24)
        self._scenes = Cache(12)
        w = city.walls
        self._walls = (w.x0, w.y0, w.x1, w.y1, w.eaves, w.roof, w.setback, w.kind, w.building, w.length)
        self._grid()
        self._ground()

    def _grid(self) -> None:
        """Index wall segments by the cells of a uniform grid that their boxes touch."""
        w = self.city.walls
        cell = kernels.CELL
        self._gx = float(min(w.x0.min(), w.x1.min()) - cell)
        self._gy = float(min(w.y0.min(), w.y1.min()) - cell)
        self._nx = int((max(w.x0.max(), w.x1.max()) - self._gx) / cell) + 2
        self._ny = int((max(w.y0.max(), w.y1.max()) - self._gy) / cell) + 2
        pairs = []
        for k in range(len(w.x0)):
            steps = max(2, int(w.length[k] / cell * 8) + 2)
            s = np.linspace(0, 1, steps)
            i = ((w.x0[k] + (w.x1[k] - w.x0[k]) * s - self._gx) / cell).astype(int)
            j = ((w.y0[k] + (w.y1[k] - w.y0[k]) * s - self._gy) / cell).astype(int)
            # A sample every 1.25 m may miss a corner that is cut: take the neighbours between diagonal steps too.
            cells = set((j * self._nx + i).tolist())
            for a, b, c, d in zip(i[:-1], j[:-1], i[1:], j[1:], strict=True):
                if a != c and b != d:
                    cells |= {int(b * self._nx + c), int(d * self._nx + a)}
            pairs += [(q, k) for q in cells]
        table = np.array(sorted(pairs), dtype=np.int64)
        self._items = np.ascontiguousarray(table[:, 1])
        self._start = np.searchsorted(table[:, 0], np.arange(self._nx * self._ny + 1)).astype(np.int64)

    def _ground(self) -> None:
        """Rasters of the ground: distance to the nearest block, its kind, the nearest street."""
        city, step = self.city, kernels.GROUND_STEP
        self._rx, self._ry = self._gx, self._gy
        nx, ny = int(self._nx * kernels.CELL / step), int(self._ny * kernels.CELL / step)
        mask = np.zeros((ny, nx), np.uint8)
        kind = np.zeros((ny, nx), np.uint8)
        # Eight times finer outlines than the raster: fractions of a cell are kept in fixed point.
        for inner, what in city.block_shapes:
            points = np.round((inner - [self._rx, self._ry]) / step * 16).astype(np.int32)
            cv2.fillPoly(mask, [points], 1, cv2.LINE_8, 4)
            cv2.fillPoly(kind, [points], int(what), cv2.LINE_8, 4)
        outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        self._dist = ((outside - inside) * step).astype(np.float32)
        self._kind = kind
        rows = []
        label = np.zeros((ny, nx), np.int16)
        best = np.full((ny, nx), np.inf, np.float32)
        for s in city.streets:
            length = max(s.length, 1e-6)
            ux, uy = (s.x1 - s.x0) / length, (s.y1 - s.y0) / length
            chance = hash_unit(city.seed, 31, s.line)
            crossing = hash_unit(city.seed, 32, s.index)
            rows.append([s.x0, s.y0, ux, uy, length, s.width, styles.pavement(s.width),
                         float(chance < 0.28 and s.width < 15), float(crossing < 0.5)])  # fmt: skip
            reach = s.width / 2 + 6
            i0 = max(0, int((min(s.x0, s.x1) - reach - self._rx) / step))
            i1 = min(nx, int((max(s.x0, s.x1) + reach - self._rx) / step) + 1)
            j0 = max(0, int((min(s.y0, s.y1) - reach - self._ry) / step))
            j1 = min(ny, int((max(s.y0, s.y1) + reach - self._ry) / step) + 1)
            if i1 <= i0 or j1 <= j0:
                continue
            x = self._rx + np.arange(i0, i1)[None, :] * step - s.x0
            y = self._ry + np.arange(j0, j1)[:, None] * step - s.y0
            along = np.clip(x * ux + y * uy, 0, length)
            d = np.hypot(x - along * ux, y - along * uy) - s.width / 2
            closer = d < best[j0:j1, i0:i1]
            best[j0:j1, i0:i1][closer] = d[closer]
            label[j0:j1, i0:i1][closer] = s.index
        self._street_of = label
        self._streets = np.array(rows)

    # -- one panorama ------------------------------------------------------------------------------------------------

    def _look(self, month: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return self._looks.get(month, lambda: self.city.buildings.at(month))

    def _scene(self, pano: Pano) -> _Scene:
        return self._scenes.get(pano.pano_id, lambda: self._make_scene(pano))

    def _make_scene(self, pano: Pano) -> _Scene:
        city = self.city
        line = city.streets[pano.street].line
        sky = styles.weather(city.seed, line, pano.month)
        floats, ints = self._look(pano.month)
        azimuth, up = math.radians(sky.sun_azimuth), math.radians(sky.sun_elevation)
        sun = (math.sin(azimuth) * math.cos(up), math.cos(azimuth) * math.cos(up), math.sin(up))
        environment = np.zeros(kernels.ENVIRONMENT)
        environment[kernels.E_SUNX : kernels.E_SUNZ + 1] = sun
        environment[kernels.E_DIRECT] = sky.direct * 0.58
        environment[kernels.E_AMBIENT] = 0.92 - 0.35 * sky.direct
        environment[kernels.E_CLOUD] = sky.cloud
        environment[kernels.E_SNOW] = sky.snow
        environment[kernels.E_WET] = sky.wet
        environment[kernels.E_HAZE] = sky.haze
        environment[kernels.E_LEAVES] = sky.leaves
        environment[kernels.E_WARM] = sky.warmth
        environment[kernels.E_EXPOSURE] = sky.exposure
        environment[kernels.E_SKYX] = sky.key % 509
        environment[kernels.E_SKYY] = sky.key // 509 % 511
        side = 2 * kernels.SHADE_HALF + 1
        shade = np.ones((side, side), np.float32)
        trees = city.trees
        near = np.hypot(trees[:, 0] - pano.x, trees[:, 1] - pano.y) < 120
        if sky.direct > 0:
            w = city.walls
            flat = max(math.hypot(sun[0], sun[1]), 1e-9)
            kernels.shade_lattice(
                shade, pano.x, pano.y, sun[0] / flat, sun[1] / flat, max(0.08, sun[2] / flat),
                w.x0, w.y0, w.x1, w.y1, self._start, self._items, self._gx, self._gy, self._nx, self._ny, w.roof,
                np.ascontiguousarray(trees[near]), sky.leaves,
            )  # fmt: skip
            shade = cv2.GaussianBlur(shade, (3, 3), 0.7)
        return _Scene(floats, ints, shade, self._sprites(pano, sky, near), self._cars(pano), environment, sky)

    def _sprites(self, pano: Pano, sky: styles.Weather, near: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Rows: x, y, base, half width, top, shape, which, three colours, one more."""
        city, rows = self.city, []
        # Trees grow: three per cent a year, up to 2024.
        grown = 1.0 - 0.022 * max(0.0, 2024 - pano.month / 12)
        green = np.array([[0.42, 0.52, 0.20], [0.25, 0.35, 0.14], [0.64, 0.53, 0.16], [0.47, 0.32, 0.16]])
        for x, y, radius, height, kind, key in city.trees[near]:
            r, top = radius * grown, height * grown
            distance = math.hypot(x - pano.x, y - pano.y)
            if distance < r * 0.75:
                continue  # nobody drives through a tree: the camera would stand in its crown
            hue = min(2.999, max(0.0, sky.leaf_hue + (key - 0.5) * 0.5))
            a, b = green[int(hue)], green[int(hue) + 1]
            colour = (a + (b - a) * (hue % 1)) * (0.85 + 0.3 * key)
            base = 1.9 + 0.6 * key
            bark = (0.34, 0.29, 0.24) if key < 0.8 else (0.62, 0.60, 0.56)
            if sky.leaves < 0.9:
                rows.append((x, y, base * 0.8, r, top, kernels.BARE, kind, *(0.9 * c for c in bark), 0.0))
            rows.append((x, y, 0.0, 0.1 + 0.035 * r, base + 1.2, kernels.TRUNK, kind, *bark, 0.0))
            if sky.leaves > 0.05:
                s = 0.55 + 0.45 * sky.leaves
                rows.append((x, y, base, r * s, base + (top - base) * s, kernels.LEAFY, kind, *colour, 0.0))
        lamps = city.lamps
        close = np.hypot(lamps[:, 0] - pano.x, lamps[:, 1] - pano.y) < 90
        for x, y, height, kind, key in lamps[close]:
            grey = 0.3 + 0.25 * key
            rows.append((x, y, 0.0, 0.045 if kind == 2 else 0.07, height, kernels.POLE, 0, grey, grey, grey, 0.0))
            if kind == 2:
                which = int(key * 3)
                tone = ((0.94, 0.83, 0.2), (0.9, 0.75, 0.1), (0.12, 0.3, 0.62))[which]
                rows.append((x, y, height - 0.6, 0.3, height, kernels.SIGN, which, *tone, 0.0))
            else:
                rows.append((x, y, height - 0.15, 0.28, height + 0.4, kernels.LAMP, 0, 0.86, 0.86, 0.82, 0.0))
        people = city.people_bays
        close_index = np.flatnonzero(np.hypot(people[:, 0] - pano.x, people[:, 1] - pano.y) < 55)
        dice = hash_unit(city.seed, 33, close_index, pano.month)
        there = close_index[dice < city.params.people_share]
        traits = np.array([hash_unit(city.seed, 34, there, pano.month, k) for k in range(5)]).T
        for i, h in zip(there, traits, strict=True):
            x, y = people[i, 0], people[i, 1]
            if math.hypot(x - pano.x, y - pano.y) < 1.5:
                continue
            coat = styles.SIGNS[int(h[0] * 12)] * (0.3 + 0.5 * h[1]) + 0.08
            height = 1.58 + 0.3 * h[2]
            rows.append(
                (
                    x,
                    y,
                    0.12,
                    height / 4 * 1.0,
                    height,
                    kernels.PERSON,
                    int(h[3] * textures.PEOPLE),
                    *coat,
                    0.08 + 0.2 * h[4],
                )
            )
        return np.array(rows, dtype=np.float64).reshape(-1, 11)

    def _cars(self, pano: Pano) -> NDArray[np.float64]:
        """Rows: x, y, cosine and sine of the car's axis, half length, half width, kind, three colours."""
        city = self.city
        bays = city.car_bays
        near = np.flatnonzero(np.hypot(bays[:, 0] - pano.x, bays[:, 1] - pano.y) < 80)
        month = np.full(len(near), pano.month)
        # Some streets are full on one day and empty on another.
        fullness = city.params.parked_share + 0.35 * (hash_unit(city.seed, 36, bays[near, 3], month) - 0.5)
        near = near[hash_unit(city.seed, 35, near, month) < fullness]
        paints = np.array(
            [[0.85, 0.85, 0.85], [0.62, 0.63, 0.65], [0.1, 0.1, 0.11], [0.32, 0.33, 0.35], [0.5, 0.08, 0.07],
             [0.1, 0.17, 0.34], [0.2, 0.26, 0.2], [0.72, 0.68, 0.6], [0.07, 0.08, 0.12]]
        )  # fmt: skip
        rows = []
        dice = np.array([hash_unit(city.seed, 37, near, pano.month, k) for k in range(5)]).T
        for i, h in zip(near, dice, strict=True):
            x, y, angle = bays[i, 0], bays[i, 1], bays[i, 2] + (h[0] - 0.5) * 0.06 + (math.pi if h[1] < 0.5 else 0.0)
            if math.hypot(x - pano.x, y - pano.y) < 2.9:
                continue
            kind = 1 if h[2] < 0.14 else 2 if h[2] < 0.62 else 0
            half = 2.5 if kind == 1 else 1.95 + 0.4 * h[3]
            wide = 0.95 if kind == 1 else 0.86
            rows.append((x, y, math.cos(angle), math.sin(angle), half, wide, kind, *paints[int(h[4] * 9)]))
        return np.array(rows, dtype=np.float64).reshape(-1, 10)

    # -- pictures ----------------------------------------------------------------------------------------------------

    def view(
        self,
        pano: Pano,
        heading: float,
        width: int = WIDTH,
        height: int = HEIGHT,
        fov: float = FOV,
        pitch: float = 0.0,
        horizon: float = HORIZON,
    ) -> Bytes:
        """A perspective view, (height, width, 3) uint8 RGB.

        Args:
            heading: compass degrees of the middle column.
            fov: degrees from the left edge to the right one.
            pitch: degrees that the view looks up; the picture plane stays upright, so verticals stay straight.
            horizon: share of the height above the horizon at pitch 0.
        """
        shown = self._shown(pano)
        if shown.dark:
            return self._dark(width, height)
        era = styles.camera(shown.month)
        scale = self._scale(era, width, fov)
        w, h = max(16, round(width * scale)), max(16, round(height * scale))
        f = w / 2 / math.tan(math.radians(min(fov, 150.0)) / 2)
        cy = h * horizon + f * math.tan(math.radians(max(-60.0, min(60.0, pitch + shown.pitch_error))))
        offset = np.arctan((np.arange(w) + 0.5 - w / 2) / f)
        azimuth = math.radians(heading + shown.yaw_error) + offset
        img = self._cast(shown, azimuth, np.cos(offset), 0, f, cy, w, h)
        return self._develop(img, era, shown, width, height, heading)

    def panorama(self, pano: Pano, width: int = 2048) -> Bytes:
        """The whole sphere, equirectangular, (width / 2, width, 3) uint8 RGB; the middle column looks north."""
        shown = self._shown(pano)
        if shown.dark:
            return self._dark(width, width // 2)
        era = styles.camera(shown.month)
        scale = self._scale(era, width, 360.0)
        w = max(32, round(width * scale) // 2 * 2)
        azimuth = (np.arange(w) + 0.5) / w * 2 * math.pi - math.pi + math.radians(shown.yaw_error)
        img = self._cast(shown, azimuth, np.ones(w), 1, 1.0, 0.0, w, w // 2)
        return self._develop(img, era, shown, width, width // 2, 0.0)

    def _shown(self, pano: Pano) -> Pano:
        return (self.city.pano(pano.shown) if pano.shown else None) or pano

    @staticmethod
    def _scale(era: styles.Camera, width: int, fov: float) -> float:
        """How much smaller than asked to compute: a camera resolves so many pixels a degree, and no more."""
        asked = width / fov
        resolved = era.scale * WIDTH / FOV
        return min(1.0, resolved / asked)

    @staticmethod
    def _dark(width: int, height: int) -> Bytes:
        return np.full((height, width, 3), 3, np.uint8)

    def _cast(self, pano: Pano, azimuth: Any, ccol: Any, mode: int, f: float, cy: float, w: int, h: int) -> Bytes:
        scene = self._scene(pano)
        img = np.zeros((w, h, 3), np.uint8)
        a = self.atlas
        kernels.cast(
            img, np.sin(azimuth), np.cos(azimuth), np.ascontiguousarray(ccol), mode, f, cy, pano.x, pano.y,
            pano.camera_height, *self._walls, self._start, self._items, self._gx, self._gy, self._nx, self._ny,
            scene.floats, scene.ints, a.tiles, a.materials, a.crowns, a.people, a.noise, self._dist, self._kind,
            self._street_of, self._rx, self._ry, self._streets, scene.shade, scene.sprites, scene.cars,
            scene.environment,
        )  # fmt: skip
        return np.ascontiguousarray(img.transpose(1, 0, 2))

    def _develop(self, img: Bytes, era: styles.Camera, pano: Pano, width: int, height: int, heading: float) -> Bytes:
        """What lens, sensor and processing make of the light: blur, tone, colour, noise, vignette, enlargement."""
        if era.blur > 0:
            img = cv2.GaussianBlur(img, (0, 0), era.blur)
        x = np.arange(256) / 255.0
        tables = np.empty((1, 256, 3), np.uint8)
        for c in range(3):
            curve = (x - 0.5) * era.contrast + 0.5
            tables[0, :, c] = np.clip(np.round(np.clip(curve * era.gain[c], 0, 1) * 255), 0, 255)
        img = cv2.LUT(img, tables)
        if era.saturation != 1.0:
            s = era.saturation
            luma = np.array([0.299, 0.587, 0.114])
            matrix = s * np.eye(3) + (1 - s) * luma[None, :]
            img = cv2.transform(img, matrix.astype(np.float32))
        if era.noise > 0:
            h, w = img.shape[:2]
            img = cv2.add(img, _grain(h, w, era.noise), dtype=cv2.CV_8U)
        if img.shape[:2] != (height, width):
            img = cv2.resize(img, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(img, dtype=np.uint8)


_grains = Cache(16)


def _grain(h: int, w: int, noise: float) -> NDArray[np.int16]:
    """Sensor noise (h, w, 3): one pattern a size; it is far below what a facade differs by."""

    def make() -> NDArray[np.int16]:
        rng = np.random.default_rng([106, h, w])
        return np.repeat(np.round(rng.normal(0, noise, (h, w, 1))), 3, axis=2).astype(np.int16)

    return _grains.get((h, w, noise), make)


def jpeg(picture: Bytes, quality: int = QUALITY) -> bytes:
    """A picture (h, w, 3) RGB as JPEG."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError("the JPEG encoder gave up")
    return data.tobytes()


def grey(width: int, height: int) -> Bytes:
    """What the static-image contract serves where there is no imagery."""
    return np.full((height, width, 3), 228, np.uint8)


_renderers = Cache(2)


def renderer(city: City) -> Renderer:
    """The renderer of a city, one a process."""
    return _renderers.get(id(city), lambda: Renderer(city))


def view(city: City, pano_id: str, heading: float) -> Bytes:
    """The frame that the viewer page shows at 1512 x 810: (810, 1512, 3) uint8 RGB.

    Raises:
        KeyError: the city has no such panorama.
    """
    pano = city.pano(pano_id)
    if pano is None:
        raise KeyError(pano_id)
    return renderer(city).view(pano, heading)
