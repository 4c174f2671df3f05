import filecmp
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_city import MONTHS, SmallCity, build, use_exact_index, write_descriptors

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.pictures.perturb import CHANGES
from streetrecall.retrieval.changed import perturbed_rows
from streetrecall.scoring.protocols import Protocol, protocols
from streetrecall.stages import evaluate

CURVES = {
    *("error_cdf", "radius_coverage", "recall_at_k", "recall_by_dates", "recall_by_gallery", "recall_by_gap"),
    *("recall_by_heading", "recall_by_season", "risk_coverage"),
}
PHOTO_CURVES = {"photos_by_angle", "photos_by_distance", "photos_by_fov"}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> SmallCity:
    return build(tmp_path_factory.mktemp("city"))


@pytest.fixture(autouse=True)
def _index(monkeypatch: pytest.MonkeyPatch) -> None:
    use_exact_index(monkeypatch)


def naive_recall_at_1(city: SmallCity, folder: Path, split: str, gallery_splits: set[str], months: set[str]) -> float:
    rows, d = city.rows(), np.load(folder / "descriptors.npy").astype(float)
    found = []
    for i, q in rows.iterrows():
        if q["split"] != split or q["role"] != "query":
            continue
        best = max(
            (
                (d[i] @ d[j], -j, math.hypot(q["x"] - g["x"], q["y"] - g["y"]))
                for j, g in rows.iterrows()
                if g["role"] == "gallery" and g["split"] in gallery_splits and g["month"] in months
            ),
        )
        found.append(best[2] <= 25)
    return sum(found) / len(found)


def numbers(node, path=""):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from numbers(value, f"{path}.{key}")
    else:
        yield path, node


def test_recall_is_that_of_a_loop_over_all_pairs(city, params, tmp_path):
    found = city.evaluate(params, tmp_path)
    older = set(MONTHS[1:])
    for system, folder in city.systems.items():
        for protocol, splits, months in (
            ("newest_vs_older", {"test"}, older),
            ("newest_vs_oldest", {"test"}, {MONTHS[-1]}),
            ("newest_vs_before_2015", {"test"}, {"2014-07", "2010-03"}),
            ("city", {"train", "validation", "test"}, older),
        ):
            expected = naive_recall_at_1(city, folder, "test", splits, months)
            assert found[system]["test"][protocol]["recall_at_1_25m"] == pytest.approx(expected, abs=1e-4)
    assert found["model"]["test"]["newest_vs_older"]["queries"] == 32
    assert found["model"]["test"]["newest_vs_older"]["gallery"] == 96
    assert found["model"]["test"]["city"]["gallery"] == 288
    assert found["model"]["test"]["leave_one_date_out"]["queries"] == 128
    assert found["model"]["test_v1"]["newest_vs_older"]["places"] == 4


def test_a_better_descriptor_scores_better_and_every_share_lies_in_its_interval(city, params, tmp_path):
    found = city.evaluate(params, tmp_path)
    model, baseline = (found[s]["test"]["newest_vs_older"] for s in ("model", "baseline"))
    assert model["recall_at_1_25m"] > baseline["recall_at_1_25m"]
    assert model["recall_at_1_25m"] <= model["recall_at_5_25m"] <= model["recall_at_20_25m"]
    assert model["recall_at_1_place_direction"] <= model["recall_at_1_25m"] <= model["recall_at_1_100m"]
    values = dict(numbers(found))
    checked = 0
    for path, value in values.items():
        if f"{path}_ci_low" in values:
            assert values[f"{path}_ci_low"] <= value <= values[f"{path}_ci_high"], path
            checked += 1
    assert checked > 100


def test_two_runs_write_the_same_bytes_and_no_number_is_none(city, params, tmp_path):
    for run in ("a", "b"):
        city.evaluate(params, tmp_path / run)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 4 + 1 + 2 + len(CURVES) + len(PHOTO_CURVES) + 1, "tables, calibration, metrics, curves, map"
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)[0] == files
    for name in ("evaluate", "headline"):
        content = json.loads((tmp_path / f"a/metrics/{name}.json").read_text())
        values = dict(numbers(content))
        assert all(math.isfinite(v) for v in values.values())
        assert all(round(v, 4) == v for v in values.values())
        assert list(content) == sorted(content)


def test_the_tables_agree_with_the_metrics(city, params, tmp_path):
    found = city.evaluate(params, tmp_path)
    queries = tables.read(tables.PREDICTIONS, tmp_path / "data/results/queries.parquet")
    chosen = queries.query("system == 'model' and scope == 'test' and protocol == 'city' and right_images > 0")
    assert found["model"]["test"]["city"]["recall_at_1_25m"] == pytest.approx(
        (chosen["rank_25m"] == 1).mean(), abs=1e-4
    )
    assert ((chosen["error_m"] <= 25) == (chosen["rank_25m"] == 1)).all()
    positions = tables.read(tables.POSITIONS, tmp_path / "data/results/positions.parquet")
    tested = positions.query("system == 'model' and split == 'test'")
    held = (tested["error_m"] <= tested["radius_m"]).mean()
    assert found["model"]["test"]["position"]["coverage"] == pytest.approx(held, abs=1e-4)
    shown = tables.read(tables.NEIGHBOURS, tmp_path / "data/results/neighbours.parquet")
    first = shown[(shown["rank"] == 1) & (shown["scope"] == "test") & (shown["protocol"] == "city")]
    assert first.set_index("image_id")["neighbour_id"].to_dict() == chosen.set_index("image_id")["answer_id"].to_dict()


def test_curves_are_complete_and_end_where_the_metrics_are(city, params, tmp_path):
    found = city.evaluate(params, tmp_path)
    curves = {p.stem: pd.read_csv(p) for p in (tmp_path / "metrics/plots").glob("*.csv")}
    assert set(curves) == CURVES | PHOTO_CURVES
    for name in CURVES:
        table = curves[name]
        assert set(table["system"]) == set(city.systems)
    for system in city.systems:
        sizes = curves["recall_by_gallery"].query("system == @system")
        whole = found[system]["test"]["city"]["recall_at_1_25m"]
        assert sizes["recall"].iloc[-1] == pytest.approx(whole, abs=1e-3)
        assert sizes["recall"].is_monotonic_decreasing
        k = curves["recall_at_k"].query("system == @system and protocol == 'newest_vs_older'").set_index("k")["recall"]
        assert k[1] == found[system]["test"]["newest_vs_older"]["recall_at_1_25m"]
    assert sorted(set(curves["recall_by_gap"]["years"])) == [2, 7, 12]
    assert list(curves["recall_by_heading"]["heading"].unique()) == ["east", "north", "south", "west"]


def test_a_further_protocol_is_measured_without_any_other_change(city, params, tmp_path, monkeypatch):
    def with_one_more(rows, scope, inside, before_year):
        last = (rows["month"] == MONTHS[-1]).to_numpy() & inside
        extra = Protocol("last_vs_all", scope, np.flatnonzero(last), np.arange(len(rows)))
        return [*protocols(rows, scope, inside, before_year), extra]

    monkeypatch.setattr(evaluate, "protocols", with_one_more)
    found = city.evaluate(params, tmp_path)
    assert found["model"]["test"]["last_vs_all"]["queries"] == 32
    assert found["baseline"]["validation"]["last_vs_all"]["gallery"] == 384
    headline = json.loads((tmp_path / "metrics/headline.json").read_text())
    assert headline["model"]["test_last_vs_all_r1"] == found["model"]["test"]["last_vs_all"]["recall_at_1_25m"]
    curve = pd.read_csv(tmp_path / "metrics/plots/recall_at_k.csv")
    answers = tables.read(tables.PREDICTIONS, tmp_path / "data/results/queries.parquet")
    assert "last_vs_all" in set(curve["protocol"]) and "last_vs_all" in set(answers["protocol"])


def test_an_index_that_loses_neighbours_has_lower_recall(city, params, tmp_path, monkeypatch):
    assert city.evaluate(params, tmp_path)["index"]["test"] == {
        **{
            "gallery": 288,
            "queries": 32,
            "recall_at_10": 1.0,
            "recall_at_10_25m_lost": 0.0,
            "recall_at_1_25m_lost": 0.0,
        },
        **{f"recall_at_{k}_25m": pytest.approx(v) for k, v in exact_city_recall(tmp_path).items()},
    }
    use_exact_index(monkeypatch, spoiled=8)
    lossy = city.evaluate(params, tmp_path)["index"]["test"]
    assert lossy["recall_at_10"] == 0.75
    assert lossy["recall_at_1_25m_lost"] > 0


def exact_city_recall(out: Path) -> dict[int, float]:
    section = json.loads((out / "metrics/evaluate.json").read_text())["model"]["test"]["city"]
    return {k: section[f"recall_at_{k}_25m"] for k in (1, 10)}


def test_pictures_of_the_querys_own_month_never_answer(tmp_path, params):
    city = build(tmp_path, places=6)
    rows, d = city.rows(), np.load(city.index / "descriptors.npy").astype(float)
    twin = (rows["place"] == 0) & (rows["direction"] == 0) & (rows["month"] == MONTHS[1])
    rows.loc[twin, "month"] = MONTHS[0]
    query = rows.index[(rows["place"] == 0) & (rows["direction"] == 0) & (rows["role"] == "query")][0]
    d[twin.to_numpy()] = d[query]
    for folder in city.systems.values():
        write_descriptors(folder, rows, d)
    city.evaluate(params)
    answers = tables.read(tables.PREDICTIONS, tmp_path / "data/results/queries.parquet")
    assert rows.loc[twin, "image_id"].iloc[0] not in set(answers["answer_id"][answers["image_id"] == query])


@pytest.mark.parametrize("places", [3, 1])
def test_a_city_of_one_place_per_split_is_measured_too(tmp_path, params, places):
    city = build(tmp_path, places=places)
    found = city.evaluate(params)
    test = found["model"]["test"]["newest_vs_older"]
    assert test["queries"] == 4
    assert test["recall_at_1_25m"] == 1.0  # one place of the split: nothing else to answer with
    assert "recall_at_1_25m_ci_low" not in test
    held = found["model"]["validation"]["newest_vs_older"]
    assert held["queries"] == (4 if places == 3 else 0)
    if places == 1:
        assert "recall_at_1_25m" not in held
    assert "coverage" not in found["model"]["test"]["position"]  # four queries are too few for 90%


def test_a_gallery_of_the_querys_own_place_and_month_only(tmp_path, params):
    """No picture may answer then: there is nothing to measure, which is not 0/0."""
    city = build(tmp_path, places=1)
    rows = city.rows().assign(month=MONTHS[0])
    for folder in city.systems.values():
        write_descriptors(folder, rows, np.load(folder / "descriptors.npy"))
    found = city.evaluate(params)
    older = found["model"]["test"]["newest_vs_older"]
    assert (older["queries"], older["queries_without_right_image"], older["gallery"]) == (0, 4, 12)
    assert not any(name.startswith(("recall", "error")) for name in older)
    assert found["index"]["test"] == {"queries": 4, "gallery": 12}
    assert found["model"]["test"]["position"] == {"queries": 0, "places": 0, "calibration_queries": 0}


def test_queries_of_places_with_one_date_are_not_counted(tmp_path, params):
    city = build(tmp_path, places=12)
    rows = city.rows()
    keep = ~((rows["place"] == 0) & (rows["role"] == "gallery")).to_numpy()
    for folder in city.systems.values():
        write_descriptors(folder, rows[keep], np.load(folder / "descriptors.npy")[keep])
    test = city.evaluate(params)["model"]["test"]["newest_vs_older"]
    assert (test["queries"], test["queries_without_right_image"], test["places"]) == (12, 4, 3)


def test_all_wrong_is_zero_with_an_upper_limit(tmp_path, params):
    city = build(tmp_path, places=24)
    rows = city.rows()
    d = np.random.default_rng(0).normal(size=(len(rows), 32)) * 0.05
    d[(rows["role"] == "query").to_numpy(), 0] = 1
    d[(rows["role"] == "gallery").to_numpy(), 1] = 1
    d[((rows["role"] == "gallery") & (rows["split"] == "train")).to_numpy(), 0] = 1
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    write_descriptors(city.index, rows, d)
    test = city.evaluate(params)["model"]["test"]["city"]
    assert test["recall_at_1_25m"] == 0
    assert test["recall_at_1_25m_ci_low"] == 0
    assert test["recall_at_1_25m_ci_high"] == pytest.approx(1 - 0.025 ** (1 / 8), abs=1e-4)
    assert test["error_wrong_median_m"] == test["error_median_m"]


class TestBadInput:
    @pytest.fixture
    def own(self, tmp_path: Path) -> SmallCity:
        return build(tmp_path, places=3)

    def descriptors(self, city: SmallCity) -> np.ndarray:
        return np.load(city.index / "descriptors.npy").astype(np.float32)

    def refuse(self, city: SmallCity, params: Params, text: str) -> None:
        with pytest.raises(UserError, match=text):
            city.evaluate(params)
        assert not (city.folder / "metrics").exists()

    def test_missing_descriptors(self, own, params):
        (own.baseline / "descriptors.npy").unlink()
        self.refuse(own, params, r"baseline/descriptors\.npy: there is no such file")

    def test_other_number_of_rows(self, own, params):
        np.save(own.index / "descriptors.npy", self.descriptors(own)[:-1])
        self.refuse(own, params, "47, 32.*48 rows")

    def test_a_value_that_is_no_number(self, own, params):
        d = self.descriptors(own)
        d[5, 3] = np.nan
        np.save(own.index / "descriptors.npy", d)
        self.refuse(own, params, "image 5 holds a value that is no number")

    def test_not_of_unit_length(self, own, params):
        d = self.descriptors(own)
        d[7] *= 2
        np.save(own.index / "descriptors.npy", d)
        self.refuse(own, params, r"image 7 has length 2\.0")

    @pytest.mark.parametrize("system", ["baseline", "sift_vlad"])
    def test_model_and_baseline_of_different_pictures(self, own, params, system):
        rows, folder = own.rows(), own.systems[system]
        write_descriptors(folder, rows[1:], np.load(folder / "descriptors.npy")[1:])
        self.refuse(own, params, f"{system} describe different pictures; run the stages {system} and index again")

    def test_a_text_that_is_not_a_month(self, own, params):
        rows, d = own.rows(), self.descriptors(own)
        rows.loc[2, "month"] = "May 2022"
        write_descriptors(own.index, rows, d)
        self.refuse(own, params, "May 2022")

    def test_pictures_that_the_table_of_pictures_lacks(self, own, params):
        images = tables.read(tables.IMAGES, own.crops / "images.parquet")
        tables.write(tables.IMAGES, images[images["image_id"] != 9], own.crops / "images.parquet")
        self.refuse(own, params, "image_id 9")


def with_photos(city: SmallCity, far: int = 4) -> None:
    """Give ``city`` views of its places, and photos of validation and test, the last ``far`` spots of each without a
    place; three photos a spot."""
    rng = np.random.default_rng(8)
    places = city.rows().drop_duplicates("place").sort_values("place")
    centres = rng.normal(size=(len(places), 32))
    plain = dict.fromkeys(("subset", "sha256", "provider", "licence", "attribution"), "")
    plain |= {"offset": 0, "size": 0, "width": 224, "height": 224, "fov_deg": 60.0, "shard": ""}
    position = ["place", "x", "y", "lat", "lon"]
    views = pd.concat(
        [
            places[position].assign(month=month, pano_id=month, heading_deg=heading, split="gallery", use="gallery")
            for month in MONTHS[:2]
            for heading in (0.0, 90.0)
        ],
        ignore_index=True,
    ).assign(**plain)
    views["view_id"] = np.arange(len(views))
    seen = centres[views["place"]] + 0.7 * rng.normal(size=(len(views), 32))
    photos = []
    for split in ("validation", "test"):
        chosen = places.sample(10, random_state=len(split))[position].assign(split=split)
        chosen["spot"] = np.arange(10) + 100 * (split == "test")
        photos.append(pd.concat([chosen] * 3))
    asked = pd.concat(photos, ignore_index=True).sort_values(["split", "spot"], ignore_index=True)
    away = (asked["spot"] % 100 >= 10 - far).to_numpy()
    described = centres[asked["place"]] * ~away[:, None] + 0.7 * rng.normal(size=(len(asked), 32))
    asked["x"] += np.where(away, 9000.0, 4.0)
    asked = asked.assign(
        **plain, month=MONTHS[0], photo_id=np.arange(len(asked)), heading_deg=0.0, pitch_deg=0.0, roll_deg=0.0,
        height_m=1.6, near=~away, distance_m=np.where(away, 9000.0, 4.0), angle_deg=3.0,
    )  # fmt: skip
    for table, rows, values, name in (
        (tables.VIEWS, views, seen, "views"),
        (tables.PHOTOS, asked, described, "photos"),
    ):
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        for folder in (city.index, city.sift_vlad):
            tables.write(table, rows, folder / f"{name}.parquet")
            np.save(folder / f"{name}.npy", unit.astype(np.float16))


@pytest.fixture
def without_geometry(params: Params) -> Params:
    """Parameters that compare no pictures, because the views of `with_photos` have none."""
    asked = params.evaluate.photos
    asked = asked.model_copy(update={"rerank": asked.rerank.model_copy(update={"places": 0})})
    return params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"photos": asked})})


def test_photos_are_answered_with_places(tmp_path, without_geometry):
    city = build(tmp_path)
    with_photos(city)
    measured = city.evaluate(without_geometry)
    found = measured["model"]
    for split in ("validation", "test"):
        assert measured["sift_vlad"][split]["photos"] == found[split]["photos"], "with the same descriptors"
        assert "photos" not in measured["baseline"][split]
        single, three = found[split]["photos"], found[split]["photos_three"]
        assert (single["queries"], single["queries_far"], single["places"]) == (18, 12, 6)
        assert (three["queries"], three["queries_far"]) == (6, 4)
        assert (single["gallery"], single["gallery_places"]) == (96, 24)
        assert single["recall_at_1_25m"] > 0.5
        assert single["recall_at_1_25m_ci_low"] <= single["recall_at_1_25m"] <= three["recall_at_1_25m"]
    answers = tables.read(tables.PHOTO_ANSWERS, tmp_path / "data/results/photos.parquet")
    assert len(answers) == 60 + 20
    tested = answers.query("protocol == 'photos' and split == 'test'")
    assert found["test"]["photos"]["far_withheld"] == pytest.approx(
        1 - tested[~tested["answerable"]]["answered"].mean(), abs=1e-4
    )
    headline = json.loads((tmp_path / "metrics/headline.json").read_text())
    assert headline["model"]["test_photos_r1"] == found["test"]["photos"]["recall_at_1_25m"]
    assert headline["sift_vlad"]["test_photos_r1"] == headline["model"]["test_photos_r1"]
    curve = pd.read_csv(tmp_path / "metrics/plots/photos_by_distance.csv")
    assert curve[["system", "distance_m", "queries"]].to_numpy().tolist() == [
        ["model", 6.0, 18],
        ["sift_vlad", 6.0, 18],
    ]


def test_views_of_the_photos_own_month_do_not_answer(tmp_path, without_geometry):
    """The photos are of the month of the newest views, whose descriptors are made those of the photos."""
    city = build(tmp_path)
    with_photos(city, far=0)
    views = tables.read(tables.VIEWS, city.index / "views.parquet")
    d, asked = np.load(city.index / "views.npy"), np.load(city.index / "photos.npy")
    before = city.evaluate(without_geometry)["model"]["test"]["photos"]
    d[np.flatnonzero(views["month"] == MONTHS[0])] = asked[0]
    np.save(city.index / "views.npy", d)
    assert city.evaluate(without_geometry)["model"]["test"]["photos"] == before


def test_a_baseline_of_other_photos_is_refused(tmp_path, without_geometry):
    city = build(tmp_path)
    with_photos(city)
    photos = tables.read(tables.PHOTOS, city.sift_vlad / "photos.parquet")
    tables.write(tables.PHOTOS, photos.iloc[1:], city.sift_vlad / "photos.parquet")
    np.save(city.sift_vlad / "photos.npy", np.load(city.sift_vlad / "photos.npy")[1:])
    with pytest.raises(UserError, match="describe different photos; run the stages sift_vlad and index again"):
        city.evaluate(without_geometry)


def test_without_photos_nothing_is_said_of_them(city, params, tmp_path):
    found = city.evaluate(params, tmp_path)
    assert "photos" not in found["model"]["test"]
    assert tables.read(tables.PHOTO_ANSWERS, tmp_path / "data/results/photos.parquet").empty
    for name in PHOTO_CURVES:
        assert pd.read_csv(tmp_path / f"metrics/plots/{name}.csv").empty


def test_changed_queries_are_asked_where_there_are_no_photos(city, params, tmp_path):
    """Each change has the descriptors of the queries themselves, so it finds what they find, but for one change that is
    noise."""
    import shutil

    folder = tmp_path / "city"
    shutil.copytree(city.folder, folder)
    copy = SmallCity(folder)
    rows, descriptors = copy.rows(), np.load(copy.index / "descriptors.npy")
    changed = perturbed_rows(rows)
    assert set(changed["split"]) == {"validation", "test"} and len(changed) == 6 * changed["image_id"].nunique()
    place = pd.Series(np.arange(len(rows)), rows["image_id"])
    values = descriptors[place[changed["image_id"]]]
    noise = (changed["change"] == "right").to_numpy()
    values[noise] = values[np.random.default_rng(0).permutation(len(values))[: noise.sum()]]
    np.save(copy.index / "perturbed.npy", values)
    found = copy.evaluate(params)["model"]
    for split in ("validation", "test"):
        asked, city_wide = found[split], found[split]["city"]
        kept = [asked[f"perturbed_{c}"]["recall_at_1_25m"] for c in CHANGES]
        assert kept[0] == kept[2] == city_wide["recall_at_1_25m"] and kept[1] < kept[0]
        assert asked["perturbed"]["queries"] == 6 * city_wide["queries"]
        assert asked["perturbed"]["recall_at_1_25m"] == pytest.approx(np.mean(kept), abs=1e-3)
        assert asked["perturbed"]["recall_at_1_25m_ci_low"] <= asked["perturbed"]["recall_at_1_25m"]
    np.save(copy.index / "perturbed.npy", values[:-1])
    with pytest.raises(UserError, match="run the stage index again"):
        copy.evaluate(params)
