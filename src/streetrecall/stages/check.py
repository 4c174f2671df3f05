"""Stage `check_NAME`: validate what passes between two stages; shut the gate if an expectation fails.

The report goes to a metrics file that git keeps. On success only, a marker is written that holds the hash of the
validated data; the next stage depends on the marker. A threshold that is tightened so runs the check alone again: the
marker comes out the same, and nothing behind it runs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError
from streetrecall.files import write_json, write_text
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Params

log = logging.getLogger(__name__)

NAMES = ("grid", "panoramas", "locations", "captures", "crops", "descriptors", "predictions")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=NAMES, metavar="NAME", help=f"the gate: {', '.join(NAMES)}")
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="what to read in place of the default path; without NAME= the gate's own table (may be repeated)",
    )
    parser.add_argument("--report", type=Path, help="JSON to write (default: metrics/validation/NAME.json)")
    parser.add_argument("--ok", type=Path, help="marker to write on success (default: data/checks/NAME.ok)")


def main(args: argparse.Namespace) -> int:
    return run(
        parameters.load(args.params),
        args.name,
        inputs_of(args.name, args.table),
        args.report or Path("metrics/validation") / f"{args.name}.json",
        args.ok or Path("data/checks") / f"{args.name}.ok",
    )


def run(params: Params, name: str, inputs: Mapping[str, Path], report: Path, ok: Path) -> int:
    """Validate, write the report and, on success, the marker; prints what a person needs on failure.

    Returns:
        0, or 1 if an expectation failed.

    Raises:
        UserError: an input is missing or not what it should be. No marker is left behind.
    """
    ok.unlink(missing_ok=True)
    batches = suite(name).batches(params, inputs)
    from streetrecall.expectations import gate

    result = gate.validate(name, batches, params.checks.listed_ids)
    write_json(report, result)
    if not result["success"]:
        print(f"streetrecall check: {gate.message(name, result)}\n\nAll results: {report}", file=sys.stderr)
        return 1
    write_text(ok, "".join(f"{part} sha256 {fingerprint(locate(inputs, part))}\n" for part in suite(name).VALIDATED))
    rows = ", ".join(f"{count} {table}" for table, count in result["rows"].items())
    log.info("the gate '%s' is open: %d expectations hold (rows: %s)", name, result["expectations"], rows)
    return 0


def suite(name: str) -> Any:
    """The module of the gate ``name``: its INPUTS (name -> default path), ``batches``, and VALIDATED.

    VALIDATED names the inputs, or files below them (``crops/images.parquet``), whose hashes make the marker.
    """
    return importlib.import_module(f"streetrecall.expectations.{name}")


def inputs_of(name: str, tables: Sequence[str]) -> dict[str, Path]:
    """Where the gate ``name`` reads: its own defaults, but for those that ``tables`` ([NAME=]PATH) give.

    Raises:
        UserError: the gate reads no table of that name.
    """
    inputs = dict(suite(name).INPUTS)
    for text in tables:
        key, found, path = text.partition("=")
        if not found:
            key, path = next(iter(inputs)), text
        if key not in inputs:
            raise UserError(f"--table {text}: the gate '{name}' reads {', '.join(inputs)}, not '{key}'")
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
