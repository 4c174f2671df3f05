"""Validate tables by their suites: the report of a check, and the message for a person when it fails."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from string import Template
from typing import Any

import great_expectations as gx
import numpy as np
from great_expectations.core import ExpectationSuite, ExpectationValidationResult
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.registry import get_renderer_impl
from great_expectations.render import LegacyRendererType

from streetrecall.expectations.common.suite import Batch


def validate(name: str, batches: Sequence[Batch], listed: int) -> dict[str, Any]:
    """Validate each batch by its suite; the report is the same for the same data.

    Args:
        name: of the check.
        batches: tables with their suites.
        listed: how many ids a failed expectation lists.

    Returns:
        ``success``, ``expectations`` and ``failed`` (counts), ``rows`` by batch, ``figures`` by name, and ``results``:
        one mapping per expectation, in the order of the suites. It holds numbers, text and lists of them, floats with
        six significant digits; no times, no paths, no NaN.
    """
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
    )
    source = context.data_sources.add_pandas("streetrecall")
    results: list[dict[str, Any]] = []
    for batch in batches:
        asset = source.add_dataframe_asset(batch.name)
        definition = asset.add_batch_definition_whole_dataframe("whole")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the library while it computes; a person gets the report
            outcome = definition.get_batch({"dataframe": batch.frame}).validate(
                ExpectationSuite(name=f"{name}.{batch.name}", expectations=batch.suite),
                result_format={
                    "result_format": "SUMMARY",
                    "unexpected_index_column_names": list(batch.ids),
                    "partial_unexpected_count": listed,
                },
            )
        # The library groups its results by column; a report has the order of the suite.
        answers = {_identity(answer.expectation_config): answer for answer in outcome.results}
        results += [_result(batch, answers[_identity(e.configuration)], listed) for e in batch.suite]
    return {
        "success": all(r["success"] for r in results),
        "expectations": len(results),
        "failed": sum(not r["success"] for r in results),
        "rows": {batch.name: len(batch.frame) for batch in batches},
        "figures": {r["figure"]: _figure(r) for r in results if r["figure"]},
        "results": results,
    }


def _identity(configuration: Any) -> str:
    kwargs = {k: v for k, v in configuration.to_json_dict()["kwargs"].items() if k != "batch_id"}
    return json.dumps([configuration.type, kwargs], sort_keys=True, default=str)


def _figure(result: dict[str, Any]) -> Any:
    observed = result["observed"]
    return {"share": observed, **result["counts"]} if "counts" in result else observed


def _result(batch: Batch, answer: ExpectationValidationResult, listed: int) -> dict[str, Any]:
    configuration, details = answer.expectation_config, answer.result
    kwargs = {k: v for k, v in configuration.to_json_dict()["kwargs"].items() if k != "batch_id"}
    result: dict[str, Any] = {
        "table": batch.name,
        "expectation": configuration.type,
        "column": _columns(kwargs),
        "arguments": kwargs,
        "sentence": sentence(answer),
        "why": configuration.notes,
        "remedy": configuration.meta["remedy"],
        "figure": configuration.meta["figure"],
        "success": bool(answer.success),
        "rows": len(batch.frame),
    }
    error = _exception(answer.exception_info)
    if error:
        result["error"] = error
    if "counts" in details.get("details", {}):
        result["counts"] = details["details"]["counts"]
    if "observed_value" in details:
        result["observed"] = _distinct(details) if details["observed_value"] is None else details["observed_value"]
    elif "unexpected_count" in details:
        result["unexpected_count"] = details["unexpected_count"]
        result["unexpected_share"] = (details.get("unexpected_percent") or 0.0) / 100
        ids = details.get("partial_unexpected_index_list") or []
        # The ids come first, then the values that the expectation looked at; nine digits give a position to 0.1 m.
        result["first_ids"] = plain([{c: row[c] for c in batch.ids} | row for row in ids[:listed]], digits=9)
    return {key: value if key == "first_ids" else plain(value) for key, value in result.items()}


def _distinct(details: dict[str, Any]) -> str:
    """What the library observed of a set of distinct values; it gives the differences from the expected set only."""
    parts = {
        "missing": details.get("partial_missing_list") or [],
        "not expected": details.get("partial_unexpected_list") or [],
    }
    return "; ".join(f"{name}: {', '.join(sorted(map(str, v)))}" for name, v in parts.items() if v) or "as expected"


def _columns(kwargs: dict[str, Any]) -> str:
    if "column_list" in kwargs:
        return ", ".join(kwargs["column_list"])
    return ", ".join(str(kwargs[k]) for k in ("column", "column_A", "column_B") if k in kwargs)


def _exception(info: Any) -> str:
    """The messages in the library's record of exceptions, which has two forms; empty if there is none."""
    records = [info] if "raised_exception" in info else list(info.values())
    return "; ".join(sorted({str(r["exception_message"]) for r in records if r.get("raised_exception")}))


def plain(value: Any, digits: int = 6) -> Any:
    """``value`` in a form that JSON can hold: floats with ``digits`` significant digits, no NaN or infinity.

    >>> plain({"a": np.float32(1 / 3), "b": [float("nan"), np.bool_(True)], "c": np.int64(7)})
    {'a': 0.333333, 'b': [None, True], 'c': 7}
    """
    if isinstance(value, dict):
        return {str(k): plain(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v, digits) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value if value is None else str(value)


def sentence(answer: ExpectationValidationResult) -> str:
    """The expectation in words, as in Data Docs."""
    configuration = answer.expectation_config
    _, render = get_renderer_impl(configuration.type, LegacyRendererType.PRESCRIPTIVE)
    parts = []
    for block in render(configuration=configuration, runtime_configuration={"include_column_name": True}):
        content = block if isinstance(block, dict) else block.to_json_dict()
        if "string_template" in content:
            template = content["string_template"]
            parts.append(Template(template["template"]).safe_substitute(template["params"]))
    return with_empty_strings(" ".join(parts))


def with_empty_strings(rendered: str) -> str:
    """A rendered sentence, plain or HTML, with '' for an empty string in a comparison: the library shows nothing there.

    >>> with_empty_strings("If (quarantine ==  AND split != x), then")
    "If (quarantine == '' AND split != x), then"
    """
    return re.sub(r"([!=]=) (?=[,)<]| AND|$)", r"\1 ''", rendered)


def message(name: str, report: dict[str, Any]) -> str:
    """The outcome of a check for a person; for each failed expectation, how many rows, the first ids, why, what to do.

    >>> message("grid", {"success": True, "expectations": 8, "rows": {"grid": 287367}})
    'check grid: passed, 8 expectations (287,367 rows)'
    """
    total = report["expectations"]
    if report["success"]:
        return f"check {name}: passed, {total} expectations ({_rows(report['rows'])})"
    failed = [r for r in report["results"] if not r["success"]]
    lines = [f"check {name}: FAILED, {len(failed)} of {total} expectations"]
    for number, result in enumerate(failed, 1):
        lines.append(f"\n{number}. {result['table']}: {result['expectation']} ({result['column'] or 'whole table'})")
        lines.append(f"   expected: {result['sentence']}")
        lines.append(f"   found:    {_found(result)}")
        if result.get("first_ids"):
            lines.append(f"   first:    {_ids(result['first_ids'])}")
        lines.append(f"   why:      {result['why']}")
        lines.append(f"   do:       {result['remedy']}")
    return "\n".join(lines)


def _rows(counts: dict[str, int]) -> str:
    """
    >>> _rows({"grid": 1520}), _rows({"captures": 1984, "locations": 62})
    ('1,520 rows', '1,984 rows of captures, 62 rows of locations')
    """
    if len(counts) == 1:
        return f"{next(iter(counts.values())):,} rows"
    return ", ".join(f"{count:,} rows of {table}" for table, count in counts.items())


def _found(result: dict[str, Any]) -> str:
    rows = result["rows"]
    if "error" in result:
        return f"the expectation could not be evaluated: {result['error']}"
    if "unexpected_count" in result:
        return f"{result['unexpected_count']:,} of {rows:,} rows do not meet it"
    counts = "".join(f", {name}: {count}" for name, count in result.get("counts", {}).items())
    return f"{result.get('observed')}{counts}, in {rows:,} rows"


def _ids(rows: Iterable[dict[str, Any]]) -> str:
    return "; ".join(" ".join(f"{column}={value}" for column, value in row.items() if value != "") for row in rows)
