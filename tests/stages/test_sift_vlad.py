"""The stage sift_vlad: what its codebook is learnt from, and walls that are recognised from another standpoint."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from small_city import SmallCity, build
from tinytown import Town, shelve

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params, Rerank, SiftVlad
from streetrecall.retrieval.described import gallery_views, pictures_in_use
from streetrecall.scoring.system import PHOTO_ROWS, PHOTOS, VIEW_ROWS, VIEWS, read_described, read_system
from streetrecall.stages import evaluate, sift_vlad

PLACES, DIRECTIONS, SIDE = 12, 3, 160
DATES = ("2017-07", "2009-07")


def wall(place: int, direction: int, light: float = 1.0) -> np.ndarray:
    """A wall of coloured rectangles, in some light."""
    rng = np.random.default_rng([place, direction])
    picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for _ in range(70):
        x, y = (int(v) for v in rng.integers(0, SIDE, 2))
        w, h = (int(v) for v in rng.integers(6, 30, 2))
        cv2.rectangle(picture, (x, y), (x + w, y + h), rng.integers(0, 256, 3).tolist(), -1)
    return (picture * light).astype(np.uint8)


def from_elsewhere(picture: np.ndarray) -> np.ndarray:
    """The same wall from another standpoint, nearer and darker."""
    corners = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], np.float32)
    seen = corners + np.array([[-14, -4], [6, -10], [12, 8], [-8, 14]], np.float32)
    out = cv2.warpPerspective(picture, cv2.getPerspectiveTransform(corners, seen), (SIDE, SIDE))
    return (out * 0.8).astype(np.uint8)


def walls(folder: Path, places: int = PLACES) -> Town:
    """Places 40 m apart, each with walls in three directions: views of two dates, and photos from other standpoints.

    Every second place is of split train, one of split gallery is the last, and the others are of validation and test.
    """
    views, photos = [], []
    for place in range(places):
        split = "train" if place % 2 else ("validation", "test")[place // 2 % 2]
        common = {"place": place, "x": 40.0 * place, "y": 0.0, "lat": 59.0, "lon": 18.0}
        common["split"] = split if place < PLACES else "gallery"
        for direction in range(DIRECTIONS):
            about = common | {"heading_deg": 120.0 * direction}
            views += [
                about | {"use": "gallery", "month": month, "pano_id": f"{place}-{month}", "jpeg": jpeg(picture)}
                for month, picture in zip(DATES, (wall(place, direction), wall(place, direction, 0.9)), strict=True)
            ]
            if common["split"] in ("validation", "test"):
                picture = from_elsewhere(wall(place, direction))
                photos.append(about | {"month": "2022-06", "spot": place, "jpeg": jpeg(picture)})
    unknown = dict.fromkeys(("provider", "licence", "attribution"), "") | {"fov_deg": 60.0}
    size = {"width": SIDE, "height": SIDE}
    seen = shelve(views, folder / "views").assign(**unknown, **size, subset="", view_id=range(len(views)))
    tables.write(tables.VIEWS, seen, folder / "views/views.parquet")
    still = dict.fromkeys(("pitch_deg", "roll_deg", "distance_m", "angle_deg"), 0.0)
    asked = shelve(photos, folder / "photos").assign(**unknown, **size, **still, height_m=1.6, near=True)
    tables.write(tables.PHOTOS, asked.assign(photo_id=range(len(asked))), folder / "photos/photos.parquet")
    return Town(folder / "views", folder / "photos")


def jpeg(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


@pytest.fixture
def settings() -> SiftVlad:
    return SiftVlad(seed=7, clusters=16, channels=32)


@pytest.fixture
def points(params: Params) -> Rerank:
    return params.evaluate.photos.rerank.model_copy(update={"view_points": 150, "photo_points": 150})


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> SmallCity:
    """Its pictures are of one colour, so they have no points."""
    return build(tmp_path_factory.mktemp("city"), places=6)


def test_photos_from_other_standpoints_find_their_places(
    city: SmallCity, settings: SiftVlad, points: Rerank, params: Params, tmp_path: Path
) -> None:
    town, out = walls(tmp_path / "town"), tmp_path / "out"
    sift_vlad.run(settings, points, city.crops, town.views, town.photos, out)
    system = read_system("sift_vlad", out)
    assert system.rows["image_id"].tolist() == city.rows()["image_id"].tolist()
    np.testing.assert_allclose(system.descriptors, system.descriptors.shape[1] ** -0.5, atol=1e-3)
    seen, views = read_described(tables.VIEWS, out / VIEW_ROWS, out / VIEWS)
    asked, photos = read_described(tables.PHOTOS, out / PHOTO_ROWS, out / PHOTOS)
    assert (len(seen), len(asked)) == (PLACES * DIRECTIONS * 2, PLACES // 2 * DIRECTIONS)
    best = (photos @ views.T).argmax(axis=1)
    right = seen["place"].to_numpy()[best] == asked["spot"].to_numpy()
    assert right.mean() > 0.8, "by chance it is a twelfth"

    answering = params.evaluate.photos
    for places in (0, PLACES):  # without and with local geometry, of every view
        rerank = points.model_copy(update={"places": places, "views": 2 * DIRECTIONS})
        quick = {"bootstrap_draws": 100, "photos": answering.model_copy(update={"rerank": rerank})}
        mine = params.model_copy(update={"evaluate": params.evaluate.model_copy(update=quick)})
        found = evaluate.evaluate_photos(out, (town.photos, town.views), mine)
        counted = [found.metrics[split, "photos"] for split in ("validation", "test")]
        assert [section["queries"] for section in counted] == [9, 9]
        recalls = [section["recall_at_1_25m"] for section in counted]
        assert min(recalls) >= (1.0 if places else 0.8)
    assert (found.answers["inliers"] > 20).all()


def test_two_runs_write_the_same_bytes(
    city: SmallCity, settings: SiftVlad, points: Rerank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = walls(tmp_path / "town")
    for run in ("a", "b"):
        monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / f"store-{run}"))
        sift_vlad.run(settings, points, city.crops, town.views, town.photos, tmp_path / run)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(["descriptors.npy", "rows.parquet", PHOTOS, PHOTO_ROWS, VIEWS, VIEW_ROWS])
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_codebook_is_learnt_from_split_train_alone(
    city: SmallCity, settings: SiftVlad, points: Rerank, tmp_path: Path
) -> None:
    def learnt(places: int, change: dict[str, object] | None = None) -> str:
        town = walls(tmp_path / f"town-{places}", places)
        mine = settings.model_copy(update=change or {})
        used, seen = pictures_in_use(city.crops), gallery_views(town.views)
        chosen = sift_vlad.learnt_from(mine, used, seen, city.crops, town.views)
        assert all(set(some.rows["split"]) == {"train"} for some in chosen)
        return sift_vlad.learn(mine, chosen, points.view_points).digest

    assert learnt(PLACES) == learnt(PLACES) == learnt(PLACES + 1), "a place of split gallery changes nothing"
    assert learnt(PLACES, {"seed": 8}) != learnt(PLACES)


def test_a_test_set_alone_has_a_codebook_from_its_gallery(city: SmallCity, settings: SiftVlad, tmp_path: Path) -> None:
    used = pictures_in_use(city.crops)
    held = (used.rows["split"] == "test").to_numpy()
    rows, images = used.rows[held].reset_index(drop=True), used.images[held].reset_index(drop=True)
    nothing = pd.DataFrame(columns=list(tables.VIEWS.columns))
    pictures, views = sift_vlad.learnt_from(settings, sift_vlad.InUse(rows, images, 0), nothing, city.crops, tmp_path)
    assert views.rows.empty
    assert set(pictures.rows["image_id"]) == set(rows["image_id"][rows["role"] == "gallery"])


def test_no_more_pictures_are_learnt_from_than_needed(
    city: SmallCity, settings: SiftVlad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = walls(tmp_path / "town")
    monkeypatch.setattr(sift_vlad, "LEARNT_FROM", 5)
    used, seen = pictures_in_use(city.crops), gallery_views(town.views)
    chosen = sift_vlad.learnt_from(settings, used, seen, city.crops, town.views)
    assert [len(some.rows) for some in chosen] == [5, 5]


def test_pictures_without_points_teach_no_codebook(
    city: SmallCity, settings: SiftVlad, points: Rerank, tmp_path: Path
) -> None:
    town = walls(tmp_path / "town")
    seen = tables.read(tables.VIEWS, town.views / "views.parquet")
    tables.write(tables.VIEWS, seen[seen["split"] != "train"], town.views / "views.parquet")
    with pytest.raises(UserError, match=r"no SIFT point in the 32 pictures.*split train"):
        sift_vlad.run(settings, points, city.crops, town.views, town.photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()
