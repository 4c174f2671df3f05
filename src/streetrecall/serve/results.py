"""The evaluation's queries and their answers, and the dates of a place, as the page shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.months import UNKNOWN, month_numbers
from streetrecall.pictures.quarantine import BLANK
from streetrecall.scoring.breakdown import SEASONS
from streetrecall.scoring.curves import season
from streetrecall.scoring.photos import SINGLE, THREE
from streetrecall.scoring.protocols import protocols, right_pairs
from streetrecall.serve.project import Project
from streetrecall.tables import RIGHT_M, WITH_PICTURE

NAMES = {
    SINGLE: "photos",
    THREE: "photos of a spot together",
    "newest_vs_older": "newest against older",
    "newest_vs_oldest": "newest against oldest",
    "city": "gallery of the whole city",
    "leave_one_date_out": "leave one date out",
}
COMPASS = ("north", "east", "south", "west")
RIGHT, WRONG, WITHHELD, UNANSWERABLE = "right", "wrong", "withheld", "unanswerable"
SHOWN = 5
RANK = f"rank_{RIGHT_M}m"  # the column of the rank of the first right answer


def label(protocol: str) -> str:
    """What a person reads for a protocol.

    >>> label("newest_vs_before_2015")
    'newest against before 2015'
    """
    return NAMES.get(protocol, protocol.replace("_vs_", " against ").replace("_", " "))


def choices(project: Project) -> list[dict[str, Any]]:
    """What can be shown: each system, scope and protocol that was evaluated, with its number of queries."""
    return project.kept("choices", ("queries", "photo_answers"), lambda: list(_choices(project)))


def _choices(project: Project) -> Iterable[dict[str, Any]]:
    photos = project.table_or_none("photo_answers")
    if photos is not None:
        for (scope, protocol), rows in photos.groupby(["split", "protocol"], sort=False):
            yield _choice("model", str(scope), str(protocol), "photos", len(rows))
    queries = project.table_or_none("queries")
    if queries is not None:
        for (system, scope, protocol), rows in queries.groupby(["system", "scope", "protocol"]):
            yield _choice(str(system), str(scope), str(protocol), "pictures", len(rows))


def _choice(system: str, scope: str, protocol: str, kind: str, queries: int) -> dict[str, Any]:
    return {
        "system": system,
        "scope": scope,
        "protocol": protocol,
        "label": label(protocol),
        "kind": kind,
        "queries": queries,
    }


def queries(project: Project, system: str, scope: str, protocol: str) -> dict[str, Any] | None:
    """The queries of a protocol; None if there are none.

    ``columns`` are id, place, month, lat, lon, outcome, rank, answerable, error_m, similarity, gap_years, season,
    direction and credit, the number of a text in ``credits``: whom the query's picture is from, and its licence.
    """
    key = f"queries {system} {scope} {protocol}"
    if not any((c["system"], c["scope"], c["protocol"]) == (system, scope, protocol) for c in choices(project)):
        return None
    names = ("queries", "photo_answers", "images", "photos", "views", "described")
    return project.kept(key, names, lambda: _queries(project, system, scope, protocol))


def _queries(project: Project, system: str, scope: str, protocol: str) -> dict[str, Any]:
    if protocol in (SINGLE, THREE):
        rows = _photo_rows(project, scope, protocol)
    else:
        rows = _picture_rows(project, system, scope, protocol)
    months = month_numbers(rows["month"])
    seasons = np.array(SEASONS, dtype=object)[season(np.maximum(months, 0) % 12, rows["lat"].to_numpy() < 0)]
    rows["season"] = np.where(months == UNKNOWN, "", seasons)
    columns = {
        "id": rows["id"].tolist(),
        "place": rows["place"].tolist(),
        "month": rows["month"].tolist(),
        "lat": _rounded(rows["lat"], 6),
        "lon": _rounded(rows["lon"], 6),
        "outcome": rows["outcome"].tolist(),
        "rank": rows[RANK].tolist(),
        "answerable": rows["can"].tolist(),
        "error_m": _rounded(rows["error_m"], 1),
        "similarity": _rounded(rows["similarity"], 3),
        "gap_years": [None if gap < 0 else int(gap) for gap in rows["gap"]],
        "season": rows["season"].tolist(),
        "direction": rows["direction"].tolist(),
    }
    credit = _credits(project, protocol, rows["id"])
    texts, numbers = np.unique(credit.to_numpy(object).astype(str), return_inverse=True)
    return {
        "label": label(protocol),
        "columns": columns | {"credit": numbers.tolist()},
        "credits": texts.tolist(),
    }


def _credits(project: Project, protocol: str, ids: pd.Series) -> pd.Series:
    """Attribution and licence of the pictures of queries."""
    photos = protocol in (SINGLE, THREE)
    table = project.table_or_none("photos" if photos else "images")
    if table is None:
        return pd.Series("", index=ids)
    column = "image_id" if not photos else "photo_id" if protocol == SINGLE else "spot"
    rows = table.drop_duplicates(column).set_index(column).reindex(ids)
    who = rows["attribution"].where(rows["attribution"] != "", rows["provider"]).fillna("")
    licence = rows["licence"].fillna("")
    return who + licence.where(licence == "", " · " + licence)


def _picture_rows(project: Project, system: str, scope: str, protocol: str) -> pd.DataFrame:
    table = project.table("queries")
    rows = table[(table["system"] == system) & (table["scope"] == scope) & (table["protocol"] == protocol)].copy()
    images = project.table_or_none("images")
    heading = np.full(len(rows), np.nan)
    if images is not None:
        heading = images.set_index("image_id")["heading_deg"].reindex(rows["image_id"]).to_numpy(float)
    rows["direction"] = compass(heading, rows["direction"].to_numpy())
    right = (rows[RANK] == 1).to_numpy()
    rows["can"] = rows["right_images"] > 0
    rows["outcome"] = np.where(~rows["can"], UNANSWERABLE, np.where(right, RIGHT, WRONG))
    rows["gap"] = _gaps(project, scope, protocol, rows["image_id"].to_numpy())
    return rows.rename(columns={"image_id": "id"})


def _gaps(project: Project, scope: str, protocol: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Years between each query and the right picture of the gallery nearest to it in time; -1 if that is not known."""
    gaps = np.full(len(ids), -1)
    described = project.table_or_none("described")
    params = project.params()
    if described is None or params is None:
        return gaps
    inside = ((described["split"] == scope) | (described["subset"] == scope)).to_numpy(bool)
    for candidate in protocols(described, scope, inside, params.evaluate.before_year):
        if candidate.name == protocol:
            asked, gallery = described.iloc[candidate.queries], described.iloc[candidate.gallery]
            query, answer = right_pairs(asked, gallery)
            months = month_numbers(asked["month"])[query], month_numbers(gallery["month"])[answer]
            known = (months[0] != UNKNOWN) & (months[1] != UNKNOWN)
            years = np.abs(months[0] - months[1])[known] // 12
            least = pd.Series(years).groupby(asked["image_id"].to_numpy()[query][known]).min()
            gaps = least.reindex(ids).fillna(-1).to_numpy(np.int64)
    return gaps


def _photo_rows(project: Project, scope: str, protocol: str) -> pd.DataFrame:
    table = project.table("photo_answers")
    rows = table[(table["split"] == scope) & (table["protocol"] == protocol)].copy()
    photos = project.table_or_none("photos")
    heading = np.full(len(rows), np.nan)
    if photos is not None and protocol == SINGLE:
        heading = photos.set_index("photo_id")["heading_deg"].reindex(rows["query"]).to_numpy(float)
    rows["direction"] = compass(heading, np.full(len(rows), -1))
    right = (rows[RANK] == 1).to_numpy()
    rows["outcome"] = np.where(
        ~rows["answered"], WITHHELD, np.where(rows["answerable"], np.where(right, RIGHT, WRONG), WRONG)
    )
    rows["gap"] = -1
    views = project.table_or_none("views")
    if views is not None and "x" in views:
        latest = month_numbers(views["month"])
        newest = (
            pd.Series(latest).groupby(views["place"].to_numpy()).max().reindex(rows["answer_place"]).to_numpy(float)
        )
        months = month_numbers(rows["month"])
        known = (months != UNKNOWN) & (newest >= 0)
        rows["gap"] = np.where(known, np.abs(months - np.nan_to_num(newest)) // 12, -1).astype(np.int64)
    rows = rows.assign(place=rows["answer_place"], similarity=rows["score"], can=rows["answerable"])
    return rows.rename(columns={"query": "id"})


def compass(heading: NDArray[np.float64], direction: NDArray[np.int64]) -> NDArray[np.object_]:
    """The side of the world that a heading in degrees is nearest to; without one, the number of the direction.

    >>> compass(np.array([350.0, np.nan, np.nan]), np.array([0, 3, -1])).tolist()
    ['north', 'direction 3', '']
    """
    names = np.array(COMPASS, dtype=object)[np.round(np.nan_to_num(heading) / 90).astype(int) % 4]
    numbers = np.array([f"direction {d}" if d >= 0 else "" for d in direction], dtype=object)
    return np.where(np.isnan(heading), numbers, names)


def query(project: Project, system: str, scope: str, protocol: str, number: int) -> dict[str, Any] | None:
    """One query with its picture, its answers, its position and its error under the other protocols."""
    if protocol in (SINGLE, THREE):
        return _photo(project, scope, protocol, number)
    table = project.table("queries")
    of_system = table[(table["system"] == system) & (table["image_id"] == number)]
    chosen = of_system[(of_system["scope"] == scope) & (of_system["protocol"] == protocol)]
    if chosen.empty:
        return None
    row: Any = chosen.iloc[0]
    images = project.table("images").set_index("image_id")
    answers = []
    neighbours = project.table_or_none("neighbours") if system == "model" else None
    if neighbours is not None:
        found = neighbours[
            (neighbours["scope"] == scope) & (neighbours["protocol"] == protocol) & (neighbours["image_id"] == number)
        ].sort_values("rank")
        answers += [
            _answer(images, int(line["neighbour_id"]), int(line["rank"]), line["similarity"], line["distance_m"])
            for line in found.head(SHOWN).to_dict("records")
        ]
    if not answers and row["answer_id"] >= 0:
        answers.append(_answer(images, int(row["answer_id"]), 1, row["similarity"], row["error_m"]))
    position = None
    placed = project.table_or_none("positions")
    if placed is not None:
        rows = placed[(placed["system"] == system) & (placed["split"] == row["split"]) & (placed["image_id"] == number)]
        if len(rows):
            position = _position(rows.iloc[0].to_dict())
    others = of_system[of_system["scope"] == scope]
    return {
        "id": int(number),
        "kind": "pictures",
        "pictures": [_picture(images, number)],
        "place": int(row["place"]),
        "lat": round(float(row["lat"]), 6),
        "lon": round(float(row["lon"]), 6),
        "month": row["month"],
        "answers": answers,
        "position": position,
        "protocols": [
            {"protocol": p, "label": label(p), "rank": int(rank), "error_m": _number(error, 1)}
            for p, rank, error in zip(others["protocol"], others[RANK], others["error_m"], strict=True)
        ],
    }


def _photo(project: Project, scope: str, protocol: str, number: int) -> dict[str, Any] | None:
    table = project.table("photo_answers")
    chosen = table[(table["split"] == scope) & (table["protocol"] == protocol) & (table["query"] == number)]
    if chosen.empty:
        return None
    row: Any = chosen.iloc[0]
    photos = project.table("photos")
    asked = photos[photos["photo_id" if protocol == SINGLE else "spot"] == number]
    asked = asked[asked["split"] == scope]
    answers = []
    views = project.table_or_none("views")
    if row["answer_place"] >= 0 and views is not None:
        there = views[(views["place"] == row["answer_place"]) & (views["use"] == "gallery")]
        heading = float(asked["heading_deg"].iloc[0])
        away = np.abs((there["heading_deg"] - heading + 180) % 360 - 180)
        nearest = there.assign(away=away).sort_values(["away", "month"]).head(SHOWN)
        for rank, line in enumerate(nearest.to_dict("records")):
            answers.append(
                {
                    "rank": 1 if rank == 0 else None,
                    "place": int(line["place"]),
                    "similarity": _number(row["score"], 3) if rank == 0 else None,
                    "distance_m": _number(row["error_m"], 1),
                    "lat": round(float(line["lat"]), 6),
                    "lon": round(float(line["lon"]), 6),
                    "picture": picture(f"views-{line['view_id']}", line),
                }
            )
    return {
        "id": int(number),
        "kind": "photos",
        "pictures": [picture(f"photos-{line['photo_id']}", line) for line in asked.to_dict("records")],
        "place": int(row["answer_place"]),
        "lat": round(float(row["lat"]), 6),
        "lon": round(float(row["lon"]), 6),
        "month": row["month"],
        "answers": answers,
        "position": {
            "lat": _number(row["position_lat"], 6),
            "lon": _number(row["position_lon"], 6),
            "error_m": _number(row["position_error_m"], 1),
            "radius_m": _number(row["radius_m"], 1),
            "answered": bool(row["answered"]),
        },
        "protocols": [
            {
                "protocol": protocol,
                "label": label(protocol),
                "rank": int(row[RANK]),
                "error_m": _number(row["error_m"], 1),
            }
        ],
    }


def _position(row: dict[Any, Any]) -> dict[str, Any]:
    return {
        "lat": _number(row["lat"], 6),
        "lon": _number(row["lon"], 6),
        "error_m": _number(row["error_m"], 1),
        "radius_m": _number(row["radius_m"], 1),
        "answered": bool(row["answered"]),
    }


def _answer(images: pd.DataFrame, number: int, rank: int, similarity: float, distance: float) -> dict[str, Any]:
    row: Any = images.loc[number]
    return {
        "rank": rank,
        "place": int(row["place"]),
        "similarity": _number(similarity, 3),
        "distance_m": _number(distance, 1),
        "lat": round(float(row["lat"]), 6),
        "lon": round(float(row["lon"]), 6),
        "picture": _picture(images, number),
    }


def _picture(images: pd.DataFrame, number: int) -> dict[str, Any]:
    if number not in images.index:
        raise UserError(f"data/crops/images.parquet: has no picture {number}; run the stages crop to evaluate again")
    return picture(f"crops-{number}", images.loc[number])


def picture(name: str, row: Any) -> dict[str, Any]:
    """What the page needs to show a picture: its id, month, licence and attribution."""
    return {
        "id": name,
        "month": row["month"],
        "heading_deg": _number(row["heading_deg"], 0),
        "width": int(row["width"]),
        "height": int(row["height"]),
        "licence": row["licence"],
        "attribution": row["attribution"],
        "provider": row["provider"],
    }


def place(project: Project, number: int) -> dict[str, Any] | None:
    """A place with its pictures by date, the oldest date first, and by direction."""
    places = project.places()
    if number not in places.index:
        return None
    row = places.loc[[number]].to_dict("records")[0]
    images, views = project.table_or_none("images"), project.table_or_none("views")
    rows = None if images is None else images[(images["place"] == number) & (images["quarantine"] == "")]
    if rows is not None and len(rows):
        rows = rows.assign(key=rows["direction"], name=[f"crops-{n}" for n in rows["image_id"]])
    else:
        assert views is not None
        rows = views[(views["place"] == number) & (views["use"] == "gallery")]
        rows = rows.assign(key=rows["heading_deg"].round(), name=[f"views-{n}" for n in rows["view_id"]])
    # A month may have two panoramas at a place: they are two dates.
    rows = rows.assign(date=rows["month"] + " " + rows["pano_id"])
    rows = rows.sort_values(["date", "key"]).drop_duplicates(["date", "key"])
    keys = sorted(rows["key"].unique())
    directions = []
    for key in keys:
        headings = rows.loc[rows["key"] == key, "heading_deg"].to_numpy(float)
        known = headings[~np.isnan(headings)]
        directions.append({"key": int(key), "heading_deg": float(round(known[0], 1)) if len(known) else None})
    dates = []
    for _, group in rows.groupby("date", sort=True):
        pictures = {int(line["key"]): picture(line["name"], line) for line in group.to_dict("records")}
        dates.append({"month": group["month"].iloc[0], "pictures": [pictures.get(int(key)) for key in keys]})
    return {
        "place": int(number),
        "lat": round(float(row["lat"]), 6),
        "lon": round(float(row["lon"]), 6),
        "split": row["split"],
        "directions": directions,
        "dates": dates,
    }


def quarantined(project: Project) -> pd.DataFrame:
    """What was kept out and why: pictures in quarantine, and captures without a picture. Rows: id, reason, place..."""
    return project.kept("quarantine", ("images", "captures"), lambda: _quarantined(project))


def _quarantined(project: Project) -> pd.DataFrame:
    images = project.table("images")
    kept_out = images[images["quarantine"] != ""]
    columns = ["place", "month", "split", "lat", "lon", "heading_deg", "provider", "licence", "attribution"]
    parts = [
        kept_out[[*columns, "width", "height", "luminance_mean", "luminance_std", "sha256"]].assign(
            name=[f"crops-{n}" for n in kept_out["image_id"]], reason=kept_out["quarantine"], detail=""
        )
    ]
    captures = project.table_or_none("captures")
    if captures is not None:
        lost = captures[~captures["status"].isin(WITH_PICTURE)]
        parts.append(
            lost[columns].assign(
                name="", reason="capture " + lost["status"], detail=lost["reason"], width=0, height=0,
                luminance_mean=np.nan, luminance_std=np.nan, sha256="",
            )
        )  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    twins = rows.groupby("sha256")["place"].transform("size")
    several = (rows["sha256"] != "") & (twins > 1)
    rows.loc[several, "detail"] = twins[several].astype(str) + " pictures in quarantine have this file"
    blank = (rows["reason"] == BLANK) & rows["luminance_mean"].notna()
    rows.loc[blank, "detail"] = [
        f"brightness {mean:.1f} of 255, contrast {std:.1f}"
        for mean, std in zip(rows.loc[blank, "luminance_mean"], rows.loc[blank, "luminance_std"], strict=True)
    ]
    return rows.sort_values(["reason", "place", "month", "name"], ignore_index=True)


def _number(value: Any, digits: int) -> float | None:
    """A rounded number, or None where there is none (NaN, infinity)."""
    number = float(value)
    return round(number, digits) if np.isfinite(number) else None


def _rounded(values: pd.Series, digits: int) -> list[float | None]:
    numbers = values.to_numpy(float)
    return [round(v, digits) if np.isfinite(v) else None for v in numbers.tolist()]
