"""What the README shows as output is what the committed results give, and what it names is there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from streetrecall.commands import COMMANDS
from streetrecall.review.summary import summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def staged(path: str) -> str:
    """A file as git holds it, committed or about to be: a run on another kind of processor rounds otherwise, and what
    it writes into the workspace need not be what the README shows."""
    command = ["git", "show", f":./{path}"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8").stdout


def test_the_summary_shown_is_that_of_the_committed_metrics() -> None:
    shown = re.search(r"^```\n( +model +baseline[^\n]*\n.*?)\n```$", staged("README.md"), re.M | re.S)
    assert shown, "the README shows no summary"
    said = summary(json.loads(staged("metrics/evaluate.json")), Path("metrics/plots"))
    assert shown[1].strip() == said.strip()


def test_every_file_and_make_target_that_it_names_exists() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    commands = [line.partition("#")[0].split() for line in re.findall(r"^\$ (.*)$", README, re.M)]
    words = {word for line in commands if "make" in line for word in line[line.index("make") + 1 :]}
    assert words and words <= set(targets)


def test_every_command_that_it_names_is_known() -> None:
    commands = set(re.findall(r"^\$ streetrecall ([a-z-]+)", README, re.M))
    assert commands
    assert commands <= set(COMMANDS)
