"""`streetrecall report BASE`: what this working tree changes against BASE, as Markdown, and whether it may be merged.

It needs neither data nor a GPU: it reads what git holds (dvc.yaml, dvc.lock, params.yaml, metrics/). It compares with
the commit at which HEAD left BASE, so that the work of others since then does not count. The exit code is 1 if dvc.lock
is stale, if a check failed, or if a metric that `params.yaml: guard` names got worse (`streetrecall.review.changes`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from streetrecall.errors import UserError
from streetrecall.external import dvc
from streetrecall.figures import plots
from streetrecall.files import naming
from streetrecall.printing import bounds, code, markdown_table, number, signed, text
from streetrecall.review import staleness
from streetrecall.review.changes import Change, changes, guard_failures
from streetrecall.review.revisions import Results, at_revision, common_ancestor, in_workspace

DATA = ("grid", "metadata", "order", "scrape", "crop")  # stages whose metrics count rows, places and pictures
COMMENT_LIMIT = 65_000  # characters; the forge refuses a comment of 65,536


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help="revision to compare with, such as origin/main")
    parser.add_argument("--output", type=Path, help="write the report to this file (default: print it)")
    parser.add_argument("--plots", type=Path, help="draw the plots of both sides into this folder, as SVG")


def main(args: argparse.Namespace) -> int:
    report = build(Path.cwd(), args.base, args.plots)
    content = report.markdown()
    if args.output is None:
        print(content)
    else:
        with naming(args.output):
            args.output.write_text(content, encoding="utf-8")
    for failure in report.failures:
        print(f"streetrecall report: {failure}", file=sys.stderr)
    return 1 if report.failures else 0


@dataclass
class Report:
    """Sections of Markdown in order, each with a rank (the highest is left out first to save space), and failures."""

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
        """The whole report, of at most ``limit`` characters; it names the sections that were left out for that."""
        left_out: list[str] = []
        kept = list(self.sections)
        while True:
            parts = [f"## {text(self.title)}", self._verdict(), *(body for _, _, body in kept)]
            if left_out:
                parts.append(f"Left out to save space: {', '.join(left_out)}.")
            whole = "\n\n".join(parts) + "\n"
            if len(whole) <= limit or not kept:
                return whole
            last = max(kept, key=lambda section: section[0])
            kept.remove(last)
            left_out.append(last[1])

    def _verdict(self) -> str:
        return f"**Fails:**\n\n{_bullets(self.failures)}" if self.failures else "**Passes.**"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {text(line)}" for line in lines)


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
    except UserError as error:  # such as a conflict in params.yaml, which is among the findings as well
        report.failures.append(str(error))
        return report
    report.failures += guard_failures(before, after)
    report.failures += [
        f"check {name}: FAILED, {check.get('failed', 'some')} of {check.get('expectations', 'the')} expectations"
        for name, check in sorted(after.validation.items())
        if not check.get("success")
    ]

    if note:
        report.add("Note", text(note))
    report.add("Staleness", _bullets(stale) or "dvc.lock agrees with the code, the parameters and the metrics.")
    report.add("Metrics", _metrics_section(before, after))
    report.add("Parameters", _params_section(before, after))
    report.add("Data", _data_section(root, before, after), rank=1)
    report.add("Checks", _checks_section(before, after), rank=1)
    if plots_folder is not None:
        report.add("Plots", _plots_section(root, ancestor, plots_folder), rank=2)
    report.add("Metrics that did not change", _unchanged_section(before, after), rank=4, folded=True)
    report.add("Pipeline", _dag(root), rank=3, folded=True)
    return report


def _is_data(key: str) -> bool:
    return key.split(".", 1)[0] in DATA


def _metrics_section(before: Results, after: Results) -> str:
    """The headline, what is guarded, and what got clearly better or worse; the rest of the changes folded."""
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
    return markdown_table(
        ("metric", "base", "here", "change", "95% interval here", "verdict"),
        [
            (code(c.key), number(c.base), number(c.head), signed(c.difference), bounds(c.head_interval), c.verdict)
            for c in rows
        ],
    )


def _unchanged_section(before: Results, after: Results) -> str:
    same = [c for c in changes(before, after) if c.base == c.head]
    if not same:
        return "None."
    rows = [(code(c.key), number(c.head), bounds(c.head_interval)) for c in same]
    return markdown_table(("metric", "value", "95% interval"), rows)


def _params_section(before: Results, after: Results) -> str:
    keys = sorted(before.params.keys() | after.params.keys())
    rows = [
        (code(key), number(before.params.get(key)), number(after.params.get(key)))
        for key in keys
        if before.params.get(key) != after.params.get(key)
    ]
    return markdown_table(("parameter", "base", "here"), rows) if rows else "No parameter changed."


def _data_section(root: Path, before: Results, after: Results) -> str:
    changed = [c for c in changes(before, after, _is_data) if c.base != c.head]
    rows = [(code(c.key), number(c.base), number(c.head), signed(c.difference)) for c in changed]
    header = ("count", "base", "here", "change")
    section = markdown_table(header, rows) if rows else "Rows, places and pictures per split are unchanged."
    unshared = _unshared(root)
    if unshared:
        names = ", ".join(code(path) for path in unshared)
        section += (
            f"\n\nNot shared (`push: false` in dvc.yaml): {names}. A teammate needs the same collection of pictures to "
            "make these again."
        )
    return section


def _unshared(root: Path) -> list[str]:
    """Outputs that DVC never pushes and that hold more than the page which says so."""
    pipeline, lock = (_stages(root / name) for name in ("dvc.yaml", "dvc.lock"))
    never = {
        path
        for stage in pipeline.values()
        for out in stage.get("outs", [])
        if isinstance(out, dict)
        for path, options in out.items()
        if isinstance(options, dict) and options.get("push") is False
    }
    made = [out for stage in lock.values() for out in stage.get("outs", [])]
    return sorted(out["path"] for out in made if out["path"] in never and out.get("nfiles", 1) > 1)


def _stages(path: Path) -> dict[str, Any]:
    """The stages of dvc.yaml or dvc.lock; none if the file is missing or broken, which is among the findings."""
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")).get("stages") or {})
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return {}


def _checks_section(before: Results, after: Results) -> str:
    if not after.validation:
        return "No check has run yet."
    rows, failed = [], []
    for name, check in sorted(after.validation.items()):
        total, missed = check.get("expectations", 0), check.get("failed", 0)
        was = before.validation.get(name, {}).get("expectations")
        more = "" if was is None or was == total else f" (was {was})"
        sizes = ", ".join(f"{count:,} {text(table)}" for table, count in (check.get("rows") or {}).items())
        outcome = "passed" if check.get("success") else "**FAILED**"
        rows.append((code(name), outcome, f"{total - missed} of {total}{more}", sizes))
        failed += [f"{name}: {_failed(result)}" for result in check.get("results", []) if not result.get("success")]
    section = markdown_table(("check", "outcome", "expectations met", "rows"), rows)
    return f"{section}\n\n{_bullets(failed)}" if failed else section


def _failed(result: dict[str, Any]) -> str:
    count = result.get("unexpected_count")
    words = str(result.get("sentence") or result.get("expectation"))
    return f"{words}: {count:,} rows do not meet it" if isinstance(count, int) else words


def _plots_section(root: Path, ancestor: str, folder: Path) -> str:
    drawn = plots.draw(root, folder, ancestor)
    if not drawn:
        return "There are no plots yet."
    return f"In `{folder.name}/`: " + ", ".join(f"[{path.name}]({folder.name}/{path.name})" for path in drawn)


def _dag(root: Path) -> str:
    try:
        return dvc(root, "dag", "--md").strip()
    except UserError as error:
        return text(error)
