"""Stage `check_NAME`: validate a table between two stages by its Great Expectations suite.

The report goes to a metrics file that git tracks. If all expectations hold, the stage also writes a marker with the
hashes of the validated files, and the next stage depends on the marker. So a changed threshold runs the check again and
nothing else: the marker stays the same. If an expectation fails, there is no marker, and the pipeline stops.

Where a stage reads only a part of what is checked, the check writes a further marker, with the hashes of that part.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from streetrecall.errors import UserError
from streetrecall.expectations.common import NAMES, suite_of
from streetrecall.files import write_json, write_text
from streetrecall.params.schema import Params, load

log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=NAMES, metavar="NAME", help=f"the check: {', '.join(NAMES)}")
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="read this path instead of the default; without NAME= it is the check's first input (repeatable)",
    )
    parser.add_argument("--report", type=Path, help="JSON file to write (default: metrics/validation/NAME.json)")
    parser.add_argument("--ok", type=Path, help="marker to write on success (default: data/checks/NAME.ok)")


def main(args: argparse.Namespace) -> int:
    return run(
        load(args.params),
        args.name,
        inputs_of(args.name, args.table),
        args.report or Path("metrics/validation") / f"{args.name}.json",
        args.ok or Path("data/checks") / f"{args.name}.ok",
    )


def run(params: Params, name: str, inputs: Mapping[str, Path], report: Path, ok: Path) -> int:
    """Validate, write the report and, on success, the marker; print the outcome.

    Returns:
        0, or 1 if an expectation failed.

    Raises:
        UserError: an input is missing or malformed. No marker is left then.
    """
    markers = {ok: suite_of(name).VALIDATED} | {
        ok.with_name(f"{other}.ok"): validated for other, validated in getattr(suite_of(name), "MARKERS", {}).items()
    }
    for marker in markers:
        marker.unlink(missing_ok=True)
    batches = suite_of(name).batches(params, inputs)
    from streetrecall.expectations.common.validate import message, validate

    result = validate(name, batches, params.checks.listed_ids)
    write_json(report, result)
    if not result["success"]:
        print(f"{message(name, result)}\n\nAll results: {report}", file=sys.stderr)
        return 1
    for marker, validated in markers.items():
        write_text(marker, "".join(f"{part} sha256 {fingerprint(locate(inputs, part))}\n" for part in validated))
    log.info(message(name, result))
    return 0


def inputs_of(name: str, tables: Sequence[str]) -> dict[str, Path]:
    """The paths that the check ``name`` reads: its defaults, except for those that ``tables`` ([NAME=]PATH) give.

    Raises:
        UserError: the check has no input of that name.
    """
    inputs = dict(suite_of(name).INPUTS)
    for text in tables:
        key, sign, path = text.partition("=")
        if not sign:
            key, path = next(iter(inputs)), text
        if key not in inputs:
            raise UserError(f"--table {text}: the check {name} reads {', '.join(inputs)}, not '{key}'")
        inputs[key] = Path(path)
    return inputs


def locate(inputs: Mapping[str, Path], part: str) -> Path:
    """The file that ``part`` of VALIDATED names.

    >>> locate({"crops": Path("data/crops")}, "crops/images.parquet").as_posix()
    'data/crops/images.parquet'
    """
    key, _, below = part.partition("/")
    return inputs[key] / below if below else inputs[key]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()
