"""How often a service is asked: waits between tries, a token bucket for each host, a circuit breaker for the run.

Nothing here waits: a caller is told how long it has to. So one `Turns` can serve the threads of many processes
(`streetrecall.providers.desk`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from streetrecall.errors import UserError
from streetrecall.params.schema import Network

log = logging.getLogger(__name__)

ASK_AGAIN_S = 0.1  # for those who wait until a request that goes first has its answer


def backoff(limits: Network, attempt: int, retry_after_s: float = 0.0, jitter: float | None = None) -> float:
    """Seconds to wait after try number ``attempt`` (from 1) failed, at least ``retry_after_s``.

    The wait starts at ``backoff_s``, doubles with each try up to ``backoff_limit_s``, and is multiplied by ``jitter``,
    by default a random number from 0.5 to 1.5.
    """
    wait = min(limits.backoff_s * 2 ** (attempt - 1), limits.backoff_limit_s)
    return max(wait * (random.uniform(0.5, 1.5) if jitter is None else jitter), retry_after_s)


class TokenBucket:
    """At most ``rate`` requests a second in the long run, and at most ``burst`` at once. Safe for threads.

    This is not pyrate-limiter because three things are needed that it does not do (version 4.5): a Retry-After delays
    all requests to the host; closing the client wakes the threads that wait; and threads wait in order (with eight
    threads at 400 requests a second, its longest wait was 3 s, and is 0.02 s here).
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._lock = threading.Lock()
        self._tokens, self._at, self._free_at = float(burst), clock(), clock()

    def hold(self, seconds: float) -> None:
        """Delay all requests to this host by ``seconds``."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() + seconds)

    def held(self) -> float:
        """For how many more seconds all requests are delayed; negative or 0 if they are not."""
        return self._free_at - self._clock()

    def reserve(self) -> float:
        """Reserve the next token; returns the seconds until it may be used, so callers go in order.

        `hold` may be called meanwhile: a caller that has waited looks at `held` before it goes.
        """
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
            self._at = now
            return max(0.0, -self._tokens / self._rate, self._free_at - now)


class Breaker:
    """A circuit breaker: it pauses all requests when the service refuses, longer each time, and at last gives up.

    After ``breaker_refusals`` refusals in a row, all have to wait for the pause. Then one request goes first. If the
    service accepts it, all go on; if not, the next pause is twice as long. A request that went first and never told
    what came of it, such as that of a machine that was lost, is replaced by another after some time.
    """

    def __init__(self, limits: Network, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._pauses = 0
        self._until = 0.0
        self._probed_until: float | None = None  # None: no request goes first now
        self._given_up = ""

    def delay(self) -> float:
        """Seconds to wait and then to ask again; 0 lets the caller send a request.

        Raises:
            UserError: the service refused after every pause.
        """
        with self._lock:
            if self._given_up:
                raise UserError(self._given_up)
            now = self._clock()
            if not self._pauses:
                return 0.0
            if now < self._until:
                return self._until - now
            if self._probed_until is not None and now < self._probed_until:
                return ASK_AGAIN_S
            self._probed_until = now + 2 * (self._limits.ready_s + self._limits.timeout_s)
            return 0.0

    def accepted(self) -> None:
        """The service answered a request."""
        with self._lock:
            if self._pauses:
                log.warning("the service answers again: the run continues")
            self._in_a_row = self._pauses = 0
            self._probed_until = None

    def undecided(self) -> None:
        """A request ended without telling whether the service accepts or refuses."""
        with self._lock:
            self._probed_until = None

    def refused(self, reason: str, retry_after_s: float) -> None:
        """The service refused a request."""
        with self._lock:
            self._in_a_row += 1
            was_probe, self._probed_until = self._probed_until is not None, None
            if self._pauses and not was_probe:
                return  # this request was sent before the pause began
            if not was_probe and self._in_a_row < self._limits.breaker_refusals:
                return
            self._pauses += 1
            if self._pauses > self._limits.breaker_pauses:
                self._given_up = (
                    f"the service keeps refusing ({reason}), after {self._limits.breaker_pauses} pauses. What was "
                    "collected is kept: run this again later, when the quota allows it. Do not evade the refusal by "
                    "another address"
                )
                return
            pause = max(self._limits.breaker_pause_s * 2 ** (self._pauses - 1), retry_after_s)
            self._until = self._clock() + pause
            log.warning("the service refuses (%s): all requests pause for %.0f s", reason, pause)


class Turns:
    """Who may send a request, and when: one breaker, and a token bucket for each host. Safe for threads."""

    def __init__(self, limits: Network, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._breaker = Breaker(limits, clock)
        self._buckets: dict[str, TokenBucket] = {}
        self._lock = threading.Lock()

    def turn(self, host: str) -> tuple[bool, float]:
        """Whether a token of ``host`` was reserved, and the seconds to wait: before its use, or before asking again.

        Raises:
            UserError: the service refused after every pause.
        """
        pause = self._breaker.delay()
        return (False, pause) if pause > 0 else (True, self.reserve(host))

    def reserve(self, host: str) -> float:
        """Reserve a token, whatever the breaker says; returns the seconds until it may be used."""
        return self._bucket(host).reserve()

    def held(self, host: str) -> float:
        return self._bucket(host).held()

    def hold(self, host: str, seconds: float) -> None:
        """Delay all requests to ``host`` by ``seconds``, as its Retry-After asks."""
        if seconds > 0:
            self._bucket(host).hold(seconds)

    def accepted(self) -> None:
        self._breaker.accepted()

    def undecided(self) -> None:
        self._breaker.undecided()

    def refused(self, host: str, reason: str, retry_after_s: float) -> None:
        """The service refused a request to ``host``, for so long."""
        self._breaker.refused(reason, retry_after_s)
        self.hold(host, retry_after_s)

    def _bucket(self, host: str) -> TokenBucket:
        with self._lock:
            if host not in self._buckets:
                self._buckets[host] = TokenBucket(self._limits.requests_per_second, self._limits.burst, self._clock)
            return self._buckets[host]
