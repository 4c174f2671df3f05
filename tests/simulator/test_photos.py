"""Photos of the simulated city: where they are taken, and that they show what the renderer draws there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from streetrecall.params.schema import Params, Photos
from streetrecall.pictures.codec import decode
from streetrecall.simulator import photos
from streetrecall.simulator.city.plan import City
from streetrecall.simulator.photos import (
    FOV_DEG,
    NEAR_M,
    SAME_MONTH_M,
    Gallery,
    Pose,
    _as_panorama,
    draw_poses,
    project_photo,
    render_photo,
    take_photos,
    view_distance,
    with_obstacles,
)
from streetrecall.simulator.render.renderer import Renderer, renderer
from streetrecall.store.results import Results


@pytest.fixture(scope="module")
def gallery(city: City) -> Gallery:
    """The second newest panorama of every spot; some spots of one side are training, validation and test."""
    panos = [city.panos[ids[min(1, len(ids) - 1)]] for ids in city.spot_panos]
    xy = np.array([(p.x, p.y) for p in panos])
    split = np.full(len(xy), "gallery", dtype="<U10")
    for name, centre in (("train", (-250, 0)), ("validation", (0, 0)), ("test", (0, 200))):
        split[np.hypot(*(xy - centre).T) < 60] = name
    return Gallery(xy, np.array([p.month for p in panos]), split)


@pytest.fixture(scope="module")
def settings(city_params: Params) -> Photos:
    return city_params.photos.model_copy(update={"spots": 12, "far_share": 0.25, "long_side": 320})


@pytest.fixture(scope="module")
def poses(city: City, gallery: Gallery, settings: Photos) -> list[Pose]:
    return draw_poses(city, gallery, settings)


def test_spots_months_and_distances(city: City, gallery: Gallery, settings: Photos, poses: list[Pose]) -> None:
    assert [pose.spot for pose in poses] == [k // 3 for k in range(3 * (12 + 12 + 3 + 3))]
    assert [pose.split for pose in poses] == ["validation"] * 36 + ["test"] * 36 + ["validation"] * 9 + ["test"] * 9
    near = poses[:72]
    for pose in poses:
        distance = np.hypot(gallery.xy[:, 0] - pose.x, gallery.xy[:, 1] - pose.y)
        assert pose.month // 12 == city.params.years[1]
        heeded = (gallery.split != "gallery") | (pose not in near)
        assert pose.month not in gallery.month[heeded & (distance <= SAME_MONTH_M)]
        if pose in near:
            assert distance[gallery.split == pose.split].min() <= NEAR_M
            others = (gallery.split != pose.split) & (gallery.split != "gallery")
            assert distance[others].min() > NEAR_M
        else:
            assert distance.min() > NEAR_M
        street = city.streets[pose.street]
        along = np.array([street.x1 - street.x0, street.y1 - street.y0]) / street.length
        aside = along[0] * (pose.y - street.y0) - along[1] * (pose.x - street.x0)
        assert abs(aside) <= street.width / 2 - 0.8 + 1e-9


def test_photos_see_something_in_all_directions(city: City, settings: Photos, poses: list[Pose]) -> None:
    for pose in poses:
        assert FOV_DEG[0] <= pose.fov_deg <= FOV_DEG[1] and 1.5 <= pose.height_m <= 1.7
        if not pose.portrait:
            assert view_distance(city, pose.x, pose.y, pose.heading_deg, pose.fov_deg) >= settings.see_m
    heading = np.array([pose.heading_deg for pose in poses])
    assert np.histogram(heading, bins=4, range=(0, 360))[0].min() > 8
    assert 0.3 < np.mean([pose.portrait for pose in poses]) < 0.7


def test_the_distance_to_a_wall(city: City) -> None:
    """From the middle of a street, across: half its width; along: farther."""
    street = max((s for s in city.streets if s.driven), key=lambda s: s.length)
    x, y = (street.x0 + street.x1) / 2, (street.y0 + street.y1) / 2
    across = min(view_distance(city, x, y, street.bearing + turn, 20.0) for turn in (90.0, 270.0))
    assert across == pytest.approx(street.width / 2, rel=0.2)
    assert view_distance(city, x, y, street.bearing, 20.0) > street.length / 2


def test_more_spots_hold_the_fewer(city: City, gallery: Gallery, settings: Photos, poses: list[Pose]) -> None:
    fewer = draw_poses(city, gallery, settings.model_copy(update={"spots": 4}))
    at = {(pose.x, pose.y, pose.heading_deg, pose.seed) for pose in poses}
    assert len(fewer) == 3 * (4 + 4 + 1 + 1)
    assert all((pose.x, pose.y, pose.heading_deg, pose.seed) in at for pose in fewer)
    assert draw_poses(city, gallery, settings.model_copy(update={"seed": 5}))[0].x != poses[0].x


def test_places_that_only_answer_do_not_move_spots_near_others(
    city: City, gallery: Gallery, settings: Photos, poses: list[Pose]
) -> None:
    """Not even if they show the months in which photos are taken; those far from all panoramas may change."""
    dense = np.flatnonzero(gallery.split == "gallery")
    few = gallery.of(~np.isin(np.arange(len(gallery.xy)), dense[::2]))
    newest = gallery.month.copy()
    newest[dense] = city.params.years[1] * 12 + 5
    for other in (few, gallery._replace(month=newest)):
        drawn = draw_poses(city, other, settings)
        assert drawn[:72] == poses[:72]
        assert drawn[72:] != poses[72:]


def test_without_a_gallery_there_are_no_photos(city: City, settings: Photos) -> None:
    assert draw_poses(city, Gallery(np.empty((0, 2)), np.empty(0, int), np.empty(0, str)), settings) == []


def test_an_upright_photo_is_the_renderers_view(city: City, poses: list[Pose]) -> None:
    artist = renderer(city)
    for pose in (replace(poses[0], pitch_deg=0.0, roll_deg=0.0, portrait=False), poses[5]):
        pano, scene = _as_panorama(pose), artist.scene(_as_panorama(pose))
        photo = project_photo(artist, pano, scene, pose, 320).astype(float)
        if pose.pitch_deg == 0:
            drawn = artist.view(pano, pose.heading_deg, 320, 240, pose.fov_deg, 0.0, 0.5).astype(float)
            assert np.abs(photo - drawn).mean() < 0.3 * np.abs(drawn[:, 8:] - drawn[:, :-8]).mean()
        else:
            assert photo.shape == ((320, 240, 3) if pose.portrait else (240, 320, 3))


def test_a_tilted_photo_looks_up(city: City, poses: list[Pose]) -> None:
    """The picture moves down by the focal length times the tangent of the pitch."""
    artist = renderer(city)
    level = replace(poses[0], pitch_deg=0.0, roll_deg=0.0, portrait=False, fov_deg=60.0)
    pano = _as_panorama(level)
    scene = artist.scene(pano)
    plain = project_photo(artist, pano, scene, level, 320).astype(float)
    up = project_photo(artist, pano, scene, replace(level, pitch_deg=5.0), 320).astype(float)
    shift = round(160 / np.tan(np.radians(30)) * np.tan(np.radians(5)))
    middle = slice(130, 190)
    moved = np.abs(up[shift + 60 : shift + 160, middle] - plain[60:160, middle]).mean()
    assert moved < 0.5 * np.abs(up[60:160, middle] - plain[60:160, middle]).mean()


def test_people_and_cars_are_in_the_way(city: City, poses: list[Pose]) -> None:
    artist = renderer(city)
    more_people = more_cars = 0
    for seed in range(20):
        scene = artist.scene(_as_panorama(poses[0]))
        crowded = with_obstacles(city, scene, poses[0], np.random.default_rng(seed))
        people, cars = crowded.sprites[len(scene.sprites) :], crowded.cars[len(scene.cars) :]
        more_people, more_cars = more_people + len(people), more_cars + len(cars)
        for thing in (*people, *cars):
            assert 2.5 <= np.hypot(thing["x"] - poses[0].x, thing["y"] - poses[0].y) <= 14
    assert more_people > 10 and more_cars > 2


def test_the_same_bytes_in_the_order_of_spots(
    city: City, gallery: Gallery, settings: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos that an earlier run rendered are not rendered again."""
    few = settings.model_copy(update={"spots": 1, "far_share": 1.0, "long_side": 160})
    rendered: list[Pose] = []

    def counted(artist: Renderer, pose: Pose, long_side: int) -> bytes:
        rendered.append(pose)
        return render_photo(artist, pose, long_side)

    monkeypatch.setattr(photos, "render_photo", counted)
    first, second = (list(take_photos(city, gallery, few, Results(tmp_path / name))) for name in ("one", "two"))
    assert first == second
    assert len(rendered) == 2 * len(first)
    more = few.model_copy(update={"spots": 2, "far_share": 0.5})
    grown = list(take_photos(city, gallery, more, Results(tmp_path / "one")))
    assert len(grown) == 18 and len(rendered) == 2 * len(first) + 6
    assert {data for _, data in first} < {data for _, data in grown}
    assert [pose.spot for pose, _ in first] == [k // 3 for k in range(12)]
    for pose, data in first:
        picture = decode(data)
        assert picture is not None and picture.shape == ((160, 120, 3) if pose.portrait else (120, 160, 3))
        assert picture.std() > 10
    assert cKDTree(gallery.xy).query((first[-1][0].x, first[-1][0].y))[0] > NEAR_M
