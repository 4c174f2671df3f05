"""`streetrecall compare [A [B]]`: is B better than A on the same queries? A paired bootstrap over places decides.

A and B are git commits, branches, tags, experiments, or "workspace". DVC gives the predictions of each.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import load
from streetrecall.printing import markdown_table, plain_table
from streetrecall.review.revisions import commit, require_clone
from streetrecall.scoring.bootstrap import Difference, paired_difference
from streetrecall.scoring.recall import found_at
from streetrecall.tables import KS, RADII_M, RIGHT_M

WORKSPACE = "workspace"
RESULTS = "data/results/queries.parquet"
QUERY = ["scope", "protocol", "place", "direction", "month"]
MOVED = 1e-5  # degrees: beyond this distance, the same number is another place


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", nargs="?", default="HEAD", help="revision to compare with (%(default)s)")
    parser.add_argument("second", nargs="?", default=WORKSPACE, help="revision that is judged (%(default)s)")
    parser.add_argument("--scope", default="test", help="split or subset, such as test_v1 (%(default)s)")
    parser.add_argument("--protocol", help="one protocol only (all)")
    parser.add_argument("--k", type=int, choices=KS, default=1, help="recall at K (%(default)s)")
    parser.add_argument(
        "--within",
        choices=[*(f"{r}m" for r in RADII_M), "place_direction"],
        default=f"{RIGHT_M}m",
        help="what counts as found (%(default)s)",
    )
    parser.add_argument(
        "--system", default="model", help="model, baseline, sift_vlad or a name of baseline.networks (%(default)s)"
    )
    parser.add_argument(
        "--against", metavar="SYSTEM", help="compare with this system of the second revision, not with the first one"
    )
    parser.add_argument("--results", default=RESULTS, help="predictions table (%(default)s)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--md", action="store_true", help="print a Markdown table")


@dataclass(frozen=True)
class Comparison:
    """The difference under one protocol, and how many queries only one of the two revisions has."""

    protocol: str
    difference: Difference
    only_first: int
    only_second: int


@dataclass(frozen=True)
class Asked:
    """Which queries of a table of predictions are compared, and what of each.

    Attributes:
        protocol: None means all protocols.
        column: the column of ranks that says within which distance an answer is right, such as ``rank_25m``.
        k: a query is found if its rank is at most this.
    """

    system: str
    scope: str
    protocol: str | None
    column: str
    k: int


def main(args: argparse.Namespace) -> None:
    settings = load(args.params).evaluate
    if args.against:
        second = read_results(args.second, args.results)
        first, names = renamed(second, args.against, args.system), (args.against, args.system)
    else:
        first, second = (read_results(revision, args.results) for revision in (args.first, args.second))
        names = args.first, args.second
    asked = Asked(args.system, args.scope, args.protocol, f"rank_{args.within}", args.k)
    found = compare(first, second, names, asked, (settings.bootstrap_draws, settings.confidence, settings.seed))
    if args.json:
        content = [
            {"protocol": c.protocol, "only_first": c.only_first, "only_second": c.only_second} | asdict(c.difference)
            for c in found
        ]
        print(json.dumps(content, indent=2, sort_keys=True))
    else:
        title = f"recall at {args.k} ({args.within.replace('_', ' and ')}) of the {args.system}, {args.scope}"
        print(report(found, *names, title, settings.confidence, args.md))


def renamed(table: pd.DataFrame, system: str, name: str) -> pd.DataFrame:
    """The predictions of ``system`` as if they were those of the system ``name``.

    Raises:
        UserError: the table has none of that system.
    """
    there = sorted(set(table["system"]))
    if system not in there:
        raise UserError(f"--against {system}: there is no such system; there are {', '.join(there)}")
    return table[table["system"] == system].assign(system=name)


def read_results(revision: str, path: str) -> pd.DataFrame:
    """The predictions table of a revision; from disk for the workspace, else from DVC's cache or remote.

    Raises:
        UserError: there is no such revision, or DVC does not find its results.
    """
    if revision == WORKSPACE:
        return tables.read(tables.PREDICTIONS, path)
    require_clone(Path())
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    try:
        with dvc.api.open(path, rev=revision, mode="rb") as stream:
            content = stream.read()
    except RevError as error:
        listed = "`git log --all` and `dvc exp show` list those that there are"
        try:
            commit(Path(), revision)
        except UserError as refused:
            raise UserError(f"{refused}; {listed}") from error
        raise UserError(f"{revision}: DVC finds no such revision ({error}); {listed}") from error
    except (DvcException, OSError) as error:
        raise UserError(
            f"{revision}: its {path} is neither in the cache nor in a remote ({error}); "
            "a teammate who has it can run `dvc push`; then run `dvc fetch` here"
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
    asked: Asked,
    bootstrap: tuple[int, float, int],
) -> list[Comparison]:
    """Differences of recall for each protocol in both tables.

    Compared are the queries that both tables hold and can answer. Two queries are the same if their place, direction,
    month and position are.

    Raises:
        UserError: the two tables have no query in common.
    """
    joined, both = pair(first, second, names, asked)
    out = []
    for title, rows in joined.groupby("protocol"):
        pairs = both[both["protocol"] == title]
        if len(pairs):
            a, b = pairs["found_a"].to_numpy(bool), pairs["found_b"].to_numpy(bool)
            difference = paired_difference(pairs["place"].to_numpy(), a, b, *bootstrap)
            single = [int(rows[f"found_{side}"].notna().sum()) - len(pairs) for side in "ab"]
            out.append(Comparison(str(title), difference, *single))
    if not out:
        raise UserError(f"{names[0]} and {names[1]} have no query in common; their places or dates differ")
    return out


def pair(
    first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str], asked: Asked
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The answerable queries of both tables, matched, and those of them that both hold; columns end in _a and _b.

    Raises:
        UserError: one of the tables has no query of this kind.
    """
    chosen = [_chosen(table, name, asked) for name, table in zip(names, (first, second), strict=True)]
    joined = chosen[0].merge(chosen[1], on=[*QUERY, "twin"], how="outer", suffixes=("_a", "_b"), indicator=True)
    still = [(joined[f"{c}_a"] - joined[f"{c}_b"]).abs().lt(MOVED) for c in ("lat", "lon")]
    return joined, joined[(joined["_merge"] == "both") & still[0] & still[1]]


def _chosen(table: pd.DataFrame, name: str, asked: Asked) -> pd.DataFrame:
    """The queries of ``table`` that can be answered, and whether each is found."""
    rows = table[(table["system"] == asked.system) & (table["scope"] == asked.scope)]
    if asked.protocol:
        rows = rows[rows["protocol"] == asked.protocol]
    if rows.empty:
        wanted = f"{asked.scope}, {asked.protocol}" if asked.protocol else asked.scope
        there = ", ".join(sorted({f"{s}/{p}" for s, p in zip(table["scope"], table["protocol"], strict=True)}))
        raise UserError(f"{name}: no queries of {wanted}; there are {there}")
    right = "right_place_direction" if asked.column == "rank_place_direction" else "right_images"
    rows = rows[rows[right] > 0].sort_values([*QUERY, "image_id"])
    # Revisions with other pictures number them differently. Two queries of one month are told apart by their order.
    rows = rows.assign(twin=rows.groupby(QUERY).cumcount(), found=found_at(rows[asked.column].to_numpy(), asked.k))
    return rows[[*QUERY, "twin", "image_id", "lat", "lon", "answer_place", "error_m", "found"]]


def report(found: list[Comparison], first: str, second: str, title: str, confidence: float, markdown: bool) -> str:
    """A table for the terminal or for a pull request."""
    interval = f"{100 * confidence:g}% interval"
    head = ["protocol", first, second, "difference", interval, "queries", "places", f"{second} is"]
    rows = [_row(c.protocol, c.difference) for c in found]
    single = sum(c.only_first + c.only_second for c in found)
    note = f"Left out: {single} queries that only one of the two has." if single else ""
    title = title[0].upper() + title[1:]
    if markdown:
        return f"**{title}**\n\n{markdown_table(head, rows)}\n\n{note}".rstrip()
    return f"{title}\n\n{plain_table(head, rows)}\n{note}".rstrip()


def _row(protocol: str, d: Difference) -> list[str]:
    known = d.low is not None and d.high is not None
    return [
        protocol,
        f"{100 * d.first:.1f}%",
        f"{100 * d.second:.1f}%",
        f"{100 * d.difference:+.1f}",
        f"{100 * (d.low or 0):+.1f} to {100 * (d.high or 0):+.1f}" if known else "too few places",
        str(d.queries),
        f"{d.places} ({d.changed_places} changed)",
        d.verdict,
    ]
