"""`streetrecall compare [A [B]]`: is B better than A on the same queries? A paired bootstrap over places says.

Revisions are git commits, branches, tags or experiments, or "workspace"; each one's answers come out of DVC.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import asdict, dataclass

import pandas as pd
import pyarrow.parquet as pq

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import load
from streetrecall.scoring.bootstrap import Difference, paired_difference
from streetrecall.scoring.recall import KS, RADII_M, found_at

WORKSPACE = "workspace"
RESULTS = "data/results/queries.parquet"
KEY = ["scope", "protocol", "place", "direction", "month", "image_id"]
MOVED = 1e-5  # degrees: a place number that names another spot is another place


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", nargs="?", default="HEAD", help="revision to compare with (%(default)s)")
    parser.add_argument("second", nargs="?", default=WORKSPACE, help="revision that may be better (%(default)s)")
    parser.add_argument("--scope", default="test", help="split or subset, such as test_v1 (%(default)s)")
    parser.add_argument("--protocol", help="one protocol only (all)")
    parser.add_argument("--k", type=int, choices=KS, default=1, help="recall at K (%(default)s)")
    parser.add_argument(
        "--within",
        choices=[*(f"{r}m" for r in RADII_M), "place_direction"],
        default=f"{RADII_M[0]}m",
        help="what counts as found (%(default)s)",
    )
    parser.add_argument("--system", choices=["model", "baseline"], default="model", help="(%(default)s)")
    parser.add_argument("--results", default=RESULTS, help="what was answered to each query (%(default)s)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--md", action="store_true", help="print a Markdown table")


@dataclass(frozen=True)
class Comparison:
    """One protocol's difference, and how many queries only one of the two revisions has."""

    protocol: str
    difference: Difference
    only_first: int
    only_second: int


def main(args: argparse.Namespace) -> None:
    knobs = load(args.params).evaluate
    found = compare(
        read_results(args.first, args.results),
        read_results(args.second, args.results),
        (args.first, args.second),
        args.system,
        args.scope,
        args.protocol,
        f"rank_{args.within}",
        args.k,
        (knobs.bootstrap_draws, knobs.confidence, knobs.seed),
    )
    if args.json:
        content = [
            {"protocol": c.protocol, "only_first": c.only_first, "only_second": c.only_second} | asdict(c.difference)
            for c in found
        ]
        print(json.dumps(content, indent=2, sort_keys=True))
    else:
        title = f"recall at {args.k} ({args.within.replace('_', ' and ')}) of the {args.system}, {args.scope}"
        print(report(found, args.first, args.second, title, knobs.confidence, args.md))


def read_results(revision: str, path: str) -> pd.DataFrame:
    """The predictions table of a revision; from disk for the workspace, else out of DVC's cache or remote.

    Raises:
        UserError: there is no such revision, or its results are in no cache at hand.
    """
    if revision == WORKSPACE:
        return tables.read(tables.PREDICTIONS, path)
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    try:
        with dvc.api.open(path, rev=revision, mode="rb") as stream:
            content = stream.read()
    except RevError as error:
        raise UserError(f"{revision}: git knows no such revision; git log and dvc exp show list them") from error
    except (DvcException, OSError) as error:
        raise UserError(
            f"{revision}: its {path} is neither in the cache nor in a remote ({error}); "
            f"if a teammate has it: dvc push there, then here dvc fetch"
        ) from error
    frame = pq.read_table(io.BytesIO(content)).to_pandas()
    missing = [c for c in tables.PREDICTIONS.columns if c not in frame.columns]
    if missing:
        raise UserError(f"{revision}: its {path} lacks the columns {', '.join(missing)}; an older version wrote it")
    return frame[list(tables.PREDICTIONS.columns)]


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    names: tuple[str, str],
    system: str,
    scope: str,
    protocol: str | None,
    column: str,
    k: int,
    bootstrap: tuple[int, float, int],
) -> list[Comparison]:
    """Differences of recall at ``k`` by ``column``, for each protocol that both tables hold, on the queries that both
    hold and can answer. Queries are the same if place, direction, month and position are.

    Raises:
        UserError: the two have nothing in common.
    """
    right = "right_place_direction" if column == "rank_place_direction" else "right_images"
    chosen = []
    for name, table in zip(names, (first, second), strict=True):
        rows = table[(table["system"] == system) & (table["scope"] == scope)]
        if protocol:
            rows = rows[rows["protocol"] == protocol]
        if rows.empty:
            wanted = f"{scope}, {protocol}" if protocol else scope
            there = ", ".join(sorted({f"{s}/{p}" for s, p in zip(table["scope"], table["protocol"], strict=True)}))
            raise UserError(f"{name}: no queries of {wanted}; there are {there}")
        rows = rows[rows[right] > 0].sort_values([*KEY])
        # image_id differs between revisions that hold other pictures; what tells two of one month apart is their order.
        rows = rows.assign(twin=rows.groupby(KEY[:-1]).cumcount(), found=found_at(rows[column].to_numpy(), k))
        chosen.append(rows[[*KEY[:-1], "twin", "lat", "lon", "found"]])
    out = []
    joined = chosen[0].merge(chosen[1], on=[*KEY[:-1], "twin"], how="outer", suffixes=("_a", "_b"), indicator=True)
    same_spot = (joined["lat_a"] - joined["lat_b"]).abs().lt(MOVED) & (joined["lon_a"] - joined["lon_b"]).abs().lt(
        MOVED
    )
    for title, rows in joined.groupby("protocol"):
        both = rows[(rows["_merge"] == "both") & same_spot[rows.index]]
        if len(both):
            a, b = both["found_a"].to_numpy(bool), both["found_b"].to_numpy(bool)
            difference = paired_difference(both["place"].to_numpy(), a, b, *bootstrap)
            lonely = [int(rows[f"found_{side}"].notna().sum()) - len(both) for side in "ab"]
            out.append(Comparison(str(title), difference, *lonely))
    if not out:
        raise UserError(f"{names[0]} and {names[1]} have no query in common; their places or dates differ")
    return out


def report(found: list[Comparison], first: str, second: str, title: str, confidence: float, markdown: bool) -> str:
    """A table for the terminal or for a pull request."""
    head = [
        "protocol",
        first,
        second,
        "difference",
        f"{100 * confidence:g}% interval",
        "queries",
        "places",
        f"{second} is",
    ]
    rows = []
    for c in found:
        d = c.difference
        interval = "too few places" if d.low is None or d.high is None else f"{100 * d.low:+.1f} to {100 * d.high:+.1f}"
        rows.append(
            [c.protocol, f"{100 * d.first:.1f}%", f"{100 * d.second:.1f}%", f"{100 * d.difference:+.1f}", interval,
             str(d.queries), f"{d.places} ({d.changed_places} changed)", d.verdict]
        )  # fmt: skip
    lonely = sum(c.only_first + c.only_second for c in found)
    notes = [f"Left out: {lonely} queries that only one of the two has."] if lonely else []
    if markdown:
        lines = [
            f"**{title[0].upper()}{title[1:]}**",
            "",
            *("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows]),
        ]
        return "\n".join([*lines, "", *notes]).rstrip()
    width = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)).rstrip() for row in [head, *rows]]
    return "\n".join([f"{title[0].upper()}{title[1:]}", "", *lines, *notes])
