"""The ray caster: one picture column at a time, over extruded walls, standing cut-outs and cars. Compiled by numba.

A level camera sees vertical walls in vertical columns, so each column needs one ray through the plan of the city (a
uniform grid of wall segments, walked cell by cell) and a paint of what it hits from far to near; the vertical
position on a wall follows from the slope of the pixel. The same code draws perspective views and equirectangular
panoramas, which differ only in the slopes of rows and columns. Strict IEEE arithmetic (no fast-math): equal input,
equal bytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streetrecall.simulator.city import styles
from streetrecall.simulator.render import textures

Array = NDArray[Any]

_OPTIONS = {"nogil": True, "cache": True, "fastmath": False, "error_model": "numpy"}

CELL = 10.0
REACH = 320.0
GROUND_STEP = 0.5
SHADE_STEP = 0.7
SHADE_HALF = 62  # lattice cells to each side of the camera

# Kinds of sprite.
LEAFY, BARE, TRUNK, PERSON, POLE, LAMP, SIGN = range(7)

(E_SUNX, E_SUNY, E_SUNZ, E_DIRECT, E_AMBIENT, E_CLOUD, E_SNOW, E_WET, E_HAZE, E_LEAVES, E_WARM, E_EXPOSURE, E_SKYX,
 E_SKYY) = range(14)  # fmt: skip
ENVIRONMENT = 14

_TILE_STRIDE = (textures.TILE * textures.TILE * 4 - 1) // 3 * textures.TILE_CHANNELS
_MATERIAL_STRIDE = (textures.MATERIAL * textures.MATERIAL * 4 - 1) // 3
_CROWN_STRIDE = (textures.CROWN * textures.CROWN * 4 - 1) // 3 * 2


@njit(**_OPTIONS)
def _hash(
    a: int,
    b: int,
    c: int,
) -> float:
    h = (a * 374761393 + b * 668265263 + c * 2147483647 + 974634777) & 0x7FFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
    h = ((h ^ (h >> 15)) * 1103515245 + 12345) & 0x7FFFFFFF
    return (h ^ (h >> 16)) / 2147483648.0


@njit(**_OPTIONS)
def _noise(
    noise: Array,
    x: float,
    y: float,
) -> float:
    """Tileable value noise at a position in texels, bilinear."""
    wrap = textures.NOISE - 1  # a power of two less one
    fx, fy = math.floor(x), math.floor(y)
    ax, ay = x - fx, y - fy
    i, j = int(fx) & wrap, int(fy) & wrap
    k, m = (i + 1) & wrap, (j + 1) & wrap
    return (noise[j, i] * (1 - ax) + noise[j, k] * ax) * (1 - ay) + (noise[m, i] * (1 - ax) + noise[m, k] * ax) * ay


@njit(**_OPTIONS)
def _level(
    texels: float,
    size: int,
) -> tuple[int, int]:
    """Mip level at which one pixel covers about one texel; and the offset of that level in texels, and its size."""
    level, offset, side = 0, 0, size
    while texels > 1.42 and side > 1:
        offset += side * side
        side //= 2
        level += 1
        texels *= 0.5
    return offset, side


@njit(**_OPTIONS)
def _material(
    mats: Array,
    which: int,
    x: float,
    y: float,
    offset: int,
    side: int,
) -> float:
    """A material's brightness (1: unchanged) at x, y in units of its square, nearest texel of one mip level."""
    i = math.floor((x - math.floor(x)) * side)
    j = math.floor((y - math.floor(y)) * side)
    if i >= side:
        i = side - 1
    if j >= side:
        j = side - 1
    return mats[which * _MATERIAL_STRIDE + offset + j * side + i] / 128.0


@njit(**_OPTIONS)
def _walk(
    ox: float,
    oy: float,
    dx: float,
    dy: float,
    reach: float,
    x0: Array,
    y0: Array,
    x1: Array,
    y1: Array,
    start: Array,
    items: Array,
    gx: float,
    gy: float,
    nx: int,
    ny: int,
    eaves: Array,
    roof: Array,
    cam: float,
    tan_up: float,
    ht: Array,
    hi: Array,
    hu: Array,
) -> float:
    """Walls along a ray. With ``tan_up`` < 0: all visible hits into ht (distance), hi (wall), hu (0-1 along it);
    returns their number. Else (sun rays) returns the height below which the start point is in shadow."""
    count = 0
    shadow = -1e9
    cx, cy = math.floor((ox - gx) / CELL), math.floor((oy - gy) / CELL)
    step_x, step_y = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    inv_x = 1.0 / dx if abs(dx) > 1e-12 else 1e18
    inv_y = 1.0 / dy if abs(dy) > 1e-12 else 1e18
    next_x = (gx + (cx + (1 if dx > 0 else 0)) * CELL - ox) * inv_x if abs(dx) > 1e-12 else 1e18
    next_y = (gy + (cy + (1 if dy > 0 else 0)) * CELL - oy) * inv_y if abs(dy) > 1e-12 else 1e18
    delta_x, delta_y = abs(CELL * inv_x), abs(CELL * inv_y)
    t_in = 0.0
    top_slope = -1e9  # steepest opaque top so far: nothing lower behind it is seen
    while t_in < reach:
        if cx < 0 or cy < 0 or cx >= nx or cy >= ny:
            break
        t_out = min(next_x, next_y)
        c = cy * nx + cx
        first = count
        for k in range(start[c], start[c + 1]):
            w = items[k]
            ex, ey = x1[w] - x0[w], y1[w] - y0[w]
            cross = dx * ey - dy * ex
            if abs(cross) < 1e-9:
                continue
            qx, qy = x0[w] - ox, y0[w] - oy
            t = (qx * ey - qy * ex) / cross
            if t < t_in or t >= t_out or t < 0.05:
                continue
            u = (qx * dy - qy * dx) / cross
            if u < 0.0 or u > 1.0:
                continue
            if tan_up >= 0:
                h = roof[w] - t * tan_up
                if h > shadow and t > 0.4:
                    shadow = h
            elif count < ht.shape[0]:
                j = count
                while j > first and ht[j - 1] > t:
                    ht[j], hi[j], hu[j] = ht[j - 1], hi[j - 1], hu[j - 1]
                    j -= 1
                ht[j], hi[j], hu[j] = t, w, u
                count += 1
        if tan_up >= 0:
            if 34.0 - t_out * tan_up < shadow:
                break
        else:
            keep = first
            for j in range(first, count):
                s = (roof[hi[j]] - cam) / ht[j]
                if s > top_slope:
                    ht[keep], hi[keep], hu[keep] = ht[j], hi[j], hu[j]
                    keep += 1
                    top_slope = max(top_slope, (eaves[hi[j]] - cam) / ht[j])
            count = keep
            if top_slope > (36.0 - cam) / max(t_out, 0.1):
                break
        t_in = t_out
        if next_x < next_y:
            next_x += delta_x
            cx += step_x
        else:
            next_y += delta_y
            cy += step_y
    if tan_up >= 0:
        return shadow
    return float(count)


@njit(**_OPTIONS)
def shade_lattice(
    out: Array,
    ox: float,
    oy: float,
    sun_x: float,
    sun_y: float,
    tan_up: float,
    x0: Array,
    y0: Array,
    x1: Array,
    y1: Array,
    start: Array,
    items: Array,
    gx: float,
    gy: float,
    nx: int,
    ny: int,
    roof: Array,
    trees: Array,
    leaf: float,
) -> None:
    """Fill ``out`` (side, side), the share of direct sun on the ground around (ox, oy), 0-1."""
    side = out.shape[0]
    none_f, none_i = np.empty(0), np.empty(0, np.int64)
    for j in range(side):
        for i in range(side):
            x, y = ox + (i - side // 2) * SHADE_STEP, oy + (j - side // 2) * SHADE_STEP
            h = _walk(
                x, y, sun_x, sun_y, 34.0 / tan_up, x0, y0, x1, y1, start, items, gx, gy, nx, ny, roof, roof, 0.0,
                tan_up, none_f, none_i, none_f,
            )  # fmt: skip
            out[j, i] = 0.0 if h > 0 else 1.0
    for k in range(trees.shape[0]):
        r, top = trees[k, 2], trees[k, 3]
        low = top * 0.25
        for q in range(6):
            z = low + (top - low) * (q + 0.5) / 6
            d = z / tan_up
            w = r * math.sqrt(max(0.05, 1 - ((q - 2.5) / 3.2) ** 2))
            cx = (trees[k, 0] - sun_x * d - ox) / SHADE_STEP + side // 2
            cy = (trees[k, 1] - sun_y * d - oy) / SHADE_STEP + side // 2
            reach = w / SHADE_STEP
            if cx < -reach or cy < -reach or cx > side + reach or cy > side + reach:
                continue
            for j in range(max(0, int(cy - reach)), min(side, int(cy + reach) + 2)):
                for i in range(max(0, int(cx - reach)), min(side, int(cx + reach) + 2)):
                    if (i - cx) ** 2 + (j - cy) ** 2 < reach * reach:
                        out[j, i] *= 1.0 - (0.12 + 0.5 * leaf) * (0.5 + 0.5 * _hash(i, j, k))


@njit(**_OPTIONS)
def _row(
    slope: float,
    mode: int,
    f: float,
    cy: float,
    height: float,
) -> float:
    if mode == 0:
        return cy - f * slope
    return height * 0.5 - math.atan(slope) * height / math.pi


@njit(**_OPTIONS)
def _sky(
    out: Array,
    dx: float,
    dy: float,
    slope: float,
    env: Array,
    noise: Array,
) -> None:
    up = slope / math.sqrt(1.0 + slope * slope)
    up = max(up, 0.0)
    cloud, direct = env[E_CLOUD], env[E_DIRECT]
    root = math.sqrt(up)
    r = 0.72 - 0.42 * root
    g = 0.82 - 0.32 * root
    b = 0.93 - 0.12 * root
    k = 260.0 / (slope + 0.16)
    n = _noise(noise, dx * k * 0.5 + env[E_SKYX], dy * k * 0.5 + env[E_SKYY])
    n2 = _noise(noise, dx * k * 1.7 + env[E_SKYY], dy * k * 1.7 + env[E_SKYX])
    n = 0.75 * n + 0.25 * n2
    cover = (n - (0.78 - 0.62 * cloud)) / 0.2
    cover = min(1.0, max(0.0, cover))
    cover = cover * cover * (3 - 2 * cover)
    white = 0.93 - 0.22 * max(0.0, n - 0.45) * (1.0 + cloud) - 0.1 * (cloud if direct == 0 else 0.0)
    r += (white * 0.985 - r) * cover
    g += (white * 0.99 - g) * cover
    b += (white * 1.01 - b) * cover
    if direct > 0:
        inv = 1.0 / math.sqrt(1.0 + slope * slope)
        cosine = (dx * env[E_SUNX] + dy * env[E_SUNY]) * inv + slope * inv * env[E_SUNZ]
        if cosine > 0.5:
            glow = (cosine - 0.5) * 2
            glow = glow * glow * glow
            glow = glow * glow * 0.5 * direct
            r += glow
            g += glow * 0.96
            b += glow * 0.85
    out[0], out[1], out[2] = r, g, b


@njit(**_OPTIONS)
def _facade(
    out: Array,
    z: float,
    u: float,
    bay_u: float,
    bay: int,
    bf: Array,
    bi: Array,
    b: int,
    wkind: int,
    tiles: Array,
    mats: Array,
    noise: Array,
    t_off: int,
    t_side: int,
    m_off: int,
    m_side: int,
    coarse: float,
) -> None:
    """Colour of a facade at height z (m) and u metres along it, before light; out[3] is its shade factor."""
    ground, floor_h, eaves = bf[b, styles.F_GROUND], bf[b, styles.F_FLOOR], bf[b, styles.F_EAVES]
    floors = bi[b, styles.I_FLOORS]
    wr, wg, wb = bf[b, styles.F_WALL], bf[b, styles.F_WALL + 1], bf[b, styles.F_WALL + 2]
    tr, tg, tb = bf[b, styles.F_TRIM], bf[b, styles.F_TRIM + 1], bf[b, styles.F_TRIM + 2]
    key = bi[b, styles.I_KEY]
    tile = textures.PLAIN
    fv = 0.5
    floor = -1
    shop = bi[b, styles.I_SHOP] == 1 and z < ground
    fr, fg, fb = bf[b, styles.F_FRAME], bf[b, styles.F_FRAME + 1], bf[b, styles.F_FRAME + 2]
    if z < ground:
        door = (bi[b, styles.I_DOORS] >> min(bay, 61)) & 1
        tile = bi[b, styles.I_DOOR] if door == 1 else bi[b, styles.I_GROUND]
        fv = 1.0 - z / ground
        if shop:
            fr, fg, fb = bf[b, styles.F_SHOP], bf[b, styles.F_SHOP + 1], bf[b, styles.F_SHOP + 2]
        if bi[b, styles.I_CORNICE] >= 2 or shop:  # a rusticated or painted ground floor
            wr, wg, wb = wr * 0.55 + tr * 0.3, wg * 0.55 + tg * 0.3, wb * 0.55 + tb * 0.3
    else:
        q = (z - ground) / floor_h
        floor = int(q)
        if floor < floors:
            fv = 1.0 - (q - floor)
            if (bi[b, styles.I_ACCENTS] >> min(bay, 61)) & 1:
                tile = bi[b, styles.I_ACCENT]
            elif floor == 0:
                tile = bi[b, styles.I_FIRST]
            elif floor == floors - 1:
                tile = bi[b, styles.I_TOP]
            else:
                tile = bi[b, styles.I_MAIN]
    shade = 1.0
    trim = frame = glass = iron = 0.0
    if tile != textures.PLAIN and wkind == 0:
        x, y = bay_u * t_side - 0.5, fv * t_side - 0.5
        i, j = math.floor(x), math.floor(y)
        ax, ay = x - i, y - j
        i0, i1 = max(i, 0), min(i + 1, t_side - 1)
        j0, j1 = max(j, 0), min(j + 1, t_side - 1)
        base = tile * _TILE_STRIDE + t_off * textures.TILE_CHANNELS
        a00, a10 = base + (j0 * t_side + i0) * 5, base + (j0 * t_side + i1) * 5
        a01, a11 = base + (j1 * t_side + i0) * 5, base + (j1 * t_side + i1) * 5
        w00, w10, w01, w11 = (1 - ax) * (1 - ay), ax * (1 - ay), (1 - ax) * ay, ax * ay
        s = 1.0 / 255.0
        trim = (tiles[a00] * w00 + tiles[a10] * w10 + tiles[a01] * w01 + tiles[a11] * w11) * s
        frame = (tiles[a00 + 1] * w00 + tiles[a10 + 1] * w10 + tiles[a01 + 1] * w01 + tiles[a11 + 1] * w11) * s
        glass = (tiles[a00 + 2] * w00 + tiles[a10 + 2] * w10 + tiles[a01 + 2] * w01 + tiles[a11 + 2] * w11) * s
        iron = (tiles[a00 + 3] * w00 + tiles[a10 + 3] * w10 + tiles[a01 + 3] * w01 + tiles[a11 + 3] * w11) * s
        dim = (tiles[a00 + 4] * w00 + tiles[a10 + 4] * w10 + tiles[a01 + 4] * w01 + tiles[a11 + 4] * w11) / 128.0
        shade = 1.0 + (dim - 1.0) * bf[b, styles.F_RELIEF]
    square = 1.28 if bi[b, styles.I_MATERIAL] == textures.BRICK else 2.56
    m = _material(mats, bi[b, styles.I_MATERIAL], u / square, z / square, m_off, m_side)
    stain = 0.93 + 0.14 * _noise(noise, u * 11.0 + (key & 511), z * 7.0 + (key >> 9 & 511))
    m *= stain
    rest = max(0.0, 1.0 - trim - frame - glass - iron)
    # Bands that are not part of a bay: plinth, string course, cornice.
    cornice = bi[b, styles.I_CORNICE]
    if u < 0.13 and wkind == 0 and key & 4 and z < eaves - 0.4:
        out[0], out[1], out[2], out[3] = 0.36, 0.35, 0.33, 0.8 + 1.6 * u
        return
    if z < 0.55 and tile != bi[b, styles.I_DOOR]:
        rest, trim, frame, glass, iron = 0.0, 0.0, 0.0, 0.0, 0.0
        plinth = 0.42 * m
        out[0], out[1], out[2] = plinth, plinth * 0.98, plinth * 0.95
        out[3] = shade
        return
    if abs(z - ground - 0.1) < 0.16 and cornice != 1:
        rest, trim, frame, glass = 0.0, 1.0, 0.0, 0.0
    elif z > eaves - (0.35 + 0.2 * cornice):
        rest, trim, glass, frame, iron = 0.0, 1.0, 0.0, 0.0, 0.0
        shade = 0.78 if z < eaves - 0.22 else 1.03
        if cornice == 3 and coarse < 0.09 and math.sin(u * 9.0) > 0.2:
            shade *= 0.8
    gr, gg, gb = 0.0, 0.0, 0.0
    if glass > 0.01:
        h = _hash(bay, floor, key)
        # The sky above and the houses across, broken differently by each pane.
        mirror = _noise(noise, u * 13.0 + h * 300.0, z * 9.0 + h * 90.0)
        rise = 0.04 + (0.14 + 0.5 * h * h) * max(0.0, 1.35 - 1.2 * fv) * (0.35 + 1.3 * max(0.0, mirror - 0.2))
        gr, gg, gb = 0.07 + rise * 0.88, 0.085 + rise, 0.1 + rise * 1.1
        if shop:
            lit = bf[b, styles.F_LIT]
            n = _noise(noise, u * 60.0 + (key & 1023), z * 60.0 + lit * 512)
            gr, gg, gb = gr * 0.5 + n * 0.3 * lit, gg * 0.5 + n * 0.25 * lit, gb * 0.5 + n * 0.18 * lit
        else:
            cloth = _hash(bay + 77, floor, key + int(bf[b, styles.F_BLIND] * 1000))
            if cloth < 0.34 and fv < 0.25 + cloth * 1.6:
                gr, gg, gb = gr * 0.3 + 0.5, gg * 0.3 + 0.49, gb * 0.3 + 0.46
    out[0] = (wr * m) * rest + tr * trim * (0.5 + 0.5 * m) + fr * frame + gr * glass + 0.13 * iron
    out[1] = (wg * m) * rest + tg * trim * (0.5 + 0.5 * m) + fg * frame + gg * glass + 0.13 * iron
    out[2] = (wb * m) * rest + tb * trim * (0.5 + 0.5 * m) + fb * frame + gb * glass + 0.14 * iron
    if shop and wkind == 0 and bi[b, styles.I_SIGNROW] > 0:
        up = ground - z
        sr, sg, sb = bf[b, styles.F_SIGN], bf[b, styles.F_SIGN + 1], bf[b, styles.F_SIGN + 2]
        kind = bi[b, styles.I_SIGNROW]
        if kind == 1 and 0.25 < up < 0.8:  # a board with strokes on it
            ink = 0.0
            if 0.36 < up < 0.68 and 0.15 < bay_u < 0.85 and coarse < 0.12:
                ink = 1.0 if _hash(int(u * 7), int(up * 12), key) > 0.52 else 0.0
            v = 0.92 if sr + sg + sb < 1.6 else 0.12
            out[0], out[1], out[2] = sr + (v - sr) * ink, sg + (v - sg) * ink, sb + (v - sb) * ink
            shade = 1.0
        elif kind == 2 and 0.55 < up < 1.35:  # awnings, striped or plain
            pale = 1.0 if (int(u * 2.5) & 1) == 0 and (key & 1) == 0 else 0.0
            if 0.04 < bay_u < 0.96:
                out[0], out[1], out[2] = sr + (0.9 - sr) * pale, sg + (0.88 - sg) * pale, sb + (0.84 - sb) * pale
                shade = 1.06 - 0.3 * (up - 0.55)
        elif kind == 3 and 0.3 < up < 0.62 and 0.3 < bay_u < 0.7 and (bay & 1) == 0:
            out[0], out[1], out[2] = sr, sg, sb
    if bi[b, styles.I_SCAFFOLD] == 1:
        net = 0.62
        tone = 0.75 + 0.2 * _noise(noise, u * 9.0, z * 5.0)
        if key & 2:
            nr, ng, nb = 0.82 * tone, 0.84 * tone, 0.84 * tone
        else:
            nr, ng, nb = 0.36 * tone, 0.52 * tone, 0.46 * tone
        bar = 0.0
        pz, pu = z - 2.0 * math.floor(z / 2.0), u - 2.4 * math.floor(u / 2.4)
        if pz < 0.09 + coarse or pu < 0.07 + coarse:
            bar = 0.7 if coarse < 0.4 else 0.2
        if z < 2.2:
            net *= 0.3
        for k in range(3):
            base_colour = nr if k == 0 else ng if k == 1 else nb
            v = out[k] + (base_colour - out[k]) * net
            out[k] = v + (0.3 - v) * bar
        shade = 0.5 + 0.5 * shade
    out[3] = shade


@njit(**_OPTIONS)
def _car_top(
    lx: float,
    half_l: float,
    kind: int,
) -> tuple[float, int]:
    """Height of a car's roof line and whether there is glass, at lx metres ahead of its middle."""
    s = lx / half_l
    if kind == 1:  # van
        if s > 0.86:
            return 1.05, 0
        if s > 0.55:
            return 1.05 + (0.86 - s) / 0.31 * 0.95, 1
        return 2.0, 0
    if kind == 2:  # estate, hatchback
        if s > 0.5:
            return 0.78 + 0.14 * (1.0 - (s - 0.5) * 2), 0
        if s > 0.12:
            return 0.92 + (0.5 - s) / 0.38 * 0.56, 1
        if s > -0.8:
            return 1.48, 0
        return 0.95 + (s + 1.0) / 0.2 * 0.53, 1
    if s > 0.5:
        return 0.76 + 0.14 * (1.0 - (s - 0.5) * 2), 0
    if s > 0.14:
        return 0.9 + (0.5 - s) / 0.36 * 0.52, 1
    if s > -0.4:
        return 1.42, 0
    if s > -0.72:
        return 0.96 + (s + 0.72) / 0.32 * 0.46, 1
    return 0.94, 0


@njit(**_OPTIONS)
def _car_knot(
    kind: int,
    q: int,
) -> float:
    """Where a car's roof line bends, in half lengths ahead of its middle; -2 where there is no more."""
    if kind == 1:
        return 0.86 if q == 0 else 0.55 if q == 1 else -2.0
    if kind == 2:
        return 0.5 if q == 0 else 0.12 if q == 1 else -0.8 if q == 2 else -2.0
    return 0.5 if q == 0 else 0.14 if q == 1 else -0.4 if q == 2 else -0.72


@njit(**_OPTIONS)
def cast(
    img: Array,
    dxs: Array,
    dys: Array,
    ccol: Array,
    mode: int,
    f: float,
    cy: float,
    ox: float,
    oy: float,
    cam: float,
    x0: Array,
    y0: Array,
    x1: Array,
    y1: Array,
    eaves: Array,
    roof: Array,
    setback: Array,
    wkind: Array,
    wbuilding: Array,
    wlength: Array,
    start: Array,
    items: Array,
    gx: float,
    gy: float,
    nx: int,
    ny: int,
    bf: Array,
    bi: Array,
    tiles: Array,
    mats: Array,
    crowns: Array,
    people: Array,
    noise: Array,
    dist: Array,
    kind: Array,
    street_of: Array,
    rx: float,
    ry: float,
    streets: Array,
    shade: Array,
    sprites: Array,
    cars: Array,
    env: Array,
) -> None:
    """Draw a picture into ``img`` (width, height, 3; columns first, uint8).

    ``dxs, dys`` (unit, east and north) and ``ccol`` (slope per unit of row slope) describe the columns; mode 0 is
    perspective with focal length f and horizon row cy, 1 equirectangular. See
    `streetrecall.simulator.render.view` for the tables.
    """
    width, height = img.shape[0], img.shape[1]
    ht, hi, hu = np.empty(512), np.empty(512, np.int64), np.empty(512)
    lt, lk, li, lu = np.empty(900), np.empty(900, np.int64), np.empty(900, np.int64), np.empty(900)
    rgb, sky, kt = np.empty(4), np.empty(4), np.empty(8)
    half_shade = shade.shape[0] // 2
    sun_x, sun_y, sun_z, direct, ambient = env[E_SUNX], env[E_SUNY], env[E_SUNZ], env[E_DIRECT], env[E_AMBIENT]
    flat = math.sqrt(sun_x * sun_x + sun_y * sun_y)
    flat_x, flat_y = sun_x / max(flat, 1e-9), sun_y / max(flat, 1e-9)
    tan_up = sun_z / max(flat, 1e-9)
    snow, wet, haze = env[E_SNOW], env[E_WET], env[E_HAZE]
    expose = env[E_EXPOSURE] * 255.0
    sun_r, sun_g, sun_b = 1.0 + env[E_WARM], 0.97, 0.9 - env[E_WARM]
    amb_r, amb_g, amb_b = 0.96, 1.0, 1.06
    if direct == 0:
        amb_r, amb_b = 1.0, 1.0
    # Haze takes the horizon's colour, whatever the azimuth.
    _sky(sky, flat_x, flat_y, 0.03, env, noise)
    fog_r, fog_g, fog_b = 0.5 * sky[0] + 0.42, 0.5 * sky[1] + 0.43, 0.5 * sky[2] + 0.44
    fine = f if mode == 0 else height / math.pi
    for c in range(width):
        dx, dy, cc = dxs[c], dys[c], ccol[c]
        walls = int(
            _walk(
                ox, oy, dx, dy, REACH, x0, y0, x1, y1, start, items, gx, gy, nx, ny, eaves, roof, cam, -1.0, ht, hi, hu
            )
        )  # fmt: skip
        n = 0
        for k in range(walls):
            lt[n], lk[n], li[n], lu[n] = ht[k], 0, hi[k], hu[k]
            n += 1
        nearest_wall = 1e9
        for k in range(walls):
            if wkind[hi[k]] <= 1:
                nearest_wall = min(nearest_wall, ht[k])
        far = 1e9 if walls == 0 else REACH
        for k in range(sprites.shape[0]):
            px, py = sprites[k, 0] - ox, sprites[k, 1] - oy
            t = px * dx + py * dy
            if t < 0.7 or t > far:
                continue
            s = -px * dy + py * dx
            if abs(s) < sprites[k, 3] and n < 890:
                # Behind a wall only what rises above it can be seen: trees do, people do not.
                if t > nearest_wall and sprites[k, 4] < 5:
                    continue
                lt[n], lk[n], li[n], lu[n] = t, 1, k, s
                n += 1
        for k in range(cars.shape[0]):
            px, py = ox - cars[k, 0], oy - cars[k, 1]
            ca, sa = cars[k, 2], cars[k, 3]
            lx, ly = px * ca + py * sa, -px * sa + py * ca
            ddx, ddy = dx * ca + dy * sa, -dx * sa + dy * ca
            hl, hw = cars[k, 4], cars[k, 5]
            ta, tb = -1e9, 1e9
            if abs(ddx) > 1e-9:
                a, b2 = (-hl - lx) / ddx, (hl - lx) / ddx
                ta, tb = max(ta, min(a, b2)), min(tb, max(a, b2))
            elif abs(lx) > hl:
                continue
            if abs(ddy) > 1e-9:
                a, b2 = (-hw - ly) / ddy, (hw - ly) / ddy
                ta, tb = max(ta, min(a, b2)), min(tb, max(a, b2))
            elif abs(ly) > hw:
                continue
            if ta < tb and ta > 0.6 and ta < nearest_wall and n < 890:
                lt[n], lk[n], li[n], lu[n] = ta, 2, k, tb
                n += 1
        for a in range(1, n):  # insertion sort, far to near
            t, k, i, u = lt[a], lk[a], li[a], lu[a]
            b = a
            while b > 0 and lt[b - 1] < t:
                lt[b], lk[b], li[b], lu[b] = lt[b - 1], lk[b - 1], li[b - 1], lu[b - 1]
                b -= 1
            lt[b], lk[b], li[b], lu[b] = t, k, i, u
        # The part of the column that walls do not hide.
        horizon = int(_row(0.0, mode, f, cy, height))
        sky_to, ground_from = horizon, horizon
        for k in range(walls):
            if wkind[hi[k]] <= 1:
                w = hi[k]
                sky_to = min(sky_to, int(_row((eaves[w] - cam) / ht[k] / cc, mode, f, cy, height)) + 2)
        if nearest_wall < 1e8:
            ground_from = max(horizon, int(_row(-cam / nearest_wall / cc, mode, f, cy, height)) - 1)
        for r in range(0, min(height, max(sky_to, 0))):
            slope = ((cy - r - 0.5) / f if mode == 0 else math.tan(math.pi * (0.5 - (r + 0.5) / height))) * cc
            _sky(rgb, dx, dy, max(slope, 0.0), env, noise)
            for q in range(3):
                img[c, r, q] = np.uint8(min(255.0, max(0.0, rgb[q] * expose)))
        for r in range(max(0, min(sky_to, horizon)), min(height, max(ground_from, horizon))):
            img[c, r, 0] = np.uint8(min(255.0, fog_r * expose))
            img[c, r, 1] = np.uint8(min(255.0, fog_g * expose))
            img[c, r, 2] = np.uint8(min(255.0, fog_b * expose))
        for r in range(max(0, ground_from), height):
            slope = ((cy - r - 0.5) / f if mode == 0 else math.tan(math.pi * (0.5 - (r + 0.5) / height))) * cc
            if slope > -0.004:
                slope = -0.004
            t = -cam / slope
            x, y = ox + dx * t, oy + dy * t
            gi, gj = (x - rx) / GROUND_STEP, (y - ry) / GROUND_STEP
            i, j = int(gi), int(gj)
            if i < 0 or j < 0 or i + 1 >= dist.shape[1] or j + 1 >= dist.shape[0]:
                img[c, r, 0] = np.uint8(min(255.0, fog_r * expose))
                img[c, r, 1] = np.uint8(min(255.0, fog_g * expose))
                img[c, r, 2] = np.uint8(min(255.0, fog_b * expose))
                continue
            ax, ay = gi - i, gj - j
            d = (dist[j, i] * (1 - ax) + dist[j, i + 1] * ax) * (1 - ay) + (
                dist[j + 1, i] * (1 - ax) + dist[j + 1, i + 1] * ax
            ) * ay
            foot = t * t / (cam * fine)
            texels = math.sqrt(foot * t / fine) * 100.0
            off, side = _level(texels, textures.MATERIAL)
            big = _noise(noise, x * 6.0, y * 6.0)
            white = 0.0
            st = street_of[j, i]
            sx, sy, ux, uy, sl, sw = (
                streets[st, 0], streets[st, 1], streets[st, 2], streets[st, 3], streets[st, 4], streets[st, 5],
            )  # fmt: skip
            along = (x - sx) * ux + (y - sy) * uy
            across = -(x - sx) * uy + (y - sy) * ux
            # Between crossings a block's edge is parallel to the street: exact where the raster is stepped.
            if abs(sw * 0.5 - abs(across) - d) < 0.8:
                d = sw * 0.5 - abs(across)
            if d > 0.0:
                walk = streets[st, 6]
                half_road = sw * 0.5 - walk
                if d < walk:
                    m = _material(mats, textures.SLABS_GROUND if sw > 11 else textures.ASPHALT, along / 2.56,
                                  across / 2.56, off, side)  # fmt: skip
                    tone = (0.56 + 0.08 * big) * m
                    white = min(1.0, snow * (0.5 + 0.9 * big))
                    rr, gg, bb = tone, tone * 0.985, tone * 0.955
                elif d < walk + 0.14 + foot * 0.3:
                    tone = 0.64
                    white = snow * 0.4
                    rr, gg, bb = tone, tone, tone * 0.98
                else:
                    setts = streets[st, 7] > 0.5
                    m = _material(
                        mats, textures.SETTS if setts else textures.ASPHALT, along / 2.56, across / 2.56, off, side
                    )
                    tone = (0.40 + 0.13 * big - 0.16 * wet) * m
                    tone *= 1.0 - 0.1 * math.exp(-((abs(across) - half_road * 0.45) ** 2) * 2.0)
                    line = 0.0
                    if not setts:
                        near_end = min(along, sl - along)
                        if sw >= 16 and abs(across) < 0.07 + foot * 0.25 and near_end > sw * 0.6 + 4:
                            p = along - 6.0 * math.floor(along / 6.0)
                            line = 0.8 if p < 3.0 else 0.0
                        zebra = near_end - sw * 0.5 - 1.2
                        if streets[st, 8] > 0.5 and 0.0 < zebra < 2.8 and abs(across) < half_road - 0.2:
                            p = across - 1.0 * math.floor(across / 1.0)
                            line = 0.85 if p < 0.5 else 0.0
                        if line > 0:
                            line *= (0.5 + 0.6 * big) * min(1.0, 30.0 / max(t, 1.0))
                    tone += (0.86 - tone) * line
                    white = min(0.85, snow * (0.15 + 0.9 * max(0.0, big - 0.3)))
                    rr, gg, bb = tone, tone, tone * 1.01
            else:
                g = kind[j, i]
                if g == 3:
                    wave = _noise(noise, x * 24.0 + env[E_SKYX], y * 24.0 * (1 + 4.0 / (1 + t * 0.05)))
                    up = min(1.0, 4.0 / max(t, 4.0))
                    rr = 0.30 - 0.14 * up + 0.16 * (wave - 0.5) + 0.22 * (fog_r - 0.5)
                    gg = 0.37 - 0.14 * up + 0.16 * (wave - 0.5) + 0.24 * (fog_g - 0.5)
                    bb = 0.42 - 0.13 * up + 0.16 * (wave - 0.5) + 0.26 * (fog_b - 0.5)
                elif g == 2 or g == 1:
                    m = _material(mats, textures.GRASS, x / 2.56, y / 2.56, off, side)
                    path = abs(_noise(noise, x * 2.2 + 91, y * 2.2) - 0.5)
                    if path < 0.02 or (g == 1 and big > 0.72):
                        rr, gg, bb = 0.60 * m, 0.55 * m, 0.46 * m
                    else:
                        dry = 1.0 - env[E_LEAVES]
                        rr = (0.30 + 0.14 * big + 0.12 * dry) * m
                        gg = (0.42 + 0.10 * big - 0.03 * dry) * m
                        bb = (0.16 + 0.06 * big + 0.05 * dry) * m
                    white = min(1.0, snow * (0.7 + 0.8 * big))
                elif g == 4:
                    m = _material(mats, textures.SETTS, x / 2.56, y / 2.56, off, side)
                    tone = (0.50 + 0.12 * big) * m
                    white = min(1.0, snow * (0.4 + 0.9 * big))
                    rr, gg, bb = tone * 1.02, tone, tone * 0.95
                else:
                    m = _material(mats, textures.ASPHALT, x / 2.56, y / 2.56, off, side)
                    rr = gg = bb = 0.45 * m
                    white = snow * 0.8
            rr += (0.90 - rr) * white
            gg += (0.92 - gg) * white
            bb += (0.95 - bb) * white
            lit = 0.55
            si, sj = (x - ox) / SHADE_STEP + half_shade, (y - oy) / SHADE_STEP + half_shade
            if direct > 0 and 0 <= si < shade.shape[0] - 1 and 0 <= sj < shade.shape[0] - 1:
                i, j = int(si), int(sj)
                ax, ay = si - i, sj - j
                lit = (shade[j, i] * (1 - ax) + shade[j, i + 1] * ax) * (1 - ay) + (
                    shade[j + 1, i] * (1 - ax) + shade[j + 1, i + 1] * ax
                ) * ay
            s = direct * lit * (0.25 + 0.75 * sun_z)
            edge = 0.72 + 0.28 * min(1.0, max(0.0, abs(d) * 1.6)) if d > 0 else 1.0
            a = ambient * edge
            fade = 1.0 - math.exp(-t * haze * 0.006)
            rr = rr * (a * amb_r + s * sun_r)
            gg = gg * (a * amb_g + s * sun_g)
            bb = bb * (a * amb_b + s * sun_b)
            img[c, r, 0] = np.uint8(min(255.0, max(0.0, (rr + (fog_r - rr) * fade) * expose)))
            img[c, r, 1] = np.uint8(min(255.0, max(0.0, (gg + (fog_g - gg) * fade) * expose)))
            img[c, r, 2] = np.uint8(min(255.0, max(0.0, (bb + (fog_b - bb) * fade) * expose)))
        for h in range(n):
            t = lt[h]
            fade = 1.0 - math.exp(-t * haze * 0.006)
            if lk[h] == 0:  # a wall
                w = li[h]
                b = wbuilding[w]
                kind_w = wkind[w]
                top = math.floor(_row((eaves[w] - cam) / t / cc, mode, f, cy, height) + 0.5)
                bottom = math.floor(_row(-cam / t / cc, mode, f, cy, height) + 0.5)
                u = lu[h] * wlength[w]
                ex, ey = (x1[w] - x0[w]) / wlength[w], (y1[w] - y0[w]) / wlength[w]
                nx_, ny_ = ey, -ex
                facing = -(nx_ * dx + ny_ * dy)
                if facing < 0:
                    nx_, ny_, facing = -nx_, -ny_, -facing
                    u = wlength[w] - u
                cosine = nx_ * sun_x + ny_ * sun_y
                dark_below = 1e9
                if direct > 0 and cosine > 0:
                    px, py = ox + dx * t + nx_ * 0.15, oy + dy * t + ny_ * 0.15
                    dark_below = _walk(
                        px, py, flat_x, flat_y, 34.0 / max(tan_up, 0.05), x0, y0, x1, y1, start, items, gx, gy, nx, ny,
                        roof, roof, 0.0, tan_up, ht, hi, hu,
                    )  # fmt: skip
                metre = t / fine  # metres a pixel, upright
                if kind_w >= 2:  # hedge or quay
                    for r in range(max(0, top), min(height, bottom)):
                        z = (
                            cam
                            + ((cy - r - 0.5) / f if mode == 0 else math.tan(math.pi * (0.5 - (r + 0.5) / height)))
                            * cc
                            * t
                        )
                        if kind_w == 2:
                            g = _noise(noise, u * 60.0, z * 60.0) * 0.6 + 0.4 * _noise(noise, u * 190.0, z * 190.0)
                            v = (0.35 + 0.9 * g) * (0.55 + 0.45 * z / max(eaves[w], 0.1))
                            rr, gg, bb = 0.24 * v + 0.12 * (1 - env[E_LEAVES]) * v, 0.34 * v, 0.14 * v
                        else:
                            rr = gg = bb = 0.5 * _material(
                                mats, textures.ASHLAR, u / 2.56, z / 2.56, 0, textures.MATERIAL
                            )
                        lit = 1.0 if z > dark_below else 0.0
                        s = direct * lit * max(0.0, cosine)
                        rr, gg, bb = (
                            rr * (ambient * amb_r + s * sun_r),
                            gg * (ambient * amb_g + s * sun_g),
                            bb * (ambient * amb_b + s * sun_b),
                        )
                        img[c, r, 0] = np.uint8(min(255.0, max(0.0, (rr + (fog_r - rr) * fade) * expose)))
                        img[c, r, 1] = np.uint8(min(255.0, max(0.0, (gg + (fog_g - gg) * fade) * expose)))
                        img[c, r, 2] = np.uint8(min(255.0, max(0.0, (bb + (fog_b - bb) * fade) * expose)))
                    continue
                bay_w = bf[b, styles.F_BAY]
                bays = max(1, int(wlength[w] / bay_w + 0.5))
                bay_w = wlength[w] / bays
                bay = min(bays - 1, int(u / bay_w))
                bay_u = u / bay_w - bay
                wide = metre / max(facing, 0.12)
                t_off, t_side = _level(textures.TILE / bay_w * math.sqrt(metre * wide) * 0.8, textures.TILE)
                grain = 200.0 if bi[b, styles.I_MATERIAL] == textures.BRICK else 100.0
                m_off, m_side = _level(grain * math.sqrt(metre * wide), textures.MATERIAL)
                if roof[w] > eaves[w] and kind_w == 0:
                    t2 = t + setback[w] / max(facing, 0.3)
                    ridge = math.floor(_row((roof[w] - cam) / t2 / cc, mode, f, cy, height) + 0.5)
                    rr0, gg0, bb0 = bf[b, styles.F_TOP], bf[b, styles.F_TOP + 1], bf[b, styles.F_TOP + 2]
                    for r in range(max(0, ridge), min(height, top)):
                        v = (r + 0.5 - ridge) / max(1, top - ridge)
                        ribs = 0.94 + 0.1 * _material(mats, textures.PLASTER, u / 2.56, v, m_off, m_side)
                        if metre < 0.08 and (u * 1.6 - math.floor(u * 1.6)) < 0.12:
                            ribs *= 0.85
                        rr, gg, bb = rr0 * ribs, gg0 * ribs, bb0 * ribs
                        tile = bi[b, styles.I_DORMER]
                        if tile != textures.PLAIN and (bay & 1) == (bi[b, styles.I_KEY] >> 4 & 1):
                            i, j = min(t_side - 1, int(bay_u * t_side)), min(t_side - 1, int(v * t_side))
                            q = tile * _TILE_STRIDE + (t_off + j * t_side + i) * 5
                            wt, wf, wg = tiles[q] / 255.0, tiles[q + 1] / 255.0, tiles[q + 2] / 255.0
                            keep = 1.0 - wt - wf - wg
                            rr = rr * keep + bf[b, styles.F_TRIM] * wt + 0.85 * wf + 0.3 * wg
                            gg = gg * keep + bf[b, styles.F_TRIM + 1] * wt + 0.84 * wf + 0.33 * wg
                            bb = bb * keep + bf[b, styles.F_TRIM + 2] * wt + 0.8 * wf + 0.37 * wg
                        white = min(1.0, snow * 1.1) * (0.8 if v > 0.1 else 0.5)
                        rr, gg, bb = rr + (0.9 - rr) * white, gg + (0.92 - gg) * white, bb + (0.95 - bb) * white
                        lit = 1.0 if eaves[w] + 1.0 > dark_below else 0.0
                        s = direct * lit * max(0.0, 0.6 * cosine + 0.6 * sun_z)
                        rr, gg, bb = (
                            rr * (ambient * amb_r + s * sun_r),
                            gg * (ambient * amb_g + s * sun_g),
                            bb * (ambient * amb_b + s * sun_b),
                        )
                        img[c, r, 0] = np.uint8(min(255.0, max(0.0, (rr + (fog_r - rr) * fade) * expose)))
                        img[c, r, 1] = np.uint8(min(255.0, max(0.0, (gg + (fog_g - gg) * fade) * expose)))
                        img[c, r, 2] = np.uint8(min(255.0, max(0.0, (bb + (fog_b - bb) * fade) * expose)))
                for r in range(max(0, top), min(height, bottom)):
                    z = (
                        cam
                        + ((cy - r - 0.5) / f if mode == 0 else math.tan(math.pi * (0.5 - (r + 0.5) / height))) * cc * t
                    )
                    if z < 0:
                        z = 0.0
                    _facade(
                        rgb, z, u, bay_u, bay, bf, bi, b, kind_w, tiles, mats, noise, t_off, t_side, m_off, m_side, wide
                    )  # fmt: skip
                    lit = min(1.0, max(0.0, (z - dark_below) / 0.25 + 0.5))
                    s = direct * lit * max(0.0, cosine) * 0.95
                    a = ambient * (0.78 + 0.22 * min(1.0, z / 9.0)) * (1.0 + 0.05 * nx_)
                    sh = rgb[3]
                    rr = rgb[0] * (a * amb_r * (0.4 + 0.6 * sh) + s * sun_r * sh)
                    gg = rgb[1] * (a * amb_g * (0.4 + 0.6 * sh) + s * sun_g * sh)
                    bb = rgb[2] * (a * amb_b * (0.4 + 0.6 * sh) + s * sun_b * sh)
                    img[c, r, 0] = np.uint8(min(255.0, max(0.0, (rr + (fog_r - rr) * fade) * expose)))
                    img[c, r, 1] = np.uint8(min(255.0, max(0.0, (gg + (fog_g - gg) * fade) * expose)))
                    img[c, r, 2] = np.uint8(min(255.0, max(0.0, (bb + (fog_b - bb) * fade) * expose)))
            elif lk[h] == 1:  # a cut-out that turns to the camera
                k = li[h]
                base, half, top_z, shape = sprites[k, 2], sprites[k, 3], sprites[k, 4], int(sprites[k, 5])
                which = int(sprites[k, 6])
                top = int(_row((top_z - cam) / t / cc, mode, f, cy, height))
                bottom = int(_row((base - cam) / t / cc, mode, f, cy, height)) + 1
                sx = (lu[h] / half + 1.0) * 0.5
                lit = 0.5
                si, sj = (sprites[k, 0] - ox) / SHADE_STEP + half_shade, (sprites[k, 1] - oy) / SHADE_STEP + half_shade
                if direct > 0 and 0 <= si < shade.shape[0] - 1 and 0 <= sj < shade.shape[0] - 1:
                    lit = shade[int(sj), int(si)]
                if shape <= BARE:
                    lit = max(lit, 0.45)
                light = ambient + direct * lit * 0.75
                off, side = _level(textures.CROWN * t / fine / (2 * half), textures.CROWN)
                tone_r, tone_g, tone_b = sprites[k, 7], sprites[k, 8], sprites[k, 9]
                for r in range(max(0, top), min(height, bottom)):
                    v = (r + 0.5 - top) / max(1.0, bottom - top)
                    alpha = 1.0
                    rr, gg, bb = tone_r, tone_g, tone_b
                    if shape <= BARE:
                        i, j = min(side - 1, int(sx * side)), min(side - 1, int(v * side))
                        q = (which + (textures.CROWNS if shape == BARE else 0)) * _CROWN_STRIDE + (
                            off + j * side + i
                        ) * 2
                        alpha = crowns[q] / 255.0
                        if alpha < 0.04:
                            continue
                        g = crowns[q + 1] / 132.0
                        if shape == BARE:
                            g = 1.0
                            alpha = min(1.0, alpha * 1.15)
                            white = 0.35 * snow
                            rr, gg, bb = rr + (0.9 - rr) * white, gg + (0.9 - gg) * white, bb + (0.92 - bb) * white
                        side_light = 1.0 + 0.25 * direct * (sx - 0.5) * (-(dy * sun_x - dx * sun_y)) * 2.0
                        rr, gg, bb = rr * g * side_light, gg * g * side_light, bb * g * side_light
                    elif shape == TRUNK:
                        round_ = 0.62 + 0.5 * math.sqrt(max(0.0, 1 - (2 * sx - 1) ** 2))
                        bark = 0.7 + 0.6 * _noise(noise, sx * 40 + which * 37, v * 220.0)
                        rr, gg, bb = rr * round_ * bark, gg * round_ * bark, bb * round_ * bark
                    elif shape == PERSON:
                        i = min(textures.PERSON_W - 1, int(sx * textures.PERSON_W))
                        j = min(textures.PERSON_H - 1, int(v * textures.PERSON_H))
                        alpha = people[which, j, i, 0] / 255.0
                        if alpha < 0.05:
                            continue
                        p1, p2, p3 = people[which, j, i, 1], people[which, j, i, 2], people[which, j, i, 3]
                        s = 1.0 / max(1.0, float(p1) + p2 + p3)
                        rr = (0.78 * p1 + tone_r * p2 + sprites[k, 10] * p3) * s
                        gg = (0.60 * p1 + tone_g * p2 + sprites[k, 10] * p3) * s
                        bb = (0.50 * p1 + tone_b * p2 + sprites[k, 10] * 1.1 * p3) * s
                    elif shape == POLE:
                        round_ = 0.7 + 0.4 * math.sqrt(max(0.0, 1 - (2 * sx - 1) ** 2))
                        rr, gg, bb = rr * round_, gg * round_, bb * round_
                    elif shape == LAMP:
                        if (2 * sx - 1) ** 2 + (2 * v - 1) ** 2 > 1.0:
                            continue
                    elif shape == SIGN:
                        if which == 0:
                            d2 = (2 * sx - 1) ** 2 + (2 * v - 1) ** 2
                            if d2 > 1.0:
                                continue
                            if d2 > 0.55:
                                rr, gg, bb = 0.75, 0.12, 0.12
                        elif which == 1:
                            if abs(2 * sx - 1) > 1.0 - v:
                                continue
                        elif abs(2 * sx - 1) > 0.82 or abs(2 * v - 1) > 0.86:
                            rr, gg, bb = 0.9, 0.9, 0.9
                    rr, gg, bb = rr * light, gg * light, bb * light
                    rr, gg, bb = rr + (fog_r - rr) * fade, gg + (fog_g - gg) * fade, bb + (fog_b - bb) * fade
                    img[c, r, 0] = np.uint8(img[c, r, 0] * (1 - alpha) + alpha * min(255.0, max(0.0, rr * expose)))
                    img[c, r, 1] = np.uint8(img[c, r, 1] * (1 - alpha) + alpha * min(255.0, max(0.0, gg * expose)))
                    img[c, r, 2] = np.uint8(img[c, r, 2] * (1 - alpha) + alpha * min(255.0, max(0.0, bb * expose)))
            else:  # a car: its length in slices from the far end of the ray's way through it to the near one
                k = li[h]
                tb = lu[h]
                ca, sa, hl, hw = cars[k, 2], cars[k, 3], cars[k, 4], cars[k, 5]
                ddx, ddy = dx * ca + dy * sa, -dx * sa + dy * ca
                kind_c = int(cars[k, 6])
                lit = 0.55
                si, sj = (cars[k, 0] - ox) / SHADE_STEP + half_shade, (cars[k, 1] - oy) / SHADE_STEP + half_shade
                if direct > 0 and 0 <= si < shade.shape[0] - 1 and 0 <= sj < shade.shape[0] - 1:
                    lit = shade[int(sj), int(si)]
                above = ambient * 1.08 + direct * lit * sun_z
                beside = ambient * 0.82 + direct * lit * 0.35
                # Shadow under the car.
                a0, b0 = int(_row(-cam / tb / cc, mode, f, cy, height)), int(_row(-cam / t / cc, mode, f, cy, height))
                for r in range(max(0, a0), min(height, b0)):
                    for q in range(3):
                        img[c, r, q] = np.uint8(img[c, r, q] * 0.35)
                # Along its length a car is planes between knots of its roof line: the ray's ways into each of them.
                count = 2
                kt[0], kt[1] = t, tb
                for q in range(4):
                    at = _car_knot(kind_c, q)
                    if at < -1.5 or abs(ddx) < 1e-6:
                        continue
                    tk = ((at * hl) - ((ox - cars[k, 0]) * ca + (oy - cars[k, 1]) * sa)) / ddx
                    if t < tk < tb:
                        j = count
                        while j > 0 and kt[j - 1] > tk:
                            kt[j] = kt[j - 1]
                            j -= 1
                        kt[j] = tk
                        count += 1
                for q in range(count - 1, 0, -1):
                    lx0 = (ox + dx * kt[q - 1] - cars[k, 0]) * ca + (oy + dy * kt[q - 1] - cars[k, 1]) * sa
                    lx1 = (ox + dx * kt[q] - cars[k, 0]) * ca + (oy + dy * kt[q] - cars[k, 1]) * sa
                    glass = _car_top(0.5 * (lx0 + lx1), hl, kind_c)[1]
                    near_z, far_z = _car_top(lx0, hl, kind_c)[0], _car_top(lx1, hl, kind_c)[0]
                    r_near = math.floor(_row((near_z - cam) / kt[q - 1] / cc, mode, f, cy, height) + 0.5)
                    r_far = math.floor(_row((far_z - cam) / kt[q] / cc, mode, f, cy, height) + 0.5)
                    for r in range(max(0, min(r_far, r_near)), min(height, max(r_near, r_far))):
                        if glass == 1:
                            rr, gg, bb = 0.20 * above, 0.24 * above, 0.28 * above
                        else:
                            rr = (cars[k, 7] + 0.03) * above
                            gg = (cars[k, 8] + 0.03) * above
                            bb = (cars[k, 9] + 0.035) * above
                        img[c, r, 0] = np.uint8(min(255.0, max(0.0, (rr + (fog_r - rr) * fade) * expose)))
                        img[c, r, 1] = np.uint8(min(255.0, max(0.0, (gg + (fog_g - gg) * fade) * expose)))
                        img[c, r, 2] = np.uint8(min(255.0, max(0.0, (bb + (fog_b - bb) * fade) * expose)))
                ts = t
                px, py = ox + dx * ts - cars[k, 0], oy + dy * ts - cars[k, 1]
                lx, ly = px * ca + py * sa, -px * sa + py * ca
                z_top, glass = _car_top(lx, hl, kind_c)
                side_in = abs(ly) / hw
                r0 = math.floor(_row((z_top - cam) / ts / cc, mode, f, cy, height) + 0.5)
                on_end = abs(lx) > hl * 0.995
                r1 = int(_row((0.18 - cam) / ts / cc, mode, f, cy, height)) + 1
                floor_row = int(_row(-cam / ts / cc, mode, f, cy, height))
                for r in range(max(0, r0), min(height, max(r1, floor_row))):
                    z = (
                        cam
                        + ((cy - r - 0.5) / f if mode == 0 else math.tan(math.pi * (0.5 - (r + 0.5) / height)))
                        * cc
                        * ts
                    )
                    paint = 1.0
                    rr, gg, bb = cars[k, 7], cars[k, 8], cars[k, 9]
                    if on_end:
                        if z < 0.2:
                            continue
                        if lx > 0 and 0.55 < z < 0.72 and side_in > 0.6:
                            rr, gg, bb = 0.92, 0.92, 0.88
                        elif lx < 0 and 0.6 < z < 0.85 and side_in > 0.68:
                            rr, gg, bb = 0.6, 0.06, 0.06
                        elif 0.32 < z < 0.46 and side_in < 0.28:
                            rr, gg, bb = 0.85, 0.85, 0.85
                        elif z < 0.5 and lx > 0 and side_in < 0.5:
                            paint = 0.35
                        elif z > 0.95:
                            rr, gg, bb = 0.16, 0.19, 0.22
                    else:
                        wheel_a, wheel_b = (lx - 0.62 * hl), (lx + 0.62 * hl)
                        d2 = min(wheel_a * wheel_a, wheel_b * wheel_b) + (z - 0.31) ** 2
                        if d2 < 0.105:
                            rr = gg = bb = 0.45 if d2 < 0.035 else 0.07
                        elif z < 0.22:
                            continue
                        elif z > 0.93 and z < z_top - 0.07 and kind_c != 1 and abs(lx + 0.1 * hl) < 0.56 * hl:
                            pillar = abs(lx + 0.08 * hl) < 0.06
                            if not pillar:
                                rr, gg, bb = 0.15, 0.18, 0.21
                        elif kind_c == 1 and z > 1.1 and z < 1.75 and lx > 0.25 * hl:
                            rr, gg, bb = 0.15, 0.18, 0.21
                        elif z < 0.34:
                            paint = 0.4
                        else:
                            paint = 0.82 + 0.25 * (z - 0.3)
                    rr, gg, bb = rr * paint * beside, gg * paint * beside, bb * paint * beside
                    img[c, r, 0] = np.uint8(min(255.0, max(0.0, (rr + (fog_r - rr) * fade) * expose)))
                    img[c, r, 1] = np.uint8(min(255.0, max(0.0, (gg + (fog_g - gg) * fade) * expose)))
                    img[c, r, 2] = np.uint8(min(255.0, max(0.0, (bb + (fog_b - bb) * fade) * expose)))
