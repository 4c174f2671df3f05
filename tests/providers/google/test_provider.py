from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from tinyservice import Fault, TinyService, serving

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers import open_provider
from streetrecall.providers.browser.chromium import find_browser
from streetrecall.providers.google.answers import read_metadata
from streetrecall.providers.google.credentials import Credentials, sign
from streetrecall.providers.google.provider import GoogleProvider
from streetrecall.providers.http import Answer, Client, FinalError, RefusedError, Secret, TemporaryError
from streetrecall.threads import concurrently

KEY = "AIzaTopSecretKey"
SIGNING = "vNIXE0xscrmjlyV-12Nj_BvUPaw="


@pytest.fixture
def quick(params: Params) -> Params:
    """The project's params, with short waits."""
    update = {"backoff_s": 0.001, "timeout_s": 0.5, "tries": 3, "breaker_pause_s": 0.01, "breaker_pauses": 2}
    return params.model_copy(update={"network": params.network.model_copy(update=update)})


@pytest.fixture
def browsing(quick: Params) -> Params:
    if find_browser() is None:
        pytest.skip("there is no Chromium on PATH")
    return quick.model_copy(update={"network": quick.network.model_copy(update={"browsers": 1, "ready_s": 4.0})})


@contextmanager
def provider(
    params: Params, fault: Fault | None = None, key: str = KEY, secret: Secret | None = None, terms: bool = True
) -> Iterator[tuple[GoogleProvider, TinyService]]:
    with serving(TinyService(fault)) as service:
        opened = GoogleProvider(
            params, endpoint=service.base, viewer=f"{service.base}/viewer",
            credentials=Credentials(Secret(key), secret), terms_accepted=terms,
            client=Client(params.network, environment=False),
        )  # fmt: skip
        try:
            yield opened, service
        finally:
            opened.close()


def points(*places: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame([(i, *p) for i, p in enumerate(places)], columns=["point_id", "lat", "lon"])


def places(*panos: str) -> pd.DataFrame:
    return pd.DataFrame({"place": range(len(panos)), "pano_id": panos, "level": 0, "split": "train", "radius_m": 100.0})


def test_the_published_signature() -> None:
    path = "/maps/api/geocode/json?address=New+York&client=clientID"
    assert sign(path, SIGNING) == "chaRF2hTJKOScPr-RQCEhZbSzIE="


def test_each_point_gets_its_answer(quick: Params) -> None:
    with provider(quick) as (google, service):
        answers = {a.point_id: a for a in google.coverage(points((59.3, 18.0), (-1.0, 18.0), (85.0, 0.0)), 50.0)}
    assert answers[0].status == "OK"
    assert answers[0].panorama is not None
    assert (answers[0].panorama.pano_id, answers[0].panorama.month) == ("pano59.300", "2021-05")
    assert (answers[1].status, answers[1].panorama) == ("ZERO_RESULTS", None)
    assert answers[2].panorama is not None
    assert answers[2].panorama.month == ""  # the service does not say
    query = parse_qs(urlsplit(next(q for q in service.queries if "59.3" in q)).query)
    assert query["location"] == ["59.3000000,18.0000000"]
    assert query["radius"] == ["50"]


def test_requests_are_signed_where_there_is_a_secret(quick: Params) -> None:
    with provider(quick, secret=Secret(SIGNING)) as (google, service):
        list(google.coverage(points((59.3, 18.0)), 50.0))
        unsigned, _, signature = service.queries[0].partition("&signature=")
    assert signature == sign(unsigned, SIGNING)
    assert f"key={KEY}" in unsigned


@pytest.mark.parametrize("fault", ["429", "500", "reset", "stall", "truncated", "malformed", "html"])
def test_faults_that_pass_cost_no_point(quick: Params, fault: str) -> None:
    some = points(*((59.0 + i / 100, 18.0) for i in range(6)))
    # Patient enough for a busy machine: a good answer that came too late would be asked for once more.
    limits = quick.network.model_copy(update={"breaker_refusals": 100, "timeout_s": 3.0})
    with provider(quick.model_copy(update={"network": limits}), lambda p, q, n: fault if n == 1 else None) as (g, s):
        answers = list(g.coverage(some, 50.0))
        assert {a.status for a in answers} == {"OK"}
        assert sorted(a.point_id for a in answers) == list(range(6))
        assert set(s.asked.values()) == {2}


def test_a_point_that_cannot_be_asked_is_reported_and_the_rest_goes_on(quick: Params) -> None:
    bad = "59.0100000,18.0000000"
    with provider(quick, lambda p, q, n: "malformed" if q["location"] == bad else None) as (google, _):
        answers = {a.point_id: a for a in google.coverage(points((59.0, 18.0), (59.01, 18.0), (59.02, 18.0)), 50.0)}
    assert [answers[i].status for i in range(3)] == ["OK", "FAILED", "OK"]
    assert answers[1].reason == "the answer is malformed JSON"


def read(google: GoogleProvider, body: object, kind: str = "application/json; charset=UTF-8") -> object:
    answer = Answer(200, {"Content-Type": kind}, json.dumps(body).encode())
    return read_metadata(answer, google._licence, google._credentials.redact)


def test_every_status_is_handled(quick: Params) -> None:
    with provider(quick) as (google, _):
        for status in ("ZERO_RESULTS", "NOT_FOUND"):
            assert read(google, {"status": status}) == (status, None)
        with pytest.raises(RefusedError, match="OVER_QUERY_LIMIT"):
            read(google, {"status": "OVER_QUERY_LIMIT"})
        for body in ({"status": "UNKNOWN_ERROR"}, {}, {"status": "OK"}, {"status": "NEW_WORD"}, []):
            with pytest.raises(TemporaryError) as caught:
                read(google, body)
            assert not isinstance(caught.value, RefusedError)
        with pytest.raises(TemporaryError, match="impossible"):
            read(google, {"status": "OK", "pano_id": "a", "location": {"lat": 91, "lng": 0}})


@pytest.mark.parametrize("status", ["REQUEST_DENIED", "INVALID_REQUEST"])
def test_a_rejected_key_stops_with_the_message_and_without_the_key(
    quick: Params, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    denied = json.dumps({"status": status, "error_message": f"The provided key {KEY} is invalid."}).encode()
    with provider(quick) as (google, service):
        service.answer = lambda path, query: (200, "application/json", denied)  # type: ignore[method-assign]
        with pytest.raises(UserError, match=r"The provided key \*\*\* is invalid") as caught:
            list(google.coverage(points(*((59.0 + i / 100, 18.0) for i in range(30))), 50.0))
        assert service.asked.total() < 30
    assert KEY not in f"{caught.value!r} {caught.value.__context__!r} {caplog.text} {google!r} {vars(google)!r}"


def test_quota_that_stays_exhausted_stops_the_run_and_keeps_what_was_got(quick: Params) -> None:
    body = json.dumps({"status": "OVER_QUERY_LIMIT"}).encode()
    with provider(quick.model_copy(update={"network": quick.network.model_copy(update={"threads": 1})})) as (g, s):
        honest = s.answer
        s.answer = lambda path, query: (  # type: ignore[method-assign]
            honest(path, query) if s.asked.total() <= 3 else (200, "application/json", body)
        )
        got = []
        with pytest.raises(UserError, match="keeps refusing"):
            for answer in g.coverage(points(*((59.0 + i / 100, 18.0) for i in range(40))), 50.0):
                got.append(answer.status)  # noqa: PERF401 - what came before the error counts
        assert got[:3] == ["OK"] * 3
        assert s.asked.total() < 40


def test_the_key_comes_from_the_environment_alone(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    google = params.model_copy(update={"provider": "google"})
    monkeypatch.delenv("STREETRECALL_GOOGLE_KEY", raising=False)
    with pytest.raises(UserError, match="STREETRECALL_GOOGLE_KEY"):
        open_provider(google)
    monkeypatch.setenv("STREETRECALL_GOOGLE_KEY", KEY)
    monkeypatch.setenv("STREETRECALL_GOOGLE_SECRET", "not base 64!")
    with pytest.raises(UserError, match="STREETRECALL_GOOGLE_SECRET") as caught:
        Credentials.from_environment()
    assert "not base 64" not in str(caught.value)
    monkeypatch.setenv("STREETRECALL_GOOGLE_SECRET", SIGNING)
    credentials = Credentials.from_environment()
    assert credentials.secret is not None
    assert KEY not in f"{credentials!r}{credentials.key}{credentials.secret!r}{credentials.secret}"
    opened = open_provider(google)
    assert (opened.name, opened.shareable, opened.network) == ("google", False, True)
    opened.close()


def test_without_accepted_terms_there_is_metadata_and_nothing_else(quick: Params) -> None:
    with provider(quick, terms=False) as (google, service):
        assert [a.status for a in google.coverage(points((59.3, 18.0)), 50.0)] == ["OK"]
        for refused in (google.plan(places("a")), google.capture([])):
            with pytest.raises(UserError, match=r"google\.accept_terms: true"):
                list(refused)
        assert service.asked.total() == 1


@pytest.mark.browser
def test_the_plan_has_all_dates_newest_first_in_all_directions(browsing: Params) -> None:
    with provider(browsing) as (google, service):
        requests = list(google.plan(places("a", "b")))
        assert len(requests) == 2 * 2 * 4
        first = requests[:8]
        assert [r.panorama.pano_id for r in first] == ["a-0"] * 4 + ["a-1"] * 4
        assert [r.panorama.month for r in first] == ["2022-06"] * 4 + ["2021-06"] * 4
        assert [r.heading_deg for r in first[:4]] == browsing.scrape.headings_deg
        assert {r.subset for r in requests} == {"train_v1"}
        notes = dict(google.notes)
        before = service.asked.total()
        assert list(google.plan(places("b", "a", "c")))[8:16] == [r.__class__(**{**vars(r), "place": 1}) for r in first]
        assert service.asked.total() == before + 1  # only what the notes lack is asked
        assert set(google.notes) > set(notes)


@pytest.mark.browser
def test_a_place_whose_dates_cannot_be_had_is_left_out_and_told(browsing: Params) -> None:
    def fault(path: str, query: dict[str, str], n: int) -> str | None:
        if not path.endswith("/panos"):
            return None
        return {"a": "500" if n == 1 else None, "b": "malformed" if n < 3 else None, "c": "500"}.get(query["pano"])

    with provider(browsing, fault) as (google, service):
        requests = list(google.plan(places("a", "unknown1", "b", "c")))
        asked = {what.rpartition(" ")[2]: n for what, n in service.asked.items() if "/panos" in what}
    assert {r.place for r in requests} == {0, 2}
    assert sorted(google.unplanned) == [
        ("panorama c", "its dates cannot be had: http 500"),
        ("panorama unknown1", "its dates cannot be had: http 404"),
    ]
    assert asked == {"a": 2, "unknown1": 1, "b": 3, "c": 3}


def test_workers_end_with_the_first_exception() -> None:
    abandoned: list[bool] = []
    seen: list[int] = []

    def work(i: int) -> Iterator[int]:
        seen.append(i)
        if i == 5:
            raise FinalError("five")
        yield i

    with pytest.raises(FinalError, match="five"):
        list(concurrently(work, range(1000), 2, lambda: abandoned.append(True)))
    assert abandoned == [True]
    assert len(seen) < 20
    assert sorted(concurrently(lambda i: [i], range(100), 8, lambda: None)) == list(range(100))


def test_results_that_nobody_takes_hold_the_work_back_until_it_is_over() -> None:
    over, seen = threading.Event(), []

    def work(i: int) -> Iterator[int]:
        seen.append(i)
        yield i

    results = concurrently(work, range(1000), 2, over.set, over)
    first = next(results)
    over.set()
    rest = list(results)  # the threads have ended, whatever they had to hand over
    assert first in (0, 1)
    assert len(rest) < len(seen) < 10
