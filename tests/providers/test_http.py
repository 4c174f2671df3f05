from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque

import pytest
from tinyservice import TinyService, serving

from streetrecall.errors import UserError
from streetrecall.params.schema import Network, Params
from streetrecall.providers.http import (
    Answer,
    Client,
    FinalError,
    GoneError,
    RefusedError,
    Secret,
    Secrets,
    StoppedError,
    TemporaryError,
    retry_after,
)
from streetrecall.providers.pacing import ASK_AGAIN_S, Breaker, TokenBucket
from streetrecall.providers.proxies import Proxies


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def limits(params: Params) -> Network:
    return params.network.model_copy(
        update={
            "tries": 4, "backoff_s": 1.0, "backoff_limit_s": 5.0, "timeout_s": 0.5, "requests_per_second": 1000.0,
            "burst": 100, "breaker_refusals": 3, "breaker_pause_s": 10.0, "breaker_pauses": 2,
        }
    )  # fmt: skip


def client(limits: Network, clock: Clock, proxies: Proxies | None = None) -> Client:
    return Client(limits, proxies, environment=False, clock=clock, sleep=clock.sleep, jitter=lambda: 1.0)


def take(bucket: TokenBucket, clock: Clock) -> None:
    """Wait for a token as the client does."""
    wait = bucket.reserve()
    while wait > 0:
        clock.sleep(wait)
        wait = bucket.held()


def wait_for(breaker: Breaker, clock: Clock) -> None:
    while (seconds := breaker.delay()) > 0:
        clock.sleep(seconds)


def text(answer: Answer) -> bytes:
    return answer.body


def test_a_bucket_lets_a_burst_go_and_paces_the_rest() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 3, clock)
    times = []
    for _ in range(8):
        take(bucket, clock)
        times.append(clock.now)
    assert times == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5])
    clock.now += 100
    before = clock.now
    for _ in range(3):
        take(bucket, clock)
    assert clock.now == before  # a quiet time earns a burst, and no more
    take(bucket, clock)
    assert clock.now == pytest.approx(before + 0.1)


def test_a_bucket_on_hold_lets_nobody_go() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 3, clock)
    bucket.hold(7.0)
    take(bucket, clock)
    assert clock.now == pytest.approx(7.0)


def test_a_hold_delays_those_who_have_a_token_already() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 1, clock)
    bucket.reserve()
    wait = bucket.reserve()
    assert wait == pytest.approx(0.1)
    bucket.hold(5.0)
    clock.sleep(wait)
    assert bucket.held() == pytest.approx(4.9)


def test_threads_share_a_bucket(limits: Network) -> None:
    c = Client(limits.model_copy(update={"requests_per_second": 100.0, "burst": 1}), environment=False)
    times: deque[float] = deque()

    def work() -> None:
        for _ in range(5):
            c.pace("host")
            times.append(time.monotonic())

    start = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start >= 19 / 100 - 0.01
    assert len(times) == 20
    c.close()


def test_backoff_doubles_up_to_its_limit_and_keeps_retry_after(limits: Network) -> None:
    c = client(limits, Clock())
    assert [c.backoff(n) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 5.0]
    assert c.backoff(1, retry_after_s=60.0) == 60.0


def test_jitter_is_within_half_of_the_backoff(limits: Network) -> None:
    c = Client(limits, environment=False)
    waits = [c.backoff(2) for _ in range(200)]
    assert 1.0 <= min(waits) < 1.3
    assert 2.7 < max(waits) <= 3.0


@pytest.mark.parametrize("fault", ["500", "reset", "stall", "truncated"])
def test_what_is_temporary_is_tried_again(limits: Network, fault: str) -> None:
    clock = Clock()
    with serving(TinyService(lambda path, query, n: fault if n <= 2 else None)) as service:
        c = client(limits, clock)
        assert b"pano" in c.get(f"{service.base}/viewer/panos", {"pano": "a"}, text)
        assert service.asked == {"/viewer/panos a": 3}
        assert clock.slept == [1.0, 2.0]
        c.close()


def test_a_failure_that_lasts_is_reported_after_the_last_try(limits: Network) -> None:
    with serving(TinyService(lambda path, query, n: "500")) as service:
        c = client(limits, Clock())
        with pytest.raises(TemporaryError, match="HTTP 500"):
            c.get(f"{service.base}/viewer/panos", {"pano": "a"}, text)
        assert service.asked == {"/viewer/panos a": limits.tries}
        c.close()


def test_what_is_gone_is_asked_once(limits: Network) -> None:
    with serving(TinyService()) as service:
        c = client(limits, Clock())
        with pytest.raises(GoneError):
            c.get(f"{service.base}/viewer/panos", {"pano": "unknown"}, text)
        assert service.asked == {"/viewer/panos unknown": 1}
        c.close()


def test_retry_after_holds_the_whole_host(limits: Network) -> None:
    clock = Clock()
    with serving(TinyService(lambda path, query, n: "429" if query["pano"] == "a" and n == 1 else None)) as service:
        c = client(limits.model_copy(update={"backoff_s": 0.001}), clock)
        with pytest.raises(RefusedError):
            c._request(f"{service.base}/viewer/panos", {"pano": "a"}, Secrets(), {}, 0)
        c.turns.hold(service.base.removeprefix("http://"), 30.0)
        c.get(f"{service.base}/viewer/panos", {"pano": "b"}, text)
        assert clock.now >= 30.0
        c.close()


def test_refusals_in_a_row_pause_everything_and_a_probe_goes_first(limits: Network) -> None:
    clock = Clock()
    breaker = Breaker(limits, clock)
    for _ in range(2):
        wait_for(breaker, clock)
        breaker.refused("HTTP 429", 0.0)
    assert clock.now == 0
    breaker.refused("HTTP 429", 0.0)
    wait_for(breaker, clock)
    assert clock.now == pytest.approx(10.0)
    breaker.refused("HTTP 429", 0.0)  # the probe: pause twice as long
    wait_for(breaker, clock)
    assert clock.now == pytest.approx(30.0)
    breaker.accepted()
    wait_for(breaker, clock)
    assert clock.now == pytest.approx(30.0)


def test_refusals_that_do_not_follow_each_other_pause_nothing(limits: Network) -> None:
    clock = Clock()
    breaker = Breaker(limits, clock)
    for _ in range(10):
        breaker.refused("HTTP 429", 0.0)
        breaker.refused("HTTP 429", 0.0)
        breaker.accepted()
    wait_for(breaker, clock)
    assert clock.now == 0


def test_a_longer_retry_after_lengthens_the_pause(limits: Network) -> None:
    clock = Clock()
    breaker = Breaker(limits, clock)
    for _ in range(3):
        breaker.refused("HTTP 429", 77.0)
    wait_for(breaker, clock)
    assert clock.now == pytest.approx(77.0)


def test_a_service_that_keeps_refusing_ends_the_run_with_a_message(limits: Network) -> None:
    clock = Clock()
    with serving(TinyService(lambda path, query, n: "429")) as service:
        c = client(limits.model_copy(update={"tries": 50}), clock)
        with pytest.raises(UserError, match=r"keeps refusing .HTTP 429.*run this again later"):
            c.get(f"{service.base}/viewer/panos", {"pano": "a"}, text)
        assert service.asked.total() == 3 + limits.breaker_pauses
        with pytest.raises(UserError, match="keeps refusing"):
            c.get(f"{service.base}/viewer/panos", {"pano": "b"}, text)
        c.close()


def test_only_one_probe_goes_ahead_after_a_pause(limits: Network) -> None:
    clock = Clock()
    breaker = Breaker(limits, clock)
    for _ in range(3):
        breaker.refused("HTTP 403", 0.0)
    wait_for(breaker, clock)
    assert breaker.delay() > 0
    breaker.accepted()
    assert breaker.delay() == 0


def test_a_request_that_went_first_and_was_lost_is_replaced(limits: Network) -> None:
    clock = Clock()
    breaker = Breaker(limits, clock)
    for _ in range(3):
        breaker.refused("HTTP 429", 0.0)
    wait_for(breaker, clock)
    before = clock.now
    wait_for(breaker, clock)
    assert clock.now - before == pytest.approx(2 * (limits.ready_s + limits.timeout_s), abs=ASK_AGAIN_S)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_an_unreachable_proxy_is_left_for_the_next(limits: Network, caplog: pytest.LogCaptureFixture) -> None:
    with serving(TinyService()) as proxy:  # a plain server answers a proxy's requests too: it looks at the path
        dead = f"http://me:secret@127.0.0.1:{closed_port()}"
        proxies = Proxies([dead, proxy.base])
        c = client(limits, Clock(), proxies)
        assert b"pano" in c.get("http://streetview.example/viewer/panos", {"pano": "a"}, text)
        assert proxies.current == proxy.base
        assert proxy.asked == {"/viewer/panos a": 1}
        assert "cannot be reached" in caplog.text
        assert "secret" not in caplog.text
        c.close()


def test_a_refusal_never_changes_the_address(limits: Network) -> None:
    with (
        serving(TinyService(lambda path, query, n: "429" if n <= 2 else None)) as first,
        serving(TinyService()) as second,
    ):
        c = client(limits, Clock(), Proxies([first.base, second.base]))
        c.get("http://streetview.example/viewer/panos", {"pano": "a"}, text)
        assert first.asked.total() == 3
        assert second.asked.total() == 0
        c.close()


@pytest.mark.parametrize("bad", ["proxy.example:3128", "ftp://proxy", "http://"])
def test_a_proxy_that_is_none_is_reported(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("STREETRECALL_PROXIES", f"http://fine:3128, {bad}")
    with pytest.raises(UserError, match="STREETRECALL_PROXIES"):
        Proxies.from_environment()


def test_proxies_come_apart_by_commas_and_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREETRECALL_PROXIES", "http://a:1,http://b:2 http://c:3")
    assert Proxies.from_environment().urls == ["http://a:1", "http://b:2", "http://c:3"]


SECRET = "AIzaTopSecretKey"


@pytest.mark.parametrize("fault", ["500", "reset", "stall", "truncated", "429"])
def test_what_is_sealed_shows_nowhere(limits: Network, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = Secret(SECRET)
    with serving(TinyService(lambda path, query, n: fault)) as service:
        c = client(limits, Clock())
        with pytest.raises((TemporaryError, UserError)) as caught:
            c.get(f"{service.base}/viewer/panos", {"pano": "a"}, text, lambda path: f"{path}&key={secret.reveal()}")
        assert f"key={SECRET}" in service.queries[0]
        c.close()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error) + str(error)
        frame = error.__traceback__
        while frame is not None:
            if "streetrecall" in frame.tb_frame.f_code.co_filename and "tests" not in frame.tb_frame.f_code.co_filename:
                assert SECRET not in repr(frame.tb_frame.f_locals)
            frame = frame.tb_next
        error = error.__cause__ or error.__context__
    assert caplog.text
    assert SECRET not in caplog.text


def test_a_closed_client_wakes_those_who_wait(limits: Network) -> None:
    c = Client(limits.model_copy(update={"requests_per_second": 0.001, "burst": 1}), environment=False)
    c.pace("host")
    ended: list[BaseException] = []

    def work() -> None:
        try:
            c.pace("host")
        except FinalError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    c.close()
    thread.join(5)
    assert isinstance(ended[0], StoppedError)


def test_retry_after_of_either_kind() -> None:
    assert retry_after("3", 0.0) == 3.0
    assert retry_after("Thu, 01 Jan 1970 00:00:10 GMT", 4.0) == 6.0
    assert retry_after("Thu, 01 Jan 1970 00:00:10 GMT", 400.0) == 0.0
    assert retry_after(None, 0.0) == 0.0
    assert retry_after("-5", 0.0) == 0.0
