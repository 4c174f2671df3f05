"""`streetrecall sweep KEY=VALUE,VALUE ...`: run every combination as a DVC experiment, and compare them.

Experiments are queued, and parallel workers run them in copies of the last commit; the working tree does not change.
Experiments that were queued before are run too. `dvc exp apply NAME` takes one over, `dvc exp remove NAME` deletes it.

Keys and values are those of `dvc exp run -S`: a comma separates values, except within brackets, braces or quotes
(`crop.box=[591,0,1261,670],[0,0,810,810]`), and an element of a list is named by its number, from 0
(`train.phases.0.epochs=3,6`).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError
from streetrecall.external import DVC, GitError, dvc, git, watch
from streetrecall.params import document, schema
from streetrecall.params.edit import plain_key, with_changes
from streetrecall.printing import bounds, is_number, markdown_table, number, signed, text
from streetrecall.review.changes import Change
from streetrecall.review.copies import require_collection, require_tracked
from streetrecall.review.metrics import Better, better
from streetrecall.review.revisions import Results, at_revision, interval, require_clone
from streetrecall.tables import RIGHT_M

METRICS = [f"evaluate.model.validation.{protocol}.recall_at_1_{RIGHT_M}m" for protocol in ("photos", "newest_vs_older")]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grid", nargs="+", metavar="KEY=VALUE,VALUE", help="a parameter and the values to try")
    parser.add_argument("--jobs", type=int, default=2, help="workers (%(default)s); each runs a whole pipeline")
    parser.add_argument(
        "--metric",
        help="FILE.KEY of metrics/ to compare, best first; not of test, which is for the final choice "
        f"({METRICS[0]} if the last commit has it, else {METRICS[1]})",
    )
    parser.add_argument(
        "--untracked", action="store_true", help="go on although git does not track a file that the pipeline reads"
    )


def main(args: argparse.Namespace) -> int:
    root = Path.cwd()
    require_clone(root)
    combinations = expand(args.grid)
    check_combinations(root / args.params, combinations)
    require_identity(root)
    if not args.untracked:
        require_tracked(root)
    base = at_revision(root, "HEAD")
    metric = args.metric or next((name for name in METRICS if name in base.metrics), METRICS[1])
    _warn_of_metric(metric, base)

    before = set(_experiments(root))
    for combination in combinations:
        overrides = [part for key, value in combination.items() for part in ("-S", f"{key}={value}")]
        dvc(root, "exp", "run", "--queue", *overrides)
    print(f"queued {len(combinations)} experiments; {args.jobs} run at a time", file=sys.stderr)
    code = watch([*DVC, "exp", "run", "--run-all", "--jobs", str(args.jobs)], root)
    found = {name: revision for name, revision in _experiments(root).items() if name not in before}
    results = {name: at_revision(root, revision) for name, revision in found.items()}
    print(compare(base, results, list(combinations[0]), metric))
    if len(found) < len(combinations):
        missing = len(combinations) - len(found)
        print(
            f"{missing} of {len(combinations)} did not finish: see dvc queue status and dvc queue logs NAME",
            file=sys.stderr,
        )
        return 1
    return code


def expand(grid: list[str]) -> list[dict[str, str]]:
    """Every combination of the values, in order; values as DVC takes them.

    >>> expand(["train.seed=1,2", "crop.box=[1,2,3,4]"])
    [{'train.seed': '1', 'crop.box': '[1,2,3,4]'}, {'train.seed': '2', 'crop.box': '[1,2,3,4]'}]

    Raises:
        UserError: a text is not KEY=VALUE,VALUE, or a key is given twice.
    """
    axes: dict[str, list[str]] = {}
    for given in grid:
        override = _override(given)
        key = override.key_or_group
        if key in axes:
            raise UserError(f"the key '{key}' is given twice; separate its values by commas")
        values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_string()]
        axes[key] = list(values)
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _override(given: str) -> Any:
    """``given`` as Hydra, which DVC uses for `-S`, reads it."""
    from dvc.utils.hydra import to_hydra_overrides
    from hydra.core.override_parser.types import OverrideType, ValueType
    from hydra.errors import OverrideParseException

    key, sign, values = given.partition("=")
    wrong = f"'{given}' is not KEY=VALUE,VALUE"
    if not sign or not key or not values:
        raise UserError(wrong)
    try:
        (override,) = to_hydra_overrides([f"{plain_key(key)}={values}"])
    except OverrideParseException as error:
        raise UserError(f"{wrong}; quote a value that holds a comma, a bracket or a quote: KEY=\"'a, b'\"") from error
    endless = (ValueType.GLOB_CHOICE_SWEEP, ValueType.INTERVAL_SWEEP)
    if override.type is not OverrideType.CHANGE or override.value_type in endless:
        raise UserError(wrong)
    return override


def check_combinations(path: Path, combinations: list[dict[str, str]]) -> None:
    """Find an unknown key or a bad value before anything runs, and not in a worker an hour later.

    Raises:
        UserError: naming the key.
    """
    content = document.parse(document.read_text(path), path.name)
    for combination in combinations:
        changes = {key: _override(f"{key}={value}").value() for key, value in combination.items()}
        require_collection(path.parent, schema.parse(with_changes(content, changes), path.name))


def require_identity(root: Path) -> None:
    """Make sure that git can make commits, as experiments are.

    Raises:
        UserError: it has no name or e-mail.
    """
    for key in ("user.name", "user.email"):
        try:
            git(root, "config", key)
        except GitError as error:
            if error.code != 1:
                raise
            raise UserError(f"an experiment is a commit, and git has no {key}: git config {key} ...") from error


def _warn_of_metric(metric: str, base: Results) -> None:
    if base.metrics and metric not in base.metrics:
        nearest = get_close_matches(metric, base.metrics, n=1, cutoff=0.0)[0]
        print(f"warning: the last commit has no metric '{metric}'; the nearest is '{nearest}'", file=sys.stderr)
    elif better(metric) is Better.NEITHER:
        print(f"warning: neither a larger nor a smaller {metric} is better: sorted by the parameters", file=sys.stderr)


def _experiments(root: Path) -> dict[str, str]:
    """Name -> commit of the experiments on HEAD."""
    head = git(root, "rev-parse", "HEAD").strip()
    prefix = f"refs/exps/{head[:2]}/{head[2:]}/"
    lines = git(root, "for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
    return {name.removeprefix(prefix): commit for name, commit in (line.split() for line in lines)}


def compare(base: Results, experiments: dict[str, Results], keys: list[str], metric: str) -> str:
    """A Markdown table, best first: each experiment's values of ``keys``, its metric with interval, and the verdict."""

    def row(name: str, results: Results, verdict: str, change: str) -> list[str]:
        values = [text(_value(results, key)) for key in keys]
        measured = [number(results.metrics.get(metric)), bounds(interval(results.metrics, metric))]
        return [name, *values, *measured, change, verdict]

    rows = []
    for name, results in experiments.items():
        ends = interval(base.metrics, metric), interval(results.metrics, metric)
        change = Change(metric, base.metrics.get(metric), results.metrics.get(metric), *ends)
        cost = -float(change.head or 0) * better(metric).value if is_number(change.head) else float("inf")
        rows.append((cost, row(name, results, change.verdict, signed(change.difference))))
    rows.sort(key=lambda pair: (pair[0], pair[1][1 : 1 + len(keys)], pair[1][0]))  # equal ones by their values
    header = ["experiment", *keys, metric, "95% interval", "change", "verdict"]
    return markdown_table(header, [row("(committed)", base, "", ""), *(cells for _, cells in rows)])


def _value(results: Results, key: str) -> str:
    """The value of a parameter; the values within it, if it is a list or a mapping."""
    if key in results.params:
        return str(results.params[key])
    return ", ".join(str(value) for name, value in results.params.items() if name.startswith(f"{key}."))
