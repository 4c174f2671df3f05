"""`streetrecall report BASE`: what this working tree changes against BASE, as Markdown, and whether it may be merged.

Needs neither data nor a GPU: it reads what git holds (dvc.yaml, dvc.lock, params.yaml, metrics/). Compared is with the
commit at which HEAD left BASE, so that what others did since does not count. Exit code 1 when dvc.lock is stale, a
gate's report says no, or a guarded metric drops.

A change counts as clear when each side lies outside the other's 95% interval (``KEY_ci_low``, ``KEY_ci_high`` beside
``KEY``); intervals are over places, and both sides are measured on the same ones. ``params.yaml: guard`` says by how
much a metric may drop: the report fails when it drops by more, and clearly.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError
from streetrecall.figures import plots
from streetrecall.review import staleness
from streetrecall.review.revisions import (
    HIGH,
    LOW,
    Results,
    Value,
    at_revision,
    common_ancestor,
    in_workspace,
    interval,
)

DATA = ("grid", "metadata", "order", "scrape", "crop")  # their metrics count rows, places and images
LOWER_IS_BETTER = ("error", "loss", "radius", "distance")
COMMENT_LIMIT = 65_000  # characters; the forge refuses a comment of 65,536


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help="revision to compare with, such as origin/main")
    parser.add_argument("--output", type=Path, help="write the report to this file (default: print it)")
    parser.add_argument("--plots", type=Path, help="draw the plots of both sides into this folder, as SVG")


def main(args: argparse.Namespace) -> int:
    report = build(Path.cwd(), args.base, args.plots)
    text = report.markdown()
    if args.output is None:
        print(text)
    else:
        args.output.write_text(text, encoding="utf-8")
    for failure in report.failures:
        print(f"streetrecall report: {failure}", file=sys.stderr)
    return 1 if report.failures else 0


@dataclass(frozen=True)
class Change:
    """A metric on both sides; None where a side lacks it."""

    key: str
    base: Value
    head: Value
    base_interval: tuple[float, float] | None = None
    head_interval: tuple[float, float] | None = None

    @property
    def difference(self) -> float | None:
        if _is_number(self.base) and _is_number(self.head):
            return float(self.head) - float(self.base)  # type: ignore[arg-type]
        return None

    @property
    def is_clear(self) -> bool:
        """Each side lies outside the other's interval; without intervals every change is clear."""
        if self.difference is None or not self.difference:
            return False
        return not (_within(self.head, self.base_interval) or _within(self.base, self.head_interval))

    @property
    def verdict(self) -> str:
        """better, worse or within the interval; nothing for a metric without an interval or a known direction.

        >>> Change("r", 0.80, 0.90, (0.78, 0.82), (0.88, 0.92)).verdict
        'better'
        >>> Change("r", 0.80, 0.81, (0.78, 0.82), (0.79, 0.83)).verdict
        'within the interval'
        """
        if not self.difference or not (self.base_interval or self.head_interval):
            return ""
        if not self.is_clear:
            return "within the interval"
        return "better" if (self.difference > 0) != lower_is_better(self.key) else "worse"


def _within(value: Value, bounds: tuple[float, float] | None) -> bool:
    return bounds is not None and bounds[0] <= float(value or 0) <= bounds[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def lower_is_better(key: str) -> bool:
    """Whether a smaller value of the metric ``key`` is the better one.

    >>> lower_is_better("evaluate.test.error_median_m"), lower_is_better("evaluate.test.recall_at_1")
    (True, False)
    """
    return any(word in key.rsplit(".", 1)[-1] for word in LOWER_IS_BETTER)


def changes(base: Results, head: Results, keep: Callable[[str], bool] = lambda key: True) -> list[Change]:
    """Every metric of either side that ``keep`` lets through, bounds of intervals aside."""
    bounds = {
        key
        for metrics in (base.metrics, head.metrics)
        for key in metrics
        if key.endswith((LOW, HIGH)) and key.removesuffix(LOW).removesuffix(HIGH) in metrics
    }
    keys = sorted((base.metrics.keys() | head.metrics.keys()) - bounds)
    return [
        Change(
            key, base.metrics.get(key), head.metrics.get(key), interval(base.metrics, key), interval(head.metrics, key)
        )
        for key in keys
        if keep(key)
    ]


def guard_failures(base: Results, head: Results) -> list[str]:
    """What ``params.yaml: guard`` forbids about the change from ``base`` to ``head``.

    The bounds are those of either side, the stricter one: a pull request does not loosen the guard that judges it.
    """
    limits: dict[str, float] = {}
    for side in (base, head):
        for key, limit in side.params.items():
            if key.startswith("guard.") and _is_number(limit):
                name = key.removeprefix("guard.")
                limits[name] = min(float(limit), limits.get(name, float("inf")))  # type: ignore[arg-type]
    found = []
    by_key = {change.key: change for change in changes(base, head)}
    for name, limit in sorted(limits.items()):
        change = by_key.get(name)
        if change is None:
            if any(key.startswith(name.split(".", 1)[0] + ".") for key in by_key):
                nearest = get_close_matches(name, by_key, n=1, cutoff=0.0)
                found.append(f"params.yaml: guard names '{name}', which no metric is; the nearest is '{nearest[0]}'")
        elif not _is_number(change.head):
            found.append(f"the guarded metric {name} is gone; it was {number(change.base)}")
        elif change.difference is not None:
            drop = change.difference if lower_is_better(name) else -change.difference
            if drop > limit and change.is_clear:
                found.append(
                    f"the guarded metric {name} went from {number(change.base)} to {number(change.head)}: "
                    f"{number(drop)} worse where {number(limit)} is allowed, and beyond its interval"
                )
    return found


@dataclass
class Report:
    """Sections of Markdown in order, each with a rank (the highest goes first when room is short), and what fails."""

    title: str
    failures: list[str] = field(default_factory=list)
    sections: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, heading: str, body: str, rank: int = 0, folded: bool = False) -> None:
        if folded:
            body = f"<details><summary>{heading}</summary>\n\n{body}\n\n</details>"
        else:
            body = f"### {heading}\n\n{body}"
        self.sections.append((rank, heading, body))

    def markdown(self, limit: int = COMMENT_LIMIT) -> str:
        """The whole text, at most ``limit`` characters; sections that find no room are named instead."""
        left_out: list[str] = []
        kept = list(self.sections)
        while True:
            parts = [f"## {self.title}", self._verdict(), *(body for _, _, body in kept)]
            if left_out:
                parts.append(f"Left out for want of room: {', '.join(left_out)}.")
            text = "\n\n".join(parts) + "\n"
            if len(text) <= limit or not kept:
                return text
            last = max(kept, key=lambda section: section[0])
            kept.remove(last)
            left_out.append(last[1])

    def _verdict(self) -> str:
        if not self.failures:
            return "**Passes.**"
        return "**Fails:**\n\n" + "\n".join(f"- {failure}" for failure in self.failures)


def build(root: Path, base: str, plots_folder: Path | None = None) -> Report:
    """Compare the working tree in ``root`` with ``base``.

    Raises:
        UserError: ``root`` is no clone of a DVC project, or ``base`` is not a revision of it.
    """
    if not (root / ".dvc").is_dir():
        raise UserError(f"{root}: not the folder of a DVC project; run from the project's folder")
    ancestor, note = common_ancestor(root, base)
    report = Report(f"streetrecall: this tree against `{base}` ({ancestor[:8]})")

    stale = staleness.findings(root)
    report.failures += [f"stale: {line}" for line in stale]
    before = at_revision(root, ancestor)
    try:
        after = in_workspace(root)
    except UserError as error:  # such as a conflict in params.yaml, which the gate has found as well
        report.failures.append(str(error))
        return report
    report.failures += guard_failures(before, after)
    report.failures += [
        f"the gate '{name}' is shut: {check.get('failed', 'some')} expectations failed"
        for name, check in sorted(after.validation.items())
        if not check.get("success")
    ]

    if note:
        report.add("Note", note)
    report.add("Staleness", _stale_section(stale))
    report.add("Metrics", _metrics_section(before, after))
    report.add("Parameters", _params_section(before, after))
    report.add("Data", _data_section(before, after), rank=1)
    report.add("Validation", _validation_section(before, after), rank=1)
    if plots_folder is not None:
        report.add("Plots", _plots_section(root, ancestor, plots_folder), rank=2)
    report.add("Metrics that did not change", _unchanged_section(before, after), rank=4, folded=True)
    report.add("Pipeline", _dag(root), rank=3, folded=True)
    return report


def _stale_section(stale: Sequence[str]) -> str:
    if not stale:
        return "dvc.lock agrees with the code, the parameters and the metrics."
    return "\n".join(f"- {line}" for line in stale)


def _is_data(key: str) -> bool:
    return key.split(".", 1)[0] in DATA


def _metrics_section(before: Results, after: Results) -> str:
    """The headline, what is guarded, and what got clearly better or worse; the rest of the changes below a fold."""
    changed = [c for c in changes(before, after, lambda key: not _is_data(key)) if c.base != c.head]
    if not changed:
        return "No metric changed."
    first = [c for c in changed if _is_first(c, after)] or changed
    first.sort(key=lambda c: (c.verdict not in ("worse", "better"), not c.verdict))  # stable: by name within
    rest = [c for c in changed if c not in first]
    section = _metrics_table(first)
    if rest:
        section += f"\n\n<details><summary>{len(rest)} more changed</summary>\n\n{_metrics_table(rest)}\n\n</details>"
    return section


def _is_first(change: Change, after: Results) -> bool:
    return (
        change.key.startswith("headline.")
        or f"guard.{change.key}" in after.params
        or change.verdict in ("worse", "better")
    )


def _metrics_table(rows: Iterable[Change]) -> str:
    return table(
        ("metric", "base", "here", "change", "95% interval here", "verdict"),
        [
            (f"`{c.key}`", number(c.base), number(c.head), signed(c.difference), _bounds(c.head_interval), c.verdict)
            for c in rows
        ],
    )


def _unchanged_section(before: Results, after: Results) -> str:
    same = [c for c in changes(before, after) if c.base == c.head]
    if not same:
        return "None."
    return table(
        ("metric", "value", "95% interval"), [(f"`{c.key}`", number(c.head), _bounds(c.head_interval)) for c in same]
    )


def _params_section(before: Results, after: Results) -> str:
    keys = sorted(before.params.keys() | after.params.keys())
    rows = [
        (f"`{key}`", number(before.params.get(key)), number(after.params.get(key)))
        for key in keys
        if before.params.get(key) != after.params.get(key)
    ]
    section = table(("parameter", "base", "here"), rows) if rows else "No parameter changed."
    key = f"{after.params.get('provider')}.path"
    path = after.params.get(key)
    if isinstance(path, str) and Path(path).is_absolute():
        section += f"\n\n`{key}` is `{path}`: results that a teammate cannot make again without that folder."
    return section


def _data_section(before: Results, after: Results) -> str:
    changed = [c for c in changes(before, after, _is_data) if c.base != c.head]
    if not changed:
        return "Rows, places and images per split are unchanged."
    rows = [(f"`{c.key}`", number(c.base), number(c.head), signed(c.difference)) for c in changed]
    return table(("count", "base", "here", "change"), rows)


def _validation_section(before: Results, after: Results) -> str:
    if not after.validation:
        return "No gate has reported yet."
    rows, shut = [], []
    for name, check in sorted(after.validation.items()):
        total, failed = check.get("expectations", 0), check.get("failed", 0)
        was = before.validation.get(name, {}).get("expectations")
        more = "" if was is None or was == total else f" (was {was})"
        sizes = ", ".join(f"{count:,} {table}" for table, count in (check.get("rows") or {}).items())
        rows.append((name, "open" if check.get("success") else "**shut**", f"{total - failed} of {total}{more}", sizes))
        for result in check.get("results", []):
            if not result.get("success"):
                count = result.get("unexpected_count")
                shut.append(
                    f"- {name}: {result.get('sentence') or result.get('expectation')}"
                    + (f": not so in {count:,} rows" if isinstance(count, int) else "")
                )
    return table(("gate", "state", "expectations met", "rows"), rows) + ("\n\n" + "\n".join(shut) if shut else "")


def _plots_section(root: Path, ancestor: str, folder: Path) -> str:
    drawn = plots.draw(root, folder, ancestor)
    if not drawn:
        return "There are no plots yet."
    return f"In `{folder.name}/`: " + ", ".join(f"[{path.name}]({folder.name}/{path.name})" for path in drawn)


def _dag(root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--md"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else f"`dvc dag` failed: {done.stderr.strip()}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(table(("a", "b"), [("1", "x|y")]))
    | a | b |
    | --- | --- |
    | 1 | x\\|y |
    """
    lines = [
        header,
        ["---"] * len(header),
        *([cell.replace("|", "\\|").replace("\n", " ") for cell in r] for r in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: Value) -> str:
    """A value as a cell of a table: four decimals at most; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def signed(difference: float | None) -> str:
    """A difference with its sign; nothing for none."""
    if difference is None:
        return ""
    text = number(int(difference) if float(difference).is_integer() else difference)
    return f"+{text}" if difference > 0 else text


def _bounds(bounds: tuple[float, float] | None) -> str:
    return f"{number(bounds[0])} to {number(bounds[1])}" if bounds else ""
