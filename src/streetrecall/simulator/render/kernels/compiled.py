"""What Python calls of the ray caster."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from numba import njit

from streetrecall.simulator import source_hash
from streetrecall.simulator.render.kernels import cast, rays
from streetrecall.simulator.render.kernels.options import OPTIONS
from streetrecall.simulator.render.tables import Bytes, Camera, CityTables, Floats, Floats32, Scene

Sun = tuple[float, float, float]
Draw = Callable[[Bytes, Camera, CityTables, Scene, cast.Scratch], None]
FillShade = Callable[[Floats32, float, float, Sun, CityTables, Floats, float], None]


def draw(image: Bytes, camera: Camera, city: CityTables, scene: Scene) -> None:
    """Draw a picture into ``image`` (columns, rows, 3)."""
    _functions()[0](image, camera, city, scene, cast.scratch())


def fill_shade(
    shade: Floats32, x: float, y: float, sun: Sun, city: CityTables, trees: Floats, leaves: float
) -> None:  # fmt: skip
    """Fill ``shade`` with the share of direct sunlight on the ground around x, y; see `rays.fill_shade`."""
    _functions()[1](shade, x, y, sun, city, trees, leaves)


@cache
def _functions() -> tuple[Draw, FillShade]:
    simulator = Path(__file__).parents[2]
    return compile_for(source_hash(simulator / "render", simulator / "city"))


def compile_for(sources: str) -> tuple[Draw, FillShade]:
    """The compiled functions: from numba's cache if it has them for the same hash of the sources.

    The key of that cache includes the values of the variables that a function closes over, such as ``sources`` here.
    """

    @njit(cache=True, **OPTIONS)
    def draw(image: Bytes, camera: Camera, city: CityTables, scene: Scene, room: cast.Scratch) -> None:
        if sources:
            cast.cast(image, camera, city, scene, room)

    @njit(cache=True, **OPTIONS)
    def fill_shade(
        shade: Floats32, x: float, y: float, sun: Sun, city: CityTables, trees: Floats, leaves: float
    ) -> None:  # fmt: skip
        if sources:
            rays.fill_shade(shade, x, y, sun, city, trees, leaves)

    return draw, fill_shade
