"""How often a service is asked: waits between tries, a token bucket for each host, a circuit breaker for the run."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from streetrecall.errors import UserError
from streetrecall.params.schema import Network

log = logging.getLogger(__name__)


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

    def __init__(self, rate: float, burst: int, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._rate, self._burst, self._clock, self._sleep = rate, burst, clock, sleep
        self._lock = threading.Lock()
        self._tokens, self._at, self._free_at = float(burst), clock(), clock()

    def hold(self, seconds: float) -> None:
        """Delay all requests to this host by ``seconds``."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() + seconds)

    def take(self) -> None:
        """Wait until a request may be sent.

        Each caller reserves the next token inside the lock and then waits outside it, so callers go in order.
        """
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
            self._at = now
            wait = max(-self._tokens / self._rate, self._free_at - now)
        while wait > 0:
            self._sleep(wait)
            wait = self._free_at - self._clock()  # `hold` may have been called meanwhile


class Breaker:
    """A circuit breaker: it pauses all requests when the service refuses, longer each time, and at last gives up.

    After ``breaker_refusals`` refusals in a row, `wait` blocks every caller for the pause. Then one request goes first.
    If the service accepts it, all go on; if not, the next pause is twice as long.
    """

    def __init__(self, limits: Network, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._limits, self._clock, self._sleep = limits, clock, sleep
        self._change = threading.Condition()
        self._in_a_row = 0
        self._pauses = 0
        self._until = 0.0
        self._probing = False
        self._given_up = ""

    def wait(self) -> None:
        """Return when a request may be sent.

        Raises:
            UserError: the service refused after every pause.
        """
        while True:
            with self._change:
                if self._given_up:
                    raise UserError(self._given_up)
                if not self._pauses:
                    return
                pause = self._until - self._clock()
                if pause <= 0 and not self._probing:
                    self._probing = True
                    return
                if pause <= 0:
                    self._change.wait(1.0)
                    continue
            self._sleep(pause)

    def accepted(self) -> None:
        """The service answered a request."""
        with self._change:
            if self._pauses:
                log.warning("the service answers again: the run continues")
            self._in_a_row = self._pauses = 0
            self._probing = False
            self._change.notify_all()

    def undecided(self) -> None:
        """A request ended without telling whether the service accepts or refuses."""
        with self._change:
            self._probing = False
            self._change.notify_all()

    def refused(self, reason: str, retry_after_s: float) -> None:
        """The service refused a request."""
        with self._change:
            self._in_a_row += 1
            was_probe, self._probing = self._probing, False
            self._change.notify_all()
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
