"""The stage `views`, over captures of the simulated city and over invented ones."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from capturing import write_captures
from PIL import Image

from streetrecall import tables
from streetrecall.geo import project
from streetrecall.params.schema import Params
from streetrecall.pictures import shards
from streetrecall.pictures.codec import decode, encode_jpeg
from streetrecall.providers.base import Capture, CaptureRequest, Panorama
from streetrecall.simulator.city.plan import City, open_city
from streetrecall.simulator.render.renderer import FOV, HORIZON, renderer
from streetrecall.stages import views
from streetrecall.tables import Projection

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "test", "gallery")


@pytest.fixture(scope="module")
def city() -> City:
    from streetrecall.params.schema import load

    return open_city(load(ROOT / "params.yaml"), ROOT)


def locations(n: int = 3) -> pd.DataFrame:
    """A place of each split, 100 m apart."""
    place = np.arange(n)
    frame = pd.DataFrame({"place": place, "rank": place, "pano_id": [f"p{i}-0" for i in place]})
    frame = frame.assign(lat=59.32 + place * 1e-3, lon=18.06, month="2023-03", start_distance_m=place * 100.0)
    frame["x"], frame["y"] = project(frame["lat"], frame["lon"], "EPSG:3006")
    frame["level"], frame["split"] = place, [SPLITS[i % 3] for i in place]
    return frame.assign(radius_m=[100.0, 75.0, 10.0][:n])


def shot(place: int, date_index: int, picture: np.ndarray, heading: float | None = None, **more: object) -> Capture:
    """A frame of a heading, or a sphere without one."""
    split = SPLITS[place]
    panorama = Panorama(
        f"p{place}-{date_index}", 59.32 + place * 1e-3, 18.06, f"{2023 - date_index}-03", "CC0", "nobody"
    )
    if heading is None:
        kind = {"projection": Projection.EQUIRECTANGULAR, "fov_deg": 360.0, "horizon": 0.5}
    else:
        kind = {"projection": Projection.PERSPECTIVE, "fov_deg": FOV, "horizon": HORIZON}
    request = CaptureRequest(
        place, int((heading or 0) // 90), heading or 0.0, date_index, panorama, split, f"{split}_v1", **{**kind, **more}
    )
    return Capture(request, "ok", "", encode_jpeg(picture, 95))


def noise(seed: int, shape: tuple[int, int] = (128, 256)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BILINEAR))


def frames(place: int, date_index: int, seed: int, headings: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0)) -> list:
    return [shot(place, date_index, noise(seed + k, (135, 252)), heading) for k, heading in enumerate(headings)]


class Cut:
    """What the stage makes of captures."""

    def __init__(self, folder: Path, params: Params, taken: list[Capture], provider: str = "simulated") -> None:
        self.folder = folder
        tables.write(tables.LOCATIONS, locations(), folder / "locations.parquet")
        write_captures(taken, locations(), folder / "captures", provider)
        views.run(params, folder / "captures", folder / "locations.parquet", folder / "views", folder / "views.json")
        self.table = tables.read(tables.VIEWS, folder / "views/views.parquet")
        self.metrics = json.loads((folder / "views.json").read_text())

    def picture(self, view_id: int) -> np.ndarray:
        row = self.table.loc[view_id]
        with shards.ShardReader(self.folder / "views") as reader:
            data = reader.read(str(row["shard"]), int(row["offset"]), int(row["size"]))
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        picture = decode(data)
        assert picture is not None and picture.shape == (row["height"], row["width"], 3)
        return picture

    def hashes(self) -> dict[str, str]:
        every = sorted(p for p in (self.folder / "views").rglob("*") if p.is_file())
        return {p.relative_to(self.folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in every}


def test_gallery_views_are_what_the_renderer_draws(city: City, params: Params, tmp_path: Path) -> None:
    """From four frames, over their seams too, and from a sphere."""
    artist = renderer(city)
    pano = max((p for p in city.panos if not p.dark and not p.shown), key=lambda p: (p.month, -abs(p.pitch_error)))
    taken = [shot(1, 1, artist.view(pano, heading), heading) for heading in (0.0, 90.0, 180.0, 270.0)]
    taken += [shot(2, 1, artist.panorama(pano, 2048))]
    cut = Cut(tmp_path, params, taken)
    assert cut.table["place"].tolist() == [1] * 12 + [2] * 12  # ordered by split: test, gallery
    assert cut.table["heading_deg"].tolist() == 2 * [30.0 * k for k in range(12)]
    for row in cut.table.itertuples():
        drawn = artist.view(pano, row.heading_deg, row.width, row.height, 60.0, 0.0, 0.5).astype(float)
        moved = np.abs(drawn[:, 30:] - drawn[:, :-30]).mean()
        assert np.abs(cut.picture(row.view_id) - drawn).mean() < min(6.0, 0.25 * moved)


def test_dates_uses_and_splits(params: Params, tmp_path: Path) -> None:
    taken = [shot(place, date, noise(10 * place + date)) for place in range(3) for date in range(4)]
    cut = Cut(tmp_path, params, taken)
    gallery, train = (cut.table[cut.table["use"] == use] for use in ("gallery", "train"))
    assert cut.table["view_id"].tolist() == list(range(len(cut.table)))
    assert set(gallery["pano_id"]) == {f"p{place}-{date}" for place in range(3) for date in (1, 2)}
    assert len(gallery) == 3 * 2 * params.views.directions
    assert set(train["pano_id"]) == {f"p0-{date}" for date in range(4)} and set(train["split"]) == {"train"}
    assert len(train) == 4 * params.views.training.views
    assert train["fov_deg"].between(*params.views.training.fov_deg).all()
    assert set(zip(train["width"], train["height"], strict=True)) == {(224, 224)}
    for _, views_of in train.groupby("pano_id"):
        turns = np.diff(np.sort(views_of["heading_deg"]), append=views_of["heading_deg"].min() + 360)
        assert turns.max() < 1.6 * 360 / params.views.training.views
    folders = cut.table["shard"].str.rpartition("/")[0]
    assert set(folders) == {
        f"shared/{of}" for of in ("train/train", "train/gallery", "test/gallery", "gallery/gallery")
    }
    assert folders.tolist() == [f"shared/{r.split}/{r.use}" for r in cut.table.itertuples()]
    assert cut.metrics["gallery"]["places_by_split"] == {"gallery": 1, "test": 1, "train": 1}
    assert cut.metrics["train"] == {"views": 48, "panoramas": 4, "places": 1, "places_by_split": {"train": 1}}


def test_an_older_date_takes_the_place_of_a_bad_one(params: Params, tmp_path: Path) -> None:
    bad = shot(1, 1, noise(1))
    taken = [Capture(bad.request, "blank", "near-black", bad.data), *(shot(1, date, noise(date)) for date in (0, 2, 3))]
    assert set(Cut(tmp_path, params, taken).table["pano_id"]) == {"p1-2", "p1-3"}


def test_a_missing_frame_costs_only_the_views_that_need_it(params: Params, tmp_path: Path) -> None:
    cut = Cut(tmp_path, params, frames(1, 1, 5, (0.0, 90.0, 180.0)))
    assert cut.table["heading_deg"].tolist() == [30.0 * k for k in range(7)]


def test_views_of_training_frames_are_held_by_them(params: Params, tmp_path: Path) -> None:
    cut = Cut(tmp_path, params, frames(0, 0, 5))
    assert set(cut.table["use"]) == {"train"} and len(cut.table) == params.views.training.views


def test_panoramas_with_one_picture_at_two_places_are_left_out(params: Params, tmp_path: Path) -> None:
    taken = [shot(0, 1, noise(7)), shot(1, 1, noise(7)), shot(1, 2, noise(8))]
    cut = Cut(tmp_path, params, taken)
    assert set(cut.table["pano_id"]) == {"p1-2"}
    assert cut.metrics["panoramas_left_out"] == {"same_picture_elsewhere": 2, "unknown_field_of_view": 0}


def test_more_places_that_only_answer_change_nothing_that_a_training_reads(params: Params, tmp_path: Path) -> None:
    """Even if they show a picture of a training place: then it is known which of the two is right."""
    taken = [shot(place, date, noise(10 * place + date)) for place in (0, 1) for date in range(3)]
    before = Cut(tmp_path / "before", params, taken)
    grown = Cut(tmp_path / "grown", params, [*taken, shot(2, 1, noise(1)), shot(2, 2, noise(7))])
    assert set(grown.table["pano_id"]) - set(before.table["pano_id"]) == {"p2-2"}, "p2-1 shows what p0-1 does"
    assert grown.table.head(len(before.table)).equals(before.table)
    first, second = before.hashes(), grown.hashes()
    assert {name for name in second if second[name] != first.get(name)} == {
        "views/views.parquet",
        "views/shared/gallery/gallery/gallery_v1-level2-00000.tar",
    }
    training = tables.read(tables.VIEWS, tmp_path / "grown/views/training.parquet")
    assert training.equals(grown.table[grown.table["split"] == "train"].reset_index(drop=True))


def test_no_views_without_a_known_field_of_view(params: Params, tmp_path: Path) -> None:
    taken = [shot(place, 1, noise(place), 0.0, fov_deg=float("nan")) for place in range(3)]
    cut = Cut(tmp_path, params, taken, "archive")
    assert cut.table.empty and list(cut.table.columns) == list(tables.VIEWS.columns)
    assert sorted(cut.hashes()) == sorted(
        [f"views/{below}/{split}/README.txt" for below in ("local", "shared") for split in tables.SPLITS]
        + ["views/training.parquet", "views/views.parquet"]
    )
    assert cut.metrics["views"] == 0 and cut.metrics["panoramas_left_out"]["unknown_field_of_view"] == 3


def test_the_same_bytes_whatever_the_cores_and_the_other_panoramas(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [shot(place, date, noise(10 * place + date)) for place in range(3) for date in range(3)] + frames(0, 3, 90)
    one = Cut(tmp_path / "one", params, taken)
    monkeypatch.setattr(views, "_FEW", 0)
    assert Cut(tmp_path / "two", params, taken[::-1]).hashes() == one.hashes()
    fewer = Cut(tmp_path / "fewer", params, taken[:1]).table
    assert set(fewer["sha256"]) <= set(one.table["sha256"])  # a panorama's random views depend on no other
    seed = params.model_copy(update={"views": params.views.model_copy(update={"seed": 1})})
    other = Cut(tmp_path / "seed", seed, taken).table
    changed = {use: set(other[other["use"] == use]["sha256"]) for use in ("gallery", "train")}
    assert changed["gallery"] == set(one.table[one.table["use"] == "gallery"]["sha256"])
    assert not changed["train"] & set(one.table["sha256"])


def test_a_damaged_sphere_is_left_out(params: Params, tmp_path: Path) -> None:
    good, bad = shot(1, 1, noise(1)), shot(1, 2, noise(2))
    cut = Cut(tmp_path, params, [good, Capture(bad.request, "ok", "", b"\xff\xd8nothing")])
    assert set(cut.table["pano_id"]) == {"p1-1"}
    assert Image.open(io.BytesIO(good.data)).size == (256, 128)


def test_only_new_panoramas_are_cut_and_the_output_is_the_same(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[str] = []
    opened = views.open_panorama

    def counted(source: views.Source, reader: shards.ShardReader) -> Any:
        cut.append(source.pano_id)
        return opened(source, reader)

    monkeypatch.setattr(views, "open_panorama", counted)
    taken = frames(0, 0, 5) + frames(1, 0, 15) + frames(1, 1, 25)
    Cut(tmp_path / "first", params, taken)
    known = len(cut)
    assert known == 2  # the training place, and the older date of the other one
    new = frames(2, 0, 35) + frames(2, 1, 45)
    grown = Cut(tmp_path / "grown", params, [*taken, *new])
    assert len(cut) == known + 1
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "empty"))
    assert grown.hashes() == Cut(tmp_path / "nothing", params, [*taken, *new]).hashes()
    assert len(cut) == 2 * known + 2
