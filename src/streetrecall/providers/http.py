"""HTTP requests that respect the service: paced, repeated after temporary errors, and never repeated after a refusal
without the pause that the service asks for.

One `Client` serves all threads of a process. Every host has a token bucket, which all processes of a run share. After a
temporary error (time-out, reset, incomplete body, 5xx, 429) the request is repeated: the wait grows exponentially, with
jitter, and is at least the service's own Retry-After. Refusals in a row open a circuit breaker, which pauses the whole
run. A proxy is replaced by the next one only when it cannot be reached, never because the service refuses.

Nothing secret leaves this module: the secret part of a query is in no exception, log line or object that it returns.
"""

from __future__ import annotations

import email.utils
import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from streetrecall import __version__
from streetrecall.params.schema import Network
from streetrecall.providers.fields import joined
from streetrecall.providers.pacing import Turns, backoff
from streetrecall.providers.proxies import Proxies

T = TypeVar("T")
TEMPORARY = {408, 425, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529}
REFUSED = {401, 403, 429}
REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 3


class RequestError(Exception):
    """A request without a usable answer; the text is safe to show and to keep."""


class TemporaryError(RequestError):
    """Another try may succeed, ``retry_after_s`` seconds later or more."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class RefusedError(TemporaryError):
    """The service accepts no more requests now."""


class FinalError(RequestError):
    """No further try will succeed."""


class GoneError(FinalError):
    """The service does not have it, or no longer."""


class StoppedError(FinalError):
    """The run ended while the request was waiting."""


class DeniedError(Exception):
    """The service rejects the key or the request itself: no further request makes sense."""

    def __reduce__(self) -> tuple[type[Exception], tuple[Any, ...]]:
        return DeniedError, self.args  # another process needs the text alone, which subclasses have made


class Secret:
    """Text that no print, log or traceback shows.

    >>> Secret("AIza...")
    Secret(***)
    """

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not sent to other processes")


@dataclass(frozen=True)
class Secrets:
    """How the secret parts of a request are added: to its path and query, and to its headers."""

    seal: Callable[[str], str] | None = None
    authorise: Callable[[], Mapping[str, str]] | None = None


class _Redact(logging.Filter):
    """Removes keys and signatures from urllib3's log of request lines (level DEBUG)."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = re.sub(r"\b(key|signature|access_token)=[^&\s\"']+", r"\1=***", text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


_REDACT = _Redact()


@dataclass(frozen=True)
class Answer:
    """An answer with a complete body. It does not hold the request, whose URL may contain a key."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """GET requests of many threads to one service.

    Args:
        limits: section ``network`` of params.yaml.
        environment: use the environment's proxies (HTTPS_PROXY, ...) where ``proxies`` is empty.
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
        self.stopped = threading.Event()
        self._sleep, self._jitter = sleep or self._sleep_until_stopped, jitter
        self.turns = Turns(limits, clock)
        self._environment = environment
        self._lock = threading.Lock()
        self._own = threading.local()
        self._sessions: list[requests.Session] = []
        logger = logging.getLogger("urllib3.connectionpool")
        if _REDACT not in logger.filters:
            logger.addFilter(_REDACT)

    def stop(self) -> None:
        """End the run: each thread that waits gets `StoppedError` at once."""
        self.stopped.set()

    def _sleep_until_stopped(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise StoppedError("the run has ended")

    def close(self) -> None:
        self.stop()
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def pace(self, host: str) -> None:
        """Wait until a request to ``host`` may be sent: first for the breaker, then for the host's token bucket."""
        while True:
            reserved, wait = self.turns.turn(host)
            if reserved:
                self._wait_for_token(host, wait)
                return
            self._sleep(wait)

    def _wait_for_token(self, host: str, wait: float) -> None:
        while wait > 0:
            self._sleep(wait)
            wait = self.turns.held(host)

    def get(
        self,
        url: str,
        params: Mapping[str, str],
        read: Callable[[Answer], T],
        seal: Callable[[str], str] | None = None,
        *,
        authorise: Callable[[], Mapping[str, str]] | None = None,
        means: Mapping[int, type[Exception]] | None = None,
        follow: bool = False,
    ) -> T:
        """Request ``url`` until ``read`` accepts an answer, at most ``network.tries`` times.

        ``read`` gets answers of HTTP status 200 and raises `TemporaryError`, `RefusedError` or `FinalError`. ``seal``
        adds the secret parameters (key, signature) to the path and query, just before the request is sent, where no
        traceback can show them. ``authorise`` gives secret headers in the same way.

        Args:
            means: the exception for an HTTP status that means something else here than usual.
            follow: go where a redirect leads, without the secret parts of the request.

        Raises:
            FinalError: the service does not have it, or will never accept the request.
            TemporaryError: the last try failed too.
            UserError: the service refused after every pause.
        """
        host = urlsplit(url).netloc
        retrying = Retrying(
            stop=stop_after_attempt(self.limits.tries),
            retry=retry_if_exception_type(TemporaryError),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        secrets = Secrets(seal, authorise)
        result: T = retrying(
            self._try, host, lambda: read(self._request(url, params, secrets, means or {}, MAX_REDIRECTS * follow))
        )
        return result

    def _try(self, host: str, ask: Callable[[], T]) -> T:
        """One try of a request; the breaker and the host's bucket learn what came of it."""
        self.pace(host)
        try:
            result = ask()
        except RefusedError as error:
            self.turns.refused(host, str(error), error.retry_after_s)
            raise
        except BaseException as error:
            self.turns.undecided()
            if isinstance(error, TemporaryError) and error.retry_after_s > 0:
                self.turns.hold(host, error.retry_after_s)
            raise
        self.turns.accepted()
        return result

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return self.backoff(state.attempt_number, error.retry_after_s if isinstance(error, TemporaryError) else 0.0)

    def backoff(self, attempt: int, retry_after_s: float = 0.0) -> float:
        """Seconds to wait after try number ``attempt`` (from 1) failed; see `streetrecall.providers.pacing.backoff`."""
        return backoff(self.limits, attempt, retry_after_s, self._jitter())

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

    def _request(
        self,
        url: str,
        params: Mapping[str, str],
        secrets: Secrets,
        means: Mapping[int, type[Exception]],
        redirects: int,
    ) -> Answer:
        answer = self._send(url, params, secrets)
        if isinstance(answer, str):
            raise TemporaryError(answer)
        target = joined(url, answer.headers.get("Location", ""))
        if redirects and answer.status in REDIRECTS and target:
            elsewhere = urlsplit(target).netloc
            self._wait_for_token(elsewhere, self.turns.reserve(elsewhere))
            return self._request(target, {}, Secrets(), means, redirects - 1)
        if answer.status in means:
            raise means[answer.status](f"HTTP {answer.status}")
        wait = retry_after(answer.headers.get("Retry-After"), time.time())
        reason = f"HTTP {answer.status}"
        if answer.status in REFUSED:
            raise RefusedError(reason, wait)
        if answer.status in TEMPORARY:
            raise TemporaryError(reason, wait)
        if answer.status in (404, 410):
            raise GoneError(reason)
        if answer.status != 200:
            raise FinalError(reason)
        return answer

    def _send(self, url: str, params: Mapping[str, str], secrets: Secrets) -> Answer | str:
        """The answer, or the reason why there is none. Never raises: the texts of requests' errors contain the key."""
        proxy = self.proxies.current
        session = self._session(proxy)
        try:
            request = session.prepare_request(requests.Request("GET", url, params=dict(params)))
            if secrets.seal is not None:
                parts = urlsplit(url)
                request.url = f"{parts.scheme}://{parts.netloc}{secrets.seal(request.path_url)}"
            if secrets.authorise is not None:
                request.headers.update(secrets.authorise())
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
            # A body that stalls raises a plain ConnectionError around urllib3's own time-out.
            return "no answer in time" if "timed out" in str(error) else "the connection failed or was reset"
        except requests.exceptions.RequestException as error:
            return f"the request failed ({type(error).__name__})"


def read_picture(answer: Answer) -> bytes:
    """The picture in an answer.

    Raises:
        TemporaryError: the answer is anything else, or a damaged picture.
    """
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/"):
        raise TemporaryError(f"the answer is {kind or 'untyped'}, not a picture")
    return answer.body


def retry_after(value: str | None, now: float) -> float:
    """Seconds to wait by a Retry-After header: whole seconds or an HTTP date; 0 where the header makes no sense.

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


def read_json(answer: Answer) -> dict[str, Any]:
    """The object in a JSON answer.

    Raises:
        TemporaryError: the answer is anything else, which is a fault of the service that may pass.
    """
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise TemporaryError(f"the answer is {kind or 'untyped'}, not JSON")
    try:
        body = json.loads(answer.body)
    except ValueError:
        raise TemporaryError("the answer is malformed JSON") from None
    if not isinstance(body, dict):
        raise TemporaryError("the answer is not a JSON object")
    return body
