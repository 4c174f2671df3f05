"""Progress in a log: a line every ten seconds at most."""

from __future__ import annotations

import pytest
import tqdm.std

from streetrecall.progress import progress


def test_a_log_has_a_line_every_ten_seconds_at_most(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    with progress(1000, "describe", "picture") as bar:
        for _ in range(1000):
            now[0] += 0.05  # 50 s in all
            bar.update(1)
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert 5 <= len(lines) <= 7
    assert "1000/1000" in lines[-1]
    assert not any("\r" in line for line in lines)
