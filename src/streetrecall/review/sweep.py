"""`streetrecall sweep KEY=VALUE,VALUE ...`: run every combination as a DVC experiment, and compare them.

Experiments are queued and run by parallel workers in copies of the last commit; the working tree is left alone. What
stands in the queue already is run too. `dvc exp apply NAME` takes one over, `dvc exp remove NAME` forgets it.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import itertools
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from streetrecall.errors import UserError
from streetrecall.params import schema as params
from streetrecall.params.edit import parse_changes, with_changes
from streetrecall.review.report import Change, number, signed, table
from streetrecall.review.revisions import Results, at_revision, git, interval


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grid", nargs="+", metavar="KEY=VALUE,VALUE", help="a parameter and the values to try")
    parser.add_argument("--jobs", type=int, default=2, help="workers (%(default)s); each is a whole pipeline")
    parser.add_argument(
        "--metric",
        default="evaluate.model.validation.newest_vs_older.recall_at_1_25m",
        help="FILE.KEY of metrics/ to compare, best first; not of test, which is to judge the chosen one (%(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    root = Path.cwd()
    combinations = expand(args.grid)
    _check(root, Path(args.params), combinations)
    before = set(_experiments(root))
    for combination in combinations:
        overrides = [part for key, value in combination.items() for part in ("-S", f"{key}={value}")]
        _dvc(root, "exp", "run", "--queue", *overrides)
    print(f"queued {len(combinations)} experiments; {args.jobs} at a time run them", file=sys.stderr)
    code = shown([sys.executable, "-m", "dvc", "exp", "run", "--run-all", "--jobs", str(args.jobs)], root)
    found = {name: revision for name, revision in _experiments(root).items() if name not in before}
    keys = [text.partition("=")[0] for text in args.grid]
    results = {name: at_revision(root, revision) for name, revision in found.items()}
    print(compare(at_revision(root, "HEAD"), results, keys, args.metric))
    if len(found) < len(combinations):
        missing = len(combinations) - len(found)
        print(
            f"{missing} of {len(combinations)} did not finish: dvc queue status, dvc queue logs NAME", file=sys.stderr
        )
        return 1
    return code


def expand(grid: list[str]) -> list[dict[str, str]]:
    """Every combination of the values, in order.

    >>> expand(["train.seed=1,2", "crop.quality=90"])
    [{'train.seed': '1', 'crop.quality': '90'}, {'train.seed': '2', 'crop.quality': '90'}]

    Raises:
        UserError: a text is not KEY=VALUE,VALUE.
    """
    axes = []
    for text in grid:
        key, sign, values = text.partition("=")
        if not sign or not values.strip(","):
            raise UserError(f"'{text}' is not KEY=VALUE,VALUE")
        axes.append([(key, value.strip()) for value in values.split(",") if value.strip()])
    return [dict(combination) for combination in itertools.product(*axes)]


def _check(root: Path, path: Path, combinations: list[dict[str, str]]) -> None:
    """An unknown key is found before anything runs, not by a worker an hour later."""
    content: Any = yaml.safe_load((root / path).read_text(encoding="utf-8"))
    for combination in combinations:
        changes = parse_changes([f"{key}={value}" for key, value in combination.items()])
        params.parse(with_changes(content, changes), str(path))
    for key in ("user.name", "user.email"):
        try:
            git(root, "config", key)
        except UserError as error:
            raise UserError(f"an experiment is a commit, and git knows no {key}: git config {key} ...") from error


def _dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def shown(command: list[str], root: Path) -> int:
    """Run ``command`` in ``root``, pass on to stderr what it says as it says it, and return its exit code.

    Workers of DVC's queue inherit the output of the command that starts them, and one now and then outlives its work:
    with our own output in hand it would keep whoever reads that waiting for its end.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=root, env=unbuffered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        os.set_blocking(pipe, False)
        ended = False
        while not ended:
            ended = process.poll() is not None  # asked before the last look, so that nothing it said is lost
            select.select([pipe], [], [], 0 if ended else 0.1)
            with contextlib.suppress(BlockingIOError):
                while said := os.read(pipe, 65536):
                    sys.stderr.write(decoder.decode(said))
                    sys.stderr.flush()
                process.wait()  # nobody is left to say anything
                break
    return process.returncode


def _experiments(root: Path) -> dict[str, str]:
    """Name -> commit of the experiments on HEAD."""
    head = git(root, "rev-parse", "HEAD").strip()
    prefix = f"refs/exps/{head[:2]}/{head[2:]}/"
    lines = git(root, "for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
    return {name.removeprefix(prefix): commit for name, commit in (line.split() for line in lines)}


def compare(base: Results, experiments: dict[str, Results], keys: list[str], metric: str) -> str:
    """A Markdown table, best first: each experiment's values of ``keys``, its metric with interval, and the verdict."""

    def row(name: str, results: Results, verdict: str, change: str) -> list[str]:
        bounds = interval(results.metrics, metric)
        return [
            name,
            *(str(results.params.get(key, "")) for key in keys),
            number(results.metrics.get(metric)),
            f"{number(bounds[0])} to {number(bounds[1])}" if bounds else "",
            change,
            verdict,
        ]

    rows = []
    for name, results in experiments.items():
        change = Change(
            metric,
            base.metrics.get(metric),
            results.metrics.get(metric),
            interval(base.metrics, metric),
            interval(results.metrics, metric),
        )
        rows.append((change.head, row(name, results, change.verdict, signed(change.difference))))
    rows.sort(key=lambda pair: (-float(pair[0]) if isinstance(pair[0], int | float) else float("inf"), pair[1]))
    header = ["experiment", *keys, metric, "95% interval", "change", "verdict"]
    return table(header, [row("(committed)", base, "", ""), *(cells for _, cells in rows)])
