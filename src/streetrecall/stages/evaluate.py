"""Stage `evaluate`: what the model finds, how far off it is, and how sure one may be of either.

Every protocol runs twice, for the model and for the training-free baseline, on the same queries and the same gallery.
docs/evaluation.md says what each number means.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall import geo, tables
from streetrecall.errors import UserError
from streetrecall.files import write_json, write_text
from streetrecall.months import UNKNOWN, month_numbers
from streetrecall.params.schema import Evaluate, Params, load
from streetrecall.retrieval.rank import rank
from streetrecall.scoring import breakdown
from streetrecall.scoring import position as location
from streetrecall.scoring.bootstrap import Interval, ratio_intervals
from streetrecall.scoring.protocols import Protocol, groups, protocols, scopes
from streetrecall.scoring.ranking import Floats, Ints, Ranking
from streetrecall.scoring.recall import KS, RADII_M, distances, first_hit, found_at, pairs_within

log = logging.getLogger(__name__)

SPLITS = ["validation", "test"]  # radii are calibrated on the first and checked on the second
SHOWN = 5  # answers kept of each query, for the sheets
COVERAGES = np.round(np.arange(0.5, 0.96, 0.05), 2)


def configure(parser: argparse.ArgumentParser) -> None:
    for name, text in {
        "index": "folder with the model's descriptors and its index",
        "baseline": "folder with the baseline's descriptors",
        "images": "table of pictures (headings)",
        "results": "folder for what was answered to each query",
        "metrics": "where to write all metrics (JSON)",
        "headline": "where to write the few metrics to look at first (JSON)",
        "plots": "folder for the curves (CSV) and the map (PNG)",
    }.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)


def main(args: argparse.Namespace) -> None:
    run(
        load(args.params), args.index, args.baseline, args.images, args.results, args.metrics, args.headline, args.plots
    )


@dataclass(frozen=True)
class System:
    """Descriptors (n, d) of the n rows of the descriptor table, by one method."""

    name: str
    rows: pd.DataFrame
    descriptors: NDArray[np.floating]

    @property
    def xy(self) -> Floats:
        return self.rows[["x", "y"]].to_numpy(np.float64)


@dataclass(frozen=True)
class Outcome:
    """One protocol, answered by one system: the ranking and the rows of the predictions table."""

    protocol: Protocol
    ranking: Ranking
    metres: Floats
    predictions: pd.DataFrame


def run(
    params: Params, index: Path, baseline: Path, images: Path, results: Path, metrics: Path, headline: Path, plots: Path
) -> dict[str, Any]:
    """Evaluate the model of ``index`` beside ``baseline``; returns what ``metrics`` holds.

    Raises:
        UserError: descriptors and rows disagree, or the two systems describe different pictures.
    """
    knobs = params.evaluate
    model, hog = read_system("model", index), read_system("baseline", baseline)
    if not model.rows.equals(hog.rows):
        raise UserError(f"{index} and {baseline} describe different pictures; run the stages baseline and index again")
    pictures = tables.read(tables.IMAGES, images).set_index("image_id")
    strange = set(model.rows["image_id"]) - set(pictures.index)
    if strange:
        raise UserError(f"{index}/rows.parquet: image_id {min(strange)} is not in {images}; run the stage index again")

    found: dict[str, Any] = {}
    curves: dict[str, list[pd.DataFrame]] = {}
    answers, positions, neighbours = [], [], []
    for system in (model, hog):
        outcomes = [
            answer(system, protocol)
            for scope, _, inside in scopes(system.rows, SPLITS)
            for protocol in protocols(system.rows, scope, inside, knobs.before_year)
        ]
        section = found[system.name] = {}
        for outcome in outcomes:
            section.setdefault(outcome.protocol.scope, {})[outcome.protocol.name] = measure(outcome, knobs)
        answers += [o.predictions for o in outcomes]
        by_name = {(o.protocol.scope, o.protocol.name): o for o in outcomes}
        cities = {split: by_name[split, "city"] for split in SPLITS}
        placed, calibrated, reliability = locate_queries(system, cities, params)
        positions.append(placed)
        for split in SPLITS:
            section[split]["location"] = calibrated[split]
        test = {name: o for (scope, name), o in by_name.items() if scope == "test"}
        tested = placed[(placed["split"] == "test") & placed["answerable"]]
        for name, curve in {
            **recall_curves(test, pictures, knobs),
            **contest_curves(system, test, knobs),
            "risk_coverage": risk_curve(tested),
            "radius_coverage": reliability,
        }.items():
            curves.setdefault(name, []).append(curve.assign(system=system.name))
        if system is model:
            found["index"] = {split: check_index(index, system, cities[split]) for split in SPLITS}
            kept = [by_name[split, name] for split in SPLITS for name in ("newest_vs_older", "city")]
            neighbours = [best_answers(system, outcome) for outcome in kept]
            sketch = (system.rows, cities["test"].predictions)

    plots.mkdir(parents=True, exist_ok=True)
    for name, parts in curves.items():
        write_csv(plots / f"{name}.csv", pd.concat(parts, ignore_index=True))
    from streetrecall.figures.map import draw_map

    draw_map(*sketch, plots / "map.png")
    results.mkdir(parents=True, exist_ok=True)
    tables.write(tables.PREDICTIONS, pd.concat(answers), results / "queries.parquet")
    tables.write(tables.POSITIONS, pd.concat(positions), results / "positions.parquet")
    tables.write(tables.NEIGHBOURS, pd.concat(neighbours), results / "neighbours.parquet")
    write_json(metrics, found)
    write_json(headline, headlines(found, knobs))
    return found


def read_system(name: str, folder: Path) -> System:
    """Descriptors of ``folder`` and the rows that they describe."""
    rows = tables.read(tables.DESCRIPTORS, folder / "rows.parquet")
    path = folder / "descriptors.npy"
    try:
        descriptors = np.load(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run the stage that describes pictures (dvc repro)") from error
    if descriptors.ndim != 2 or len(descriptors) != len(rows):
        raise UserError(f"{path}: shape {descriptors.shape}, but rows.parquet beside it has {len(rows)} rows")
    if not np.issubdtype(descriptors.dtype, np.floating):
        raise UserError(f"{path}: holds {descriptors.dtype}, not floating-point numbers")
    bad = np.flatnonzero(~np.isfinite(descriptors).all(axis=1))
    if len(bad):
        raise UserError(f"{path}: the descriptor of image {rows['image_id'][bad[0]]} holds a value that is no number")
    descriptors = descriptors.astype(np.float32)
    norm = np.linalg.norm(descriptors, axis=1)
    off = np.flatnonzero(np.abs(norm - 1) > 0.01)
    if len(off):
        raise UserError(
            f"{path}: the descriptor of image {rows['image_id'][off[0]]} has length {norm[off[0]]:.3f}, not 1"
        )
    try:
        month_numbers(rows["month"])
    except ValueError as error:
        raise UserError(f"{folder / 'rows.parquet'}: {error}") from error
    return System(name, rows, descriptors)


def answer(system: System, protocol: Protocol) -> Outcome:
    """Let the gallery of ``protocol`` answer its queries, and see how far off the answers are."""
    rows, group, xy = system.rows, groups(system.rows), system.xy
    queries, gallery = protocol.queries, protocol.gallery
    ranking = rank(system.descriptors[queries], system.descriptors[gallery], group[queries], group[gallery], max(KS))
    metres = distances(xy[queries], xy[gallery], ranking)
    place, direction = rows["place"].to_numpy(), rows["direction"].to_numpy()
    there = ranking.indices >= 0
    chosen = gallery[ranking.indices] if len(gallery) else np.full(ranking.indices.shape, -1)
    same_view = there & (place[chosen] == place[queries, None]) & (direction[chosen] == direction[queries, None])

    near_query, near_gallery = pairs_within(xy[queries], xy[gallery], RADII_M[0])
    other_group = group[queries[near_query]] != group[gallery[near_gallery]]
    same_place = place[queries[near_query]] == place[gallery[near_gallery]]
    same_direction = direction[queries[near_query]] == direction[gallery[near_gallery]]
    views = other_group & same_place & same_direction

    columns = ["image_id", "place", "direction", "month", "split", "subset", "lat", "lon"]
    predictions = rows.iloc[queries][columns].assign(
        system=system.name,
        scope=protocol.scope,
        protocol=protocol.name,
        right_images=np.bincount(near_query[other_group], minlength=len(queries)),
        right_views=np.bincount(near_query[views], minlength=len(queries)),
        **{f"rank_{radius}m": first_hit(metres <= radius) for radius in RADII_M},
        rank_place_heading=first_hit(same_view),
        answer_id=np.where(there[:, 0], rows["image_id"].to_numpy()[chosen[:, 0]], -1),
        answer_place=np.where(there[:, 0], place[chosen[:, 0]], -1),
        similarity=np.where(there[:, 0], ranking.similarities[:, 0], np.nan),
        error_m=np.where(there[:, 0], metres[:, 0], np.nan).round(2),
    )
    return Outcome(protocol, ranking, metres, predictions.reset_index(drop=True))


def measure(outcome: Outcome, knobs: Evaluate) -> dict[str, Any]:
    """Recall at K with intervals, counts and errors of one outcome. A value without a single query is left out."""
    table = outcome.predictions
    place = table["place"].to_numpy()
    answerable = (table["right_images"] > 0).to_numpy()
    viewed = (table["right_views"] > 0).to_numpy()
    out: dict[str, Any] = {
        "queries": int(answerable.sum()),
        "queries_place_heading": int(viewed.sum()),
        "queries_without_right_image": int((~answerable).sum()),
        "gallery": len(outcome.protocol.gallery),
        "places": int(table["place"][answerable].nunique()),
    }
    for suffix, column, counted in (
        *((f"{radius}m", f"rank_{radius}m", answerable) for radius in RADII_M),
        ("place_heading", "rank_place_heading", viewed),
    ):
        found = np.column_stack([found_at(table[column].to_numpy(), k) for k in KS])
        for k, interval in zip(KS, intervals(place, found, counted, knobs), strict=True):
            if interval:
                out[f"recall_at_{k}_{suffix}"] = share(interval.value)
                if k == 1:
                    out |= ends(f"recall_at_{k}_{suffix}", interval)
    return out | errors("error", table["error_m"].to_numpy()[answerable])


def errors(name: str, metres: Floats) -> dict[str, float]:
    """Median and 90th percentile, of all and of those beyond the first radius, which are wrong."""
    out = {}
    for prefix, values in ((name, metres), (f"{name}_wrong", metres[metres > RADII_M[0]])):
        values = values[np.isfinite(values)]
        if len(values):
            out[f"{prefix}_median_m"] = round(float(np.median(values)), 1)
            out[f"{prefix}_p90_m"] = round(float(np.quantile(values, 0.9)), 1)
    return out


def intervals(
    place: Ints, found: NDArray[np.bool_] | Floats, counted: NDArray[np.bool_], knobs: Evaluate
) -> list[Interval | None]:
    return ratio_intervals(place, found, counted, knobs.bootstrap_draws, knobs.confidence, knobs.seed)


def ends(name: str, interval: Interval) -> dict[str, float]:
    if interval.low is None or interval.high is None:
        return {}
    return {f"{name}_ci_low": share(interval.low), f"{name}_ci_high": share(interval.high)}


def share(value: float) -> float:
    return round(float(value), 4)


def recall_curves(test: dict[str, Outcome], pictures: pd.DataFrame, knobs: Evaluate) -> dict[str, pd.DataFrame]:
    """Recall at K of every protocol; on newest against older, the errors' distribution, headings, dates of a place."""
    parts = []
    for name, outcome in test.items():
        table = outcome.predictions
        found = np.column_stack([found_at(table["rank_25m"].to_numpy(), k) for k in range(1, max(KS) + 1)])
        counted = (table["right_images"] > 0).to_numpy()
        values = intervals(table["place"].to_numpy(), found, counted, knobs)
        parts.append(spell(values, int(counted.sum()), k=range(1, max(KS) + 1)).assign(protocol=name))
    table = test["newest_vs_older"].predictions
    table = table[table["right_images"] > 0]
    found = (table["rank_25m"] == 1).to_numpy()
    place = table["place"].to_numpy()
    dates = pictures[pictures["quarantine"] == ""].groupby("place")["month"].nunique()
    steps = np.unique(np.geomspace(1, 20_000, 90).round(1))
    error = np.sort(table["error_m"].to_numpy())
    within = np.searchsorted(error, steps, side="right") / max(1, len(error))
    return {
        "recall_at_k": pd.concat(parts),
        "error_cdf": pd.DataFrame({"error_m": steps, "share": within.round(4)})[: None if len(error) else 0],
        "recall_by_heading": grouped(place, found, heading_names(table, pictures), "heading", knobs),
        "recall_by_dates": grouped(place, found, dates.reindex(place).to_numpy(), "dates", knobs),
    }


def heading_names(table: pd.DataFrame, pictures: pd.DataFrame) -> NDArray[np.object_]:
    """Quarter of the compass that a query looks to, or its direction where the heading is unknown."""
    heading = pictures["heading_deg"].reindex(table["image_id"]).to_numpy(float)
    quarter = np.array(["north", "east", "south", "west"])[np.round(np.nan_to_num(heading) / 90).astype(int) % 4]
    direction = np.array([f"direction {s}" for s in table["direction"]], dtype=object)
    return np.where(np.isnan(heading), direction, quarter.astype(object))


def contest_curves(system: System, test: dict[str, Outcome], knobs: Evaluate) -> dict[str, pd.DataFrame]:
    """Recall at 1 by years between, by seasons, and by size of the gallery."""
    month = month_numbers(system.rows["month"])
    place = system.rows["place"].to_numpy()

    def contest(protocol: Protocol) -> tuple[breakdown.Contest, Ints, Ints]:
        group, (q, g) = groups(system.rows), (protocol.queries, protocol.gallery)
        d, xy = system.descriptors, system.xy
        result = breakdown.contest(d[q], d[g], xy[q], xy[g], group[q], group[g], place[g], RADII_M[0])
        return result, q[result.pair_query], g[result.pair_gallery]

    older = test["newest_vs_older"].protocol
    result, asked, answered = contest(older)
    known = (month[asked] != UNKNOWN) & (month[answered] != UNKNOWN)
    years = np.where(known, np.abs(month[asked] - month[answered]) // 12, -1)
    by_gap = breakdown.found_by_label(result, years)
    by_gap = by_gap[by_gap["label"] >= 0]
    gap = grouped(
        place[older.queries[by_gap["query"]]], by_gap["found"].to_numpy(), by_gap["label"].to_numpy(), "years", knobs
    )

    every = test["leave_one_date_out"].protocol
    result, asked, answered = contest(every)
    southern = (system.rows["lat"] < 0).to_numpy()
    known = (month[asked] != UNKNOWN) & (month[answered] != UNKNOWN)
    seasons = breakdown.season(month % 12, southern)
    pair = np.where(known, seasons[asked] * 4 + seasons[answered], -1)
    by_season = breakdown.found_by_label(result, pair)
    by_season = by_season[by_season["label"] >= 0]
    names = np.array(breakdown.SEASONS, dtype=object)
    matrix = grouped(
        place[every.queries[by_season["query"]]],
        by_season["found"].to_numpy(),
        by_season["label"].to_numpy(),
        "pair",
        knobs,
    )
    matrix.insert(0, "query_season", names[matrix["pair"].to_numpy(int) // 4])
    matrix.insert(1, "gallery_season", names[matrix["pair"].to_numpy(int) % 4])

    city = test["city"].protocol
    result, _, _ = contest(city)
    right = np.isfinite(result.best_right)
    sizes = breakdown.gallery_sizes(int(result.wrong_places[right].max(initial=0)))
    chances = np.column_stack([np.zeros((len(right), 0)), *(breakdown.expected_found(result, s) for s in sizes)])
    curve = intervals(place[city.queries], chances, right, knobs)
    return {
        "recall_by_gap": gap,
        "recall_by_season": matrix.drop(columns="pair"),
        "recall_by_gallery": spell(curve, int(right.sum()), places=[s + 1 for s in sizes]),
    }


def grouped(place: Ints, found: NDArray[np.bool_], label: NDArray, name: str, knobs: Evaluate) -> pd.DataFrame:
    """Share found and its interval for each value of ``label``, in ascending order."""
    values = sorted(set(label.tolist()))
    parts = []
    for value in values:
        chosen = label == value
        interval = intervals(place, found[:, None], chosen, knobs)
        parts.append(spell(interval, int(chosen.sum()), **{name: [value]}))
    return pd.concat(parts) if parts else spell([], 0, **{name: []})


def spell(values: list[Interval | None], queries: int, **columns: Any) -> pd.DataFrame:
    """A table of intervals: the given columns, then recall, ci_low, ci_high (empty where none), queries."""
    kept = [v is not None for v in values]
    spoken = [v for v in values if v is not None]
    table = pd.DataFrame(
        {name: [c for c, k in zip(column, kept, strict=True) if k] for name, column in columns.items()}
    )
    for name, numbers in {
        "recall": [v.value for v in spoken],
        "ci_low": [v.low for v in spoken],
        "ci_high": [v.high for v in spoken],
    }.items():
        table[name] = np.array(numbers, dtype=np.float64).round(4)
    return table.assign(queries=queries)


def locate_queries(
    system: System, cities: dict[str, Outcome], params: Params
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]], pd.DataFrame]:
    """Positions and radii of all queries, their metrics by split, and stated against found coverage on test."""
    knobs = params.evaluate.location
    parts, scores, hard = [], {}, {}
    for split, outcome in cities.items():
        xy = system.xy[outcome.protocol.gallery]
        k = min(knobs.neighbours, outcome.ranking.k)
        best = Ranking(outcome.ranking.indices[:, :k], outcome.ranking.similarities[:, :k])
        position = location.locate(best, xy, knobs.temperature, knobs.agree_m)
        error = np.hypot(*(position.xy - system.xy[outcome.protocol.queries]).T)
        answerable = (outcome.predictions["right_images"] > 0).to_numpy()
        hard[split] = location.difficulty(position, knobs.difficulty_floor_m)
        scores[split] = (error / hard[split])[answerable]
        lat, lon = geo.unproject(position.xy[:, 0], position.xy[:, 1], params.city.crs)
        parts.append(
            outcome.predictions[["system", "split", "image_id", "place"]].assign(
                answerable=answerable,
                answered=position.agreement >= knobs.agreement,
                lat=np.where(np.isfinite(lat), lat, np.nan).round(7),
                lon=np.where(np.isfinite(lon), lon, np.nan).round(7),
                error_m=error.round(2),
                similarity=position.similarity,
                margin=position.margin.round(9),
                agreement=position.agreement.round(9),
                spread_m=position.spread_m.round(2),
            )
        )
    factor = location.conformal_quantile(scores["validation"], knobs.coverage)
    metrics = {}
    for part, split in zip(parts, cities, strict=True):
        radius = np.nan if factor is None else np.maximum(knobs.radius_floor_m, factor * hard[split])
        part["radius_m"] = np.round(radius, 2)
        metrics[split] = measure_location(part[part["answerable"]], params.evaluate)
        metrics[split]["calibration_queries"] = len(scores["validation"])
    return (
        pd.concat(parts, ignore_index=True),
        metrics,
        reliability(scores, hard["test"], parts[-1], knobs.radius_floor_m),
    )


def reliability(scores: dict[str, Floats], hard: Floats, test: pd.DataFrame, floor_m: float) -> pd.DataFrame:
    """Stated and found coverage of the radius on test, and its mean, for several stated coverages."""
    answerable = test["answerable"].to_numpy()
    error, lines = test["error_m"].to_numpy()[answerable], []
    for stated in COVERAGES:
        factor = location.conformal_quantile(scores["validation"], float(stated))
        if factor is not None and len(error):
            radius = np.maximum(floor_m, factor * hard[answerable])
            lines.append((float(stated), share((error <= radius).mean()), round(float(radius.mean()), 1)))
    return pd.DataFrame(lines, columns=["stated", "found", "radius_mean_m"])


def measure_location(table: pd.DataFrame, knobs: Evaluate) -> dict[str, Any]:
    """Metrics of the positions of one split's answerable queries."""
    out: dict[str, Any] = {"queries": len(table), "places": int(table["place"].nunique())}
    if table.empty:
        return out
    place, answered = table["place"].to_numpy(), table["answered"].to_numpy()
    error, radius = table["error_m"].to_numpy(), table["radius_m"].to_numpy()
    right = error <= RADII_M[0]
    everyone = np.ones(len(table), dtype=bool)
    for name, success, counted in (
        ("right_25m", right, everyone),
        ("answered", answered, everyone),
        ("answered_right_25m", right, answered),
        *([("coverage", error <= radius, everyone)] if np.isfinite(radius).all() else []),
    ):
        (interval,) = intervals(place, success[:, None], counted, knobs)
        if interval:
            out |= {name: share(interval.value)} | ends(name, interval)
    if "coverage" in out:
        out["coverage_stated"] = knobs.location.coverage
        out["radius_mean_m"] = round(float(radius.mean()), 1)
        out["radius_median_m"] = round(float(np.median(radius)), 1)
    for name, confidence in confidences(table).items():
        out[f"aurc_{name}"] = share(location.risk_coverage(confidence, ~right).area)
    out["aurc_best_possible"] = share(location.risk_coverage(right.astype(float), ~right).area)
    out["aurc_by_chance"] = share(1 - right.mean())
    return out | errors("error", error)


def confidences(table: pd.DataFrame) -> dict[str, Floats]:
    """Confidence scores of positions; larger is surer."""
    scores = {name: table[name].to_numpy() for name in ("similarity", "margin", "agreement")}
    return scores | {"spread": -table["spread_m"].to_numpy()}


def risk_curve(tested: pd.DataFrame) -> pd.DataFrame:
    """Risk at each of at most 100 coverages, for each confidence score."""
    wrong = tested["error_m"].to_numpy() > RADII_M[0]
    parts = []
    for name, confidence in confidences(tested).items():
        curve = location.risk_coverage(confidence, wrong)
        shown = np.unique(np.linspace(0, len(wrong) - 1, min(100, len(wrong))).round().astype(int))
        points = {"coverage": curve.coverage[shown].round(4), "risk": curve.risk[shown].round(4)}
        parts.append(pd.DataFrame(points).assign(confidence=name))
    return pd.concat(parts)


def check_index(folder: Path, system: System, city: Outcome) -> dict[str, Any]:
    """The approximate index against exact search: neighbours it finds, and recall that it costs end to end."""
    from streetrecall.retrieval import index

    queries, gallery = city.protocol.queries, city.protocol.gallery
    if not len(queries) or not len(gallery):
        return {"queries": 0}
    group = groups(system.rows)
    spare = min(len(gallery), 2 * max(KS))
    found, nearness = index.load(folder).search(system.descriptors[queries], spare)
    there = found >= 0
    similarities = np.where(there, nearness.astype(np.float64), -np.inf)
    own = there & (group[gallery[found]] == group[queries][:, None])
    approximate = Ranking(found, similarities).drop(own, max(KS))
    exact = city.ranking
    shared = (approximate.indices[:, :10, None] == exact.indices[:, None, :10]) & (exact.indices[:, None, :10] >= 0)
    answerable = (city.predictions["right_images"] > 0).to_numpy()
    xy = system.xy
    metres = distances(xy[queries], xy[gallery], approximate)
    out: dict[str, Any] = {
        "queries": len(queries),
        "gallery": len(gallery),
        "recall_at_10": share(shared.sum() / (exact.indices[:, :10] >= 0).sum()),
    }
    for k in (1, 10):
        got = found_at(first_hit(metres <= RADII_M[0]), k)
        if answerable.any():
            best = found_at(city.predictions[f"rank_{RADII_M[0]}m"].to_numpy(), k)[answerable].mean()
            out[f"recall_at_{k}_25m"] = share(got[answerable].mean())
            out[f"recall_at_{k}_25m_lost"] = share(best - got[answerable].mean())
    return out


def best_answers(system: System, outcome: Outcome) -> pd.DataFrame:
    """Rows of the neighbours table: the first few answers to each query."""
    indices = outcome.ranking.indices[:, :SHOWN]
    query, place_in_row = np.nonzero(indices >= 0)
    ids = system.rows["image_id"].to_numpy()
    return pd.DataFrame(
        {
            "scope": outcome.protocol.scope,
            "protocol": outcome.protocol.name,
            "image_id": ids[outcome.protocol.queries[query]],
            "rank": place_in_row + 1,
            "neighbour_id": ids[outcome.protocol.gallery[indices[query, place_in_row]]],
            "similarity": outcome.ranking.similarities[query, place_in_row],
            "distance_m": outcome.metres[query, place_in_row].round(2),
        }
    )


def headlines(found: dict[str, Any], knobs: Evaluate) -> dict[str, Any]:
    """The few numbers to look at first, by system: `dvc metrics diff metrics/headline.json` fits a screen."""
    out: dict[str, Any] = {}
    for system in ("model", "baseline"):
        tested, held = found[system]["test"], found[system]["validation"]
        names = ["newest_vs_older", "newest_vs_oldest", f"newest_vs_before_{knobs.before_year}", "city"]
        recalls = {f"test_{name}_r1": tested[name] for name in [*names, "leave_one_date_out"]}
        recalls["validation_newest_vs_older_r1"] = held["newest_vs_older"]
        lines = {
            f"{name}{end}": section.get(f"recall_at_1_25m{end}")
            for name, section in recalls.items()
            for end in ("", "_ci_low", "_ci_high")
        }
        lines["test_error_p90_m"] = tested["newest_vs_older"].get("error_p90_m")
        lines["test_radius_coverage"] = tested["location"].get("coverage")
        lines["test_radius_mean_m"] = tested["location"].get("radius_mean_m")
        lines["test_aurc_margin"] = tested["location"].get("aurc_margin")
        out[system] = {name: value for name, value in lines.items() if value is not None}
    return out


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """The system comes first; same table, same bytes."""
    columns = ["system", *(c for c in table.columns if c != "system")]
    write_text(path, table[columns].to_csv(index=False, lineterminator="\n"))
