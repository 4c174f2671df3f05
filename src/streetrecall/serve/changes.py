"""Answers of two revisions, query by query: gained, lost, both wrong, both right.

The tables of a revision are taken from DVC's cache by the hashes in its dvc.lock. Nothing is fetched: a request never
makes this machine ask another one.
"""

from __future__ import annotations

import io
import re
import threading
from collections import OrderedDict
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.external import GitError, git
from streetrecall.params.schema import load
from streetrecall.review.compare import RESULTS, WORKSPACE, Asked, pair
from streetrecall.scoring.bootstrap import paired_difference
from streetrecall.serve.problems import ProblemError
from streetrecall.serve.project import PARAMS, Project
from streetrecall.serve.results import label

REVISION = r"^[A-Za-z0-9][A-Za-z0-9._/~^-]{0,99}$"
OUTCOMES = ("lost", "gained", "both wrong", "both right")
COMMITS = 30  # that changed dvc.lock, offered for comparison
KEPT = 4  # tables of revisions
HASH = re.compile(r"[0-9a-f]{32}")


class Revisions:
    """The revisions of a project whose results can be compared."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._tables: OrderedDict[str, pd.DataFrame] = OrderedDict()
        self._lock = threading.Lock()
        self._cache: Path | None = None

    def known(self) -> list[dict[str, str]]:
        """The working folder, branches, tags, experiments and the commits that changed results; none outside of git."""
        out = [{"name": WORKSPACE, "kind": "workspace", "text": "the files of this folder"}] if self._has() else []
        root = self.project.root
        try:
            shape = "--format=%(refname)%09%(refname:short)%09%(contents:subject)"
            refs = git(root, "for-each-ref", shape, "refs/heads", "refs/tags", "refs/exps")
            log = git(root, "log", f"-{COMMITS}", "--format=%h%x09%s", "--", "dvc.lock")
            head = git(root, "log", "-1", "--format=%s").strip()
        except UserError:
            return out
        out.append({"name": "HEAD", "kind": "commit", "text": head})
        kinds = {"heads": "branch", "tags": "tag", "exps": "experiment"}
        for line in refs.splitlines():
            full, short, subject = (*line.split("\t", 2), "")[:3]
            kind = kinds[full.split("/")[1]]
            internal = kind == "experiment" and full.split("/")[2] in (
                "exec",
                "celery",
                "stash",
                "tasks",
                "temp",
                "queue",
            )
            if kind == "experiment":
                short = full.rpartition("/")[2]
            if not internal and re.fullmatch(REVISION, short):
                out.append({"name": short, "kind": kind, "text": subject})
        out += [
            {"name": name, "kind": "commit", "text": text}
            for name, text in (line.split("\t", 1) for line in log.splitlines() if "\t" in line)
        ]
        return out

    def _has(self) -> bool:
        return self.project.has("queries")

    def _commit(self, revision: str) -> str:
        """The full hash of a revision."""
        root = self.project.root
        candidates = [revision, f"refs/heads/{revision}", f"refs/tags/{revision}"]
        if "/" not in revision:
            try:
                refs = git(root, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{revision}").split()
            except UserError as error:
                raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
            candidates += refs[:1]
        for name in candidates:
            try:
                return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
            except GitError:
                continue
        raise ProblemError(HTTPStatus.NOT_FOUND, f"{revision}: there is no such revision in this clone.")

    def results(self, revision: str) -> pd.DataFrame:
        """The predictions of a revision.

        Raises:
            ProblemError: there is no such revision, or its results are not on this machine.
        """
        if revision == WORKSPACE:
            return self.project.table("queries")
        if not re.fullmatch(REVISION, revision):
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "That is not the name of a revision.")
        commit = self._commit(revision)
        with self._lock:
            if commit in self._tables:
                self._tables.move_to_end(commit)
                return self._tables[commit]
        frame = self._read(revision, commit)
        with self._lock:
            self._tables[commit] = frame
            while len(self._tables) > KEPT:
                self._tables.popitem(last=False)
        return frame

    def _read(self, revision: str, commit: str) -> pd.DataFrame:
        try:
            lock = yaml.safe_load(git(self.project.root, "show", f"{commit}:./dvc.lock"))
        except (GitError, yaml.YAMLError) as error:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"{revision}: has no readable dvc.lock.") from error
        found = ""
        for stage in (lock or {}).get("stages", {}).values():
            for out in stage.get("outs", []):
                if out.get("path") == RESULTS:
                    found = str(out.get("md5", ""))
        if not HASH.fullmatch(found):
            raise ProblemError(HTTPStatus.NOT_FOUND, f"{revision}: its dvc.lock lists no {RESULTS}.")
        path = self.cache() / found[:2] / found[2:]
        try:
            frame = pq.read_table(io.BytesIO(path.read_bytes())).to_pandas()
        except (OSError, pa.ArrowInvalid) as error:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                f"{revision}: its results are not in this machine's cache; check that revision out and run "
                f"`dvc fetch {RESULTS}`.",
            ) from error
        missing = [c for c in tables.PREDICTIONS.columns if c not in frame.columns]
        if missing:
            raise ProblemError(
                HTTPStatus.CONFLICT, f"{revision}: an older version wrote its results: they lack {', '.join(missing)}."
            )
        return frame[list(tables.PREDICTIONS.columns)]

    def cache(self) -> Path:
        """The folder of DVC's cache where files lie by their hashes."""
        if self._cache is None:
            try:
                from dvc.repo import Repo
            except ImportError as error:
                raise ProblemError(
                    HTTPStatus.CONFLICT, "Comparing needs DVC: pip install 'streetrecall[pipeline]'."
                ) from error
            with Repo(str(self.project.root)) as repo:
                self._cache = Path(repo.cache.local.path)
        return self._cache

    def compare(self, first: str, second: str, asked: Asked) -> dict[str, Any]:
        """Each query of both revisions and what became of it, and whether the second revision is better."""
        load_params = self.project.params() or load(self.project.root / PARAMS)
        settings = load_params.evaluate
        both = self.results(first), self.results(second)
        try:
            joined, pairs = pair(*both, (first, second), asked)
        except UserError as error:
            raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error
        if pairs.empty:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, f"{first} and {second} have no query in common; their places or dates differ."
            )
        a, b = pairs["found_a"].to_numpy(bool), pairs["found_b"].to_numpy(bool)
        bootstrap = settings.bootstrap_draws, settings.confidence, settings.seed
        outcome = np.select([a & ~b, ~a & b, ~a & ~b], OUTCOMES[:3], OUTCOMES[3])
        images = self.project.table_or_none("images")
        pictures = "image_id_b" if second == WORKSPACE else "image_id_a" if first == WORKSPACE else ""
        known = set() if images is None or not pictures else set(images["image_id"])
        return {
            "first": first,
            "second": second,
            "label": label(str(asked.protocol)),
            "difference": asdict(paired_difference(pairs["place"].to_numpy(), a, b, *bootstrap)),
            "confidence": settings.confidence,
            "only_one": int(joined[["found_a", "found_b"]].notna().to_numpy().sum() - 2 * len(pairs)),
            "counts": {name: int((outcome == name).sum()) for name in OUTCOMES},
            "columns": {
                "outcome": outcome.tolist(),
                "place": pairs["place"].tolist(),
                "direction": pairs["direction"].tolist(),
                "month": pairs["month"].tolist(),
                "lat": pairs["lat_a"].round(6).tolist(),
                "lon": pairs["lon_a"].round(6).tolist(),
                "error_first_m": _errors(pairs["error_m_a"]),
                "error_second_m": _errors(pairs["error_m_b"]),
                "id": [int(n) if n in known else None for n in pairs[pictures]] if pictures else [None] * len(pairs),
            },
        }


def _errors(values: pd.Series) -> list[float | None]:
    return [round(v, 1) if np.isfinite(v) else None for v in values.tolist()]
