"""Texts of the data are shown as they are, and never become part of a page."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from streetrecall import cli
from streetrecall.figures.page import Figure, page

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><style>*{display:none}</style>",
    "&lt;b&gt; &amp; <!--",
    "$pano_id ${x} $$ {{ title }} {% raw %}",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
]
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "div", "span", "p", "a"),
    *(
        "h1",
        "h2",
        "h5",
        "h6",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "br",
        "strong",
        "i",
        "hr",
        "pre",
    ),
    *("details", "summary", "figure", "img", "svg", "clippath", "code"),
}


class Page(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def assert_harmless(self) -> None:
        assert {tag for tag, _ in self.tags} <= TAGS
        for tag, attributes in self.tags:
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            assert not any(str(attributes.get(name)).startswith("javascript:") for name in ("href", "src"))
        assert sum(tag == "style" for tag, _ in self.tags) == 1


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reports of the last run, in a working folder of their own."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ROOT / "metrics/validation", tmp_path / "metrics/validation"))


@pytest.mark.parametrize("text", HOSTILE)
def test_data_docs_show_texts_of_the_data_as_they_are(text: str, reports: Path) -> None:
    path = reports / "captures.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    rows = [r for r in report["results"] if "unexpected_count" in r]
    ids = [{"place": 1, "pano_id": text, "licence": text}]
    rows[0] |= {"success": False, "unexpected_count": 1, "first_ids": ids}
    rows[1] |= {"success": False, "error": f"could not convert string to float: '{text}'"}
    shares = [r for r in report["results"] if "counts" in r]
    shares[0] |= {"success": False, "counts": {text: 3}, "observed": f"not expected: {text}"}
    report["figures"]["lost"] = {"share": 0.5, text: 3}
    path.write_text(json.dumps(report), encoding="utf-8")
    assert cli.main(["docs"]) == 0
    index = Page(Path("site/index.html").read_text(encoding="utf-8"))
    table = Page(Path("site/captures.captures.html").read_text(encoding="utf-8"))
    for shown in (index, table):
        shown.assert_harmless()
    assert f"lost, {text}: 3" in index.text
    assert f"pano_id {text}, licence {text}" in table.text
    assert f"could not convert string to float: '{text}'" in table.text
    assert f"not expected: {text}" in table.text


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_of_results_shows_texts_as_they_are(text: str) -> None:
    svg = b'<svg width="5" height="5"><clipPath id="clip0"></clipPath></svg>'
    measured = {"test": {text: {"recall_at_1_25m": 0.912, "queries": 3, "places": 3, "candidates_mean": 7}}}
    figures = [Figure(text, text, "svg", svg), Figure(text, text, "png", b"...")]
    shown = Page(page({"model": measured, "baseline": measured}, figures))
    shown.assert_harmless()
    assert shown.text.replace("_", " ").count(text.replace("_", " ")) == 3
