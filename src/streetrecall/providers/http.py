"""Requests as a service would like them: paced, patient, and never insisting where it says no.

One `Client` serves all threads of a run. Every host has a token bucket. What is temporary (time-outs, resets, bodies
cut short, 5xx, 429) is tried again after an exponential back-off with jitter, not before the service's own Retry-After.
Refusals in a row open a circuit breaker, which pauses the whole run, whatever address it comes from. A proxy is left
for the next one only when it cannot be reached, never because the service refuses.

Nothing secret leaves this module: a query's secret part is in no exception, log line or object that it hands out.
"""

from __future__ import annotations

import email.utils
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from streetrecall import __version__
from streetrecall.errors import UserError
from streetrecall.params.schema import Network

log = logging.getLogger(__name__)

T = TypeVar("T")
TEMPORARY = {408, 425, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529}
REFUSAL = {401, 403, 429}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Trouble(Exception):  # noqa: N818 - its kinds are not all errors
    """A request that came to nothing; the text is safe to show and to keep."""


class Temporary(Trouble):
    """Another try may do better, ``retry_after_s`` seconds later at the earliest."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Refusal(Temporary):
    """The service says that it wants no more requests now."""


class Final(Trouble):
    """No further try will do better."""


class Gone(Final):
    """The service does not have it (any more)."""


class Stopped(Final):
    """The run ended while the request waited for its turn."""


class DeniedError(Exception):
    """The service rejects the key or the request itself: no further request makes sense."""


class Secret:
    """Text that shows in no print, log or traceback.

    >>> Secret("AIza...")
    Secret(***)
    """

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"


class _Redact(logging.Filter):
    """urllib3 logs request lines at DEBUG: what stands after key= or signature= is nobody's business."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = re.sub(r"\b(key|signature|access_token)=[^&\s\"']+", r"\1=***", text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


_REDACT = _Redact()


class TokenBucket:
    """At most ``rate`` a second in the long run, ``burst`` at once. Safe for threads."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._rate, self._burst, self._clock, self._sleep = rate, burst, clock, sleep
        self._lock = threading.Lock()
        self._tokens, self._at, self._free_at = float(burst), clock(), clock()

    def hold(self, seconds: float) -> None:
        """Nobody's turn comes within the next ``seconds``."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock() + seconds)

    def take(self) -> None:
        """Wait for one's turn: a token is promised at once and waited for outside the lock, so turns stay in order."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
            self._at = now
            wait = max(-self._tokens / self._rate, self._free_at - now)
        while wait > 0:
            self._sleep(wait)
            wait = self._free_at - self._clock()  # another thread may have been told to wait longer meanwhile


class Breaker:
    """Pauses every user of a service that refuses, longer each time, and at last gives up.

    ``refused`` counts refusals in a row; at ``breaker_refusals`` all `wait` for the pause. Then one request goes
    ahead; if the service takes it, all go on, and if not, the next pause is twice as long.
    """

    def __init__(self, limits: Network, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._limits, self._clock, self._sleep = limits, clock, sleep
        self._change = threading.Condition()
        self._in_a_row = 0
        self._pauses = 0
        self._until = 0.0
        self._trying = False
        self._given_up = ""

    def wait(self) -> None:
        """Return when a request may go out.

        Raises:
            UserError: the service kept refusing through all pauses.
        """
        while True:
            with self._change:
                if self._given_up:
                    raise UserError(self._given_up)
                if not self._pauses:
                    return
                pause = self._until - self._clock()
                if pause <= 0 and not self._trying:
                    self._trying = True
                    return
                if pause <= 0:
                    self._change.wait(1.0)
                    continue
            self._sleep(pause)

    def accepted(self) -> None:
        with self._change:
            if self._pauses:
                log.warning("the service answers again; going on")
            self._in_a_row = self._pauses = 0
            self._trying = False
            self._change.notify_all()

    def undecided(self) -> None:
        """The request that went ahead came to nothing that says whether the service refuses."""
        with self._change:
            self._trying = False
            self._change.notify_all()

    def refused(self, reason: str, retry_after_s: float) -> None:
        with self._change:
            self._in_a_row += 1
            probing, self._trying = self._trying, False
            self._change.notify_all()
            if self._pauses and not probing:
                return  # a request that was under way when the pause began
            if not probing and self._in_a_row < self._limits.breaker_refusals:
                return
            self._pauses += 1
            if self._pauses > self._limits.breaker_pauses:
                self._given_up = (
                    f"the service keeps refusing ({reason}), after {self._limits.breaker_pauses} pauses. What was got "
                    "is kept: run this again later, when the quota allows it; changing the address would not be right"
                )
                return
            pause = max(self._limits.breaker_pause_s * 2 ** (self._pauses - 1), retry_after_s)
            self._until = self._clock() + pause
            log.warning("the service refuses (%s): everything pauses for %.0f s", reason, pause)


class Proxies:
    """The way out: a list of proxies of which one is in use, the next taking over when it cannot be reached."""

    def __init__(self, urls: Sequence[str]) -> None:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UserError(
                    "STREETRECALL_PROXIES: each proxy is a URL such as http://host:3128, apart by commas; "
                    f"{_without_password(url)!r} is not"
                )
        self.urls = list(urls)
        self._index = 0
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> Proxies:
        """``STREETRECALL_PROXIES``: URLs apart by commas or blanks."""
        return cls([url for url in re.split(r"[,\s]+", os.environ.get("STREETRECALL_PROXIES", "")) if url])

    def __len__(self) -> int:
        return len(self.urls)

    @property
    def current(self) -> str | None:
        return self.urls[self._index] if self.urls else None

    def unreachable(self, url: str | None) -> None:
        """Take the next one, unless another thread has done so already."""
        with self._lock:
            if url is not None and url == self.current and len(self.urls) > 1:
                self._index = (self._index + 1) % len(self.urls)
                log.warning(
                    "proxy %s cannot be reached; going on through %s",
                    _without_password(url),
                    _without_password(self.urls[self._index]),
                )


@dataclass(frozen=True)
class Answer:
    """An answer whose body arrived whole; without its request, whose URL may hold a key."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """GET requests of many threads to one service.

    Args:
        limits: section ``network`` of params.yaml.
        environment: use the environment's proxies (HTTPS_PROXY, ...) where STREETRECALL_PROXIES names none.
        clock, sleep, jitter: replaced in tests; jitter() is uniform in 0.5-1.5.
    """

    def __init__(
        self,
        limits: Network,
        proxies: Proxies | None = None,
        environment: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.5),
    ) -> None:
        self.limits = limits
        self.proxies = proxies if proxies is not None else Proxies([])
        self._stopped = threading.Event()
        self._clock, self._sleep, self._jitter = clock, sleep or self._doze, jitter
        self.breaker = Breaker(limits, clock, self._sleep)
        self._environment = environment
        self._buckets: dict[str, TokenBucket] = {}
        self._lock = threading.Lock()
        self._own = threading.local()
        self._sessions: list[requests.Session] = []
        logger = logging.getLogger("urllib3.connectionpool")
        if _REDACT not in logger.filters:
            logger.addFilter(_REDACT)

    def stop(self) -> None:
        """Wake all threads that wait: the run is over, and each of their requests ends with `Stopped`."""
        self._stopped.set()

    def _doze(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stopped("the run has ended")

    def close(self) -> None:
        self.stop()
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def pace(self, host: str) -> None:
        """Wait until ``host`` may be asked: for the breaker, then for its token bucket."""
        self.breaker.wait()
        self._bucket(host).take()

    def hold(self, host: str, seconds: float) -> None:
        """Let nobody ask ``host`` within the next ``seconds``: it said Retry-After."""
        if seconds > 0:
            self._bucket(host).hold(seconds)

    def _bucket(self, host: str) -> TokenBucket:
        with self._lock:
            if host not in self._buckets:
                self._buckets[host] = TokenBucket(
                    self.limits.requests_per_second, self.limits.burst, self._clock, self._sleep
                )
            return self._buckets[host]

    def get(
        self,
        url: str,
        params: Mapping[str, str],
        read: Callable[[Answer], T],
        seal: Callable[[str], str] | None = None,
    ) -> T:
        """Ask until ``read`` makes sense of an answer.

        ``read`` gets answers of HTTP status 200 and raises `Temporary`, `Refusal` or `Final`. ``seal`` adds what is
        secret (key, signature) to the path and query, at the last moment and in no frame that an error can show.

        Raises:
            Final: the service has it not, or will not ever take the request.
            Temporary: the last of all tries failed too.
            UserError: the service kept refusing through all pauses.
        """
        host = urlsplit(url).netloc
        for attempt in range(1, self.limits.tries + 1):
            self.pace(host)
            trouble: Temporary
            try:
                result = read(self._once(url, params, seal))
            except Refusal as refusal:
                self.breaker.refused(str(refusal), refusal.retry_after_s)
                trouble = refusal
            except Temporary as temporary:
                self.breaker.undecided()
                trouble = temporary
            except BaseException:
                self.breaker.undecided()
                raise
            else:
                self.breaker.accepted()
                return result
            self.hold(host, trouble.retry_after_s)
            if attempt == self.limits.tries:
                raise trouble
            self._sleep(self.backoff(attempt, trouble.retry_after_s))
        raise AssertionError("not reached")

    def backoff(self, attempt: int, retry_after_s: float = 0.0) -> float:
        """Seconds to wait after try number ``attempt`` (from 1) failed."""
        wait = min(self.limits.backoff_s * 2 ** (attempt - 1), self.limits.backoff_limit_s) * self._jitter()
        return max(wait, retry_after_s)

    def _session(self, proxy: str | None) -> requests.Session:
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None or self._own.proxy != proxy:
            session = requests.Session()
            session.headers["User-Agent"] = f"streetrecall/{__version__}"
            session.trust_env = self._environment and proxy is None
            if proxy is not None:
                session.proxies = {"http": proxy, "https": proxy}
            adapter = HTTPAdapter(pool_connections=4, pool_maxsize=4, max_retries=0)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._own.session, self._own.proxy = session, proxy
            with self._lock:
                self._sessions.append(session)
        return session

    def _once(self, url: str, params: Mapping[str, str], seal: Callable[[str], str] | None) -> Answer:
        answer = self._send(url, params, seal)
        if isinstance(answer, str):
            raise Temporary(answer)
        wait = retry_after(answer.headers.get("Retry-After"), time.time())
        reason = f"HTTP {answer.status}"
        if answer.status in REFUSAL:
            raise Refusal(reason, wait)
        if answer.status in TEMPORARY:
            raise Temporary(reason, wait)
        if answer.status in (404, 410):
            raise Gone(reason)
        if answer.status != 200:
            raise Final(reason)
        return answer

    def _send(self, url: str, params: Mapping[str, str], seal: Callable[[str], str] | None) -> Answer | str:
        """The answer, or why there is none. Never raises: the text of requests' errors holds a key."""
        proxy = self.proxies.current
        session = self._session(proxy)
        try:
            request = session.prepare_request(requests.Request("GET", url, params=dict(params)))
            if seal is not None:
                parts = urlsplit(url)
                request.url = f"{parts.scheme}://{parts.netloc}{seal(request.path_url)}"
            settings: Any = session.merge_environment_settings(request.url, {}, False, None, None)
            with session.send(request, timeout=self.limits.timeout_s, allow_redirects=False, **settings) as response:
                return Answer(response.status_code, response.headers, response.content)
        except (requests.exceptions.ProxyError, requests.exceptions.ConnectTimeout):
            self.proxies.unreachable(proxy)
            return "the proxy cannot be reached" if proxy else "no connection in time"
        except requests.exceptions.Timeout:
            return "no answer in time"
        except requests.exceptions.ChunkedEncodingError:
            return "the answer was cut short"
        except requests.exceptions.ContentDecodingError:
            return "the answer is damaged"
        except requests.exceptions.SSLError:
            return "no secure connection (TLS)"
        except requests.exceptions.ConnectionError as error:
            # A body that stalls is a plain ConnectionError around urllib3's own time-out.
            return "no answer in time" if "timed out" in str(error) else "the connection failed or was reset"
        except requests.exceptions.RequestException as error:
            return f"the request failed ({type(error).__name__})"


def retry_after(value: str | None, now: float) -> float:
    """Seconds to wait by a Retry-After header: whole seconds or an HTTP date; 0 where it says nothing sensible.

    >>> retry_after("120", 0.0), retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 0.0), retry_after("soon", 0.0)
    (120.0, 60.0, 0.0)
    """
    if not value:
        return 0.0
    value = value.strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _without_password(url: str) -> str:
    """A proxy's URL as it may be shown.

    >>> _without_password("http://me:secret@proxy.example:3128")
    'http://***@proxy.example:3128'
    """
    return re.sub(r"//[^/@]*@", "//***@", url)
