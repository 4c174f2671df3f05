"""Contact sheets: queries with their first answers, dates and metres."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from streetrecall.pictures.shards import ShardReader
from streetrecall.tables import RIGHT_M

CELL, GAP, HEAD, CAPTION = 200, 12, 62, 46
GROUND, INK, RIGHT, WRONG, QUERY = "#fbfaf7", "#222222", "#1a7fc4", "#c8374a", "#77736a"


@dataclass(frozen=True)
class Sheet:
    """A picture of ``rows`` queries under a title."""

    name: str
    title: str
    image: Image.Image
    rows: int


def choose(predictions: pd.DataFrame, right: bool, most: int) -> pd.DataFrame:
    """Queries to show, one per place: the wrong ones with the highest similarity, the right ones with the lowest.

    >>> table = pd.DataFrame({"image_id": [1, 2, 3], "place": [7, 7, 8], "right_images": 1, "rank_25m": 0,
    ...                       "similarity": [0.4, 0.9, 0.5]})
    >>> choose(table, right=False, most=5)["image_id"].tolist()
    [2, 3]
    """
    chosen = predictions[(predictions["right_images"] > 0) & ((predictions[f"rank_{RIGHT_M}m"] == 1) == right)]
    ordered = chosen.sort_values(["similarity", "image_id"], ascending=[right, True])
    return ordered.drop_duplicates("place").head(most)


def draw(
    name: str, title: str, queries: pd.DataFrame, neighbours: pd.DataFrame, images: pd.DataFrame, crops: Path
) -> Sheet:
    """Draw ``queries`` (predictions) in rows: the query, then its ``neighbours`` (of the same protocol), best first.

    ``images`` is the IMAGES table; pictures are read from the shards below ``crops``. Answers within 25 m have a blue
    frame and a tick, others a red frame and a cross.

    Raises:
        UserError: a shard is missing.
    """
    ids = images["image_id"]
    where = dict(zip(ids, zip(images["shard"], images["offset"], images["size"], strict=True), strict=True))
    months, credit_of = dict(zip(ids, images["month"], strict=True)), dict(zip(ids, images["attribution"], strict=True))
    answers = neighbours[neighbours["image_id"].isin(queries["image_id"])].sort_values("rank")
    columns = 1 + int(answers["rank"].max()) if len(answers) else 1
    credit = sorted({credit_of[i] for i in [*queries["image_id"], *answers["neighbour_id"]]} - {""})
    width = GAP + columns * (CELL + GAP)
    step = CELL + CAPTION
    sheet = Image.new("RGB", (width, HEAD + len(queries) * step + (26 if credit else 0)), GROUND)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(20), ImageFont.load_default(14)
    pen.text((GAP, 10), title, INK, large)
    for column, text in enumerate(["query", *(f"answer {n}" for n in range(1, columns))]):
        pen.text((GAP + column * (CELL + GAP), 38), text, QUERY, small)
    with ShardReader(crops) as reader:

        def paste(image_id: int, row: int, column: int, colour: str, caption: list[str]) -> None:
            data = reader.read(*where[image_id])
            small_picture = Image.open(io.BytesIO(data)).convert("RGB").resize((CELL - 8, CELL - 8))
            left, top = GAP + column * (CELL + GAP), HEAD + row * step
            pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=colour)
            sheet.paste(small_picture, (left + 4, top + 4))
            for line, text in enumerate(caption):
                pen.text((left, top + CELL + 2 + 17 * line), text, INK, small)

        for row, query in enumerate(queries.to_dict("records")):
            paste(
                query["image_id"],
                row,
                0,
                QUERY,
                [query["month"], f"place {query['place']}, direction {query['direction']}"],
            )
            for a in answers[answers["image_id"] == query["image_id"]].to_dict("records"):
                near = a["distance_m"] <= RIGHT_M
                caption = [
                    f"{months[a['neighbour_id']]}  similarity {a['similarity']:.2f}",
                    f"{'right' if near else 'wrong'}, {a['distance_m']:,.0f} m",
                ]
                paste(a["neighbour_id"], row, a["rank"], RIGHT if near else WRONG, caption)
                _mark(pen, GAP + a["rank"] * (CELL + GAP) + CELL - 26, HEAD + row * step + 6, near)
    if credit:
        pen.text((GAP, sheet.height - 22), "; ".join(credit)[: width // 8], QUERY, small)
    return Sheet(name, title, sheet, len(queries))


def _mark(pen: ImageDraw.ImageDraw, left: int, top: int, right: bool) -> None:
    """A tick or a cross on a disc, so that colour is not the only sign."""
    pen.ellipse((left, top, left + 20, top + 20), fill=RIGHT if right else WRONG)
    strokes = [[(5, 10), (9, 14), (15, 6)]] if right else [[(6, 6), (14, 14)], [(14, 6), (6, 14)]]
    for stroke in strokes:
        pen.line([(left + x, top + y) for x, y in stroke], fill="white", width=2)


def sheets(
    predictions: pd.DataFrame, neighbours: pd.DataFrame, images: pd.DataFrame, crops: Path, most: int
) -> list[Sheet]:
    """The sheets of wrong and of right answers of the model on test, newest against older; none without queries."""
    wanted = {"scope": "test", "protocol": "newest_vs_older"}
    model = predictions[predictions["system"] == "model"]
    for column, value in wanted.items():
        model, neighbours = model[model[column] == value], neighbours[neighbours[column] == value]
    out = []
    for name, title, right in (
        ("wrong", "Wrong first answers, highest similarity first", False),
        ("right", "Right first answers, lowest similarity first", True),
    ):
        queries = choose(model, right, most)
        if len(queries):
            out.append(draw(name, title, queries, neighbours, images, crops))
    return out
