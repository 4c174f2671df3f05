"""Command `docs`: Data Docs of the last checks, as HTML that needs neither a network nor the data.

Great Expectations renders each result. Its own pages load styles and scripts from six hosts, so the page around each
result, and its style, are the project's own. The pages hold no times: the same reports give the same bytes. Texts of
the data, such as ids of panoramas, are escaped before the library renders them, because it escapes only some.
"""

from __future__ import annotations

import argparse
import html
import json
import logging
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.render.renderer.content_block import ValidationResultsTableContentBlockRenderer
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, DictLoader

from streetrecall.errors import UserError
from streetrecall.expectations.common import (
    NAMES,
    custom,  # noqa: F401  (this module and the next register their expectations, so that they can be rendered)
    look_alikes,  # noqa: F401
)
from streetrecall.expectations.common.validate import with_empty_strings
from streetrecall.files import write_text

log = logging.getLogger(__name__)

# Templates that replace those of the library, by the library's names, and the project's own.
_PAGES = {
    "collapse.j2": "collapse.html",
    "style.css": "style.css",
    "page.html": "page.html",
    "index.html": "index.html",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reports", type=Path, default=Path("metrics/validation"), help="folder of the checks' reports (%(default)s)"
    )
    parser.add_argument("--site", type=Path, default=Path("site"), help="folder to write (%(default)s)")


def main(args: argparse.Namespace) -> None:
    run(args.reports, args.site)


def run(reports: Path, site: Path) -> Path:
    """Write a page for each table of each check, and an index of them; returns the index.

    Raises:
        UserError: there is no report, or a report has another form than this version writes.
    """
    found = {name: _read(reports / f"{name}.json") for name in NAMES if (reports / f"{name}.json").exists()}
    if not found:
        raise UserError(f"{reports}: holds no report of a check; run one first, such as: streetrecall check grid")
    view = _View()
    checks = []
    for name, report in found.items():
        tables = []
        for table, rows in sorted(report["rows"].items(), key=lambda item: _order(report, item[0])):
            page = f"{name}.{table}.html"
            write_text(site / page, _page(view, name, table, report))
            tables.append({"name": table, "page": page, "rows": rows})
        figures = sorted(_flat(report["figures"]).items())
        checks.append({"name": name, "tables": tables, **report, "figures": figures})
    index = site / "index.html"
    write_text(index, view.env.get_template("index.html").render(checks=checks))
    log.info("%s: the last results of the checks %s", index, ", ".join(found))
    return index


class ReasonedTable(ValidationResultsTableContentBlockRenderer):
    """The library's table of results, with the reason for each expectation and what to do if it fails."""

    @classmethod
    def _process_content_block(cls, content_block: Any, has_failed_evr: Any, render_object: Any = None) -> None:
        super()._process_content_block(content_block, has_failed_evr, render_object)
        content_block.header_row += ["Why", "If it fails"]

    @classmethod
    def _get_content_block_fn(cls, expectation_type: str, expectation_config: Any = None) -> Callable[..., Any]:
        plain = super()._get_content_block_fn(expectation_type, expectation_config)

        def with_reasons(*args: Any, result: Any, **kwargs: Any) -> list[Any]:
            (row,) = plain(*args, result=result, **kwargs)
            meta = result.expectation_config.meta
            return [[*row, html.escape(meta["why"]), html.escape(meta["remedy"])]]

        return with_reasons


_SECTIONS = {
    "class_name": "ValidationResultsColumnSectionRenderer",
    "table_renderer": {"class_name": "ReasonedTable", "module_name": __name__},
}


class _View(DefaultJinjaPageView):
    """The library's view, with the project's page around each result."""

    def __init__(self) -> None:
        super().__init__()
        own = files("streetrecall.expectations") / "pages"
        sources = {name: (own / file).read_text(encoding="utf-8") for name, file in _PAGES.items()}
        self.env.loader = ChoiceLoader([DictLoader(sources), self.env.loader])

    @staticmethod
    def _escape_template_param_value(value: Any) -> Any:
        """Escape a value unless it is escaped already, as `_restore` does."""
        return html.escape(html.unescape(value)) if isinstance(value, str) else value


def _page(view: _View, name: str, table: str, report: Mapping[str, Any]) -> str:
    results = [_restore(r) for r in report["results"] if r["table"] == table]
    good = sum(r.success for r in results)
    outcome = ExpectationSuiteValidationResult(
        suite_name=name,
        success=good == len(results),
        results=results,
        suite_parameters={},
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": good,
            "unsuccessful_expectations": len(results) - good,
            "success_percent": 100 * good / len(results) if results else 100,
        },
        meta={"batch_kwargs": {"data_asset_name": table}},
    )
    document = ValidationResultsPageRenderer(_SECTIONS).render(outcome)
    document.sections[0].content_blocks = document.sections[0].content_blocks[
        1:2
    ]  # of the overview, only the statistics
    return with_empty_strings(view.render(document, template="page.html", title=f"{name}: {table}"))


def _restore(result: Mapping[str, Any]) -> ExpectationValidationResult:
    """The library's object for an entry of a report; texts that come from the data are escaped."""
    details: dict[str, Any] = {}
    if "observed" in result:
        details["observed_value"] = _escaped(result["observed"])
    if "unexpected_count" in result:
        details["unexpected_count"] = result["unexpected_count"]
        details["unexpected_percent"] = 100 * result["unexpected_share"]
        details["partial_unexpected_list"] = [html.escape(_row(row)) for row in result["first_ids"]]
        details["element_count"] = result["rows"]
    configuration = ExpectationConfiguration(
        type=result["expectation"],
        kwargs=result["arguments"],
        meta={"why": result["why"], "remedy": result["remedy"]},
    )
    error = _escaped(result.get("error"))
    return ExpectationValidationResult(
        success=result["success"],
        expectation_config=configuration,
        result=details,
        exception_info={"raised_exception": bool(error), "exception_message": error, "exception_traceback": ""},
    )


def _escaped(value: Any) -> Any:
    return html.escape(value) if isinstance(value, str) else value


def _row(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{column} {value}" for column, value in row.items())


def _order(report: Mapping[str, Any], table: str) -> int:
    return next(i for i, r in enumerate(report["results"]) if r["table"] == table)


def _flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """
    >>> _flat({"images": 3, "quarantined": {"blank": 1}})
    {'images': 3, 'quarantined, blank': 1}
    """
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        flat |= _flat(value, f"{prefix}{name}, ") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        report = {}
    if not {"success", "rows", "figures", "results"} <= set(report) or not all("rows" in r for r in report["results"]):
        raise UserError(f"{path}: not a report of this version; write it again: streetrecall check {path.stem}")
    return dict(report)
