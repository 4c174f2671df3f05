"""Provider `google`: the documented Street View metadata API by requests, dates and pictures by a browser from a page
over the Maps JavaScript API (`streetrecall.providers.google.page`).

Off until ``google.accept_terms`` is true: Google's terms forbid collecting and storing pictures beyond what an
agreement allows. Asking for metadata is free of charge and offered without. The key (and the secret that signs
requests, where the account has one) comes from the environment alone: STREETRECALL_GOOGLE_KEY and
STREETRECALL_GOOGLE_SECRET.

The provider `simulated` is this same class, pointed at the simulator service and its viewer page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import pandas as pd

from streetrecall import months
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.base import FAILED, Capture, Coverage, Panorama, View
from streetrecall.providers.http import Answer, Client, DeniedError, Proxies, Refusal, Secret, Temporary, Trouble

if TYPE_CHECKING:
    from streetrecall.providers.browser.browsers import Browsers

log = logging.getLogger(__name__)

ENDPOINT = "https://maps.googleapis.com"
METADATA = "/maps/api/streetview/metadata"
SCRIPT = "/maps/api/js?v=quarterly&loading=async&callback=begin"
NO_IMAGERY = {"ZERO_RESULTS", "NOT_FOUND"}
MONTH = re.compile(months.PATTERN)

T = TypeVar("T")
R = TypeVar("R")


def sign(path_and_query: str, secret: str) -> str:
    """The URL signature of Google Maps Platform: base64url(HMAC-SHA1(base64url-decoded secret, path?query)).

    >>> sign("/maps/api/geocode/json?address=New+York&client=clientID", "vNIXE0xscrmjlyV-12Nj_BvUPaw=")
    'chaRF2hTJKOScPr-RQCEhZbSzIE='
    """
    digest = hmac.new(base64.urlsafe_b64decode(secret), path_and_query.encode(), hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


def key_from_environment() -> tuple[Secret, Secret | None]:
    """The key, and the signing secret if there is one.

    Raises:
        UserError: there is no key, or the secret is not base64 (the text holds neither).
    """
    key = os.environ.get("STREETRECALL_GOOGLE_KEY", "").strip()
    if not key:
        raise UserError(
            "provider 'google': set STREETRECALL_GOOGLE_KEY in the environment to your own Maps Platform key"
        )
    secret = os.environ.get("STREETRECALL_GOOGLE_SECRET", "").strip()
    try:
        base64.urlsafe_b64decode(secret)
    except (binascii.Error, ValueError):
        raise UserError("STREETRECALL_GOOGLE_SECRET: not a URL signing secret (base64url, ending in '=')") from None
    return Secret(key), Secret(secret) if secret else None


class GoogleProvider:
    """Street View as Google answers it, at ``endpoint``.

    Args:
        viewer: URL of a viewer page; empty starts the one over the endpoint's Maps JavaScript API when it is needed.
        name, namespace, shareable, licence: see `Provider`; the licence is told of every panorama.
        isolated: the viewer page needs no host but its own, which is on loopback.
        key, secret: credentials; they are in no text that this class hands out.
    """

    network = True

    def __init__(
        self,
        params: Params,
        *,
        endpoint: str,
        viewer: str = "",
        key: Secret,
        secret: Secret | None = None,
        name: str = "google",
        namespace: str = "google",
        shareable: bool = False,
        licence: str = "Google Maps Platform Terms of Service",
        terms_accepted: bool,
        client: Client,
        isolated: bool = False,
    ) -> None:
        self.name, self.namespace, self.shareable = name, namespace, shareable
        self.notes: MutableMapping[str, str] = {}
        self.unplanned: list[tuple[str, str]] = []
        self._params = params
        self._endpoint, self._viewer, self._licence = endpoint.rstrip("/"), viewer.rstrip("/"), licence
        self._key, self._secret = key, secret
        self._terms_accepted = terms_accepted
        self._client = client
        self._isolated = isolated
        self._browsers: Browsers | None = None
        self._page = ExitStack()

    @classmethod
    def real(cls, params: Params) -> GoogleProvider:
        """The real service, with the user's own key."""
        key, secret = key_from_environment()
        return cls(
            params,
            endpoint=ENDPOINT,
            key=key,
            secret=secret,
            terms_accepted=params.google.accept_terms,
            client=Client(params.network, Proxies.from_environment()),
        )

    def close(self) -> None:
        if self._browsers is not None:
            self._browsers.close()
            self._browsers = None
        self._page.close()
        self._client.close()

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """The panorama nearest to each point, as the metadata API tells it; many points are under way at a time.

        Raises:
            UserError: the key or the request is rejected, or the service kept refusing.
        """
        rows = list(zip(points["point_id"], points["lat"], points["lon"], strict=True))

        def ask(row: tuple[int, float, float]) -> Coverage:
            point_id, lat, lon = row
            query = {
                "location": f"{lat:.{self._params.metadata.decimals}f},{lon:.{self._params.metadata.decimals}f}",
                "radius": f"{radius_m:g}",
            }
            try:
                status, panorama = self._client.get(self._endpoint + METADATA, query, self._read_metadata, self._seal)
            except Trouble as trouble:
                return Coverage(int(point_id), FAILED, None, str(trouble))
            return Coverage(int(point_id), status, panorama)

        try:
            yield from concurrently(ask, rows, self._params.network.threads, self._client.stop)
        except DeniedError as denied:
            raise UserError(f"provider '{self.name}': {denied}") from None

    def views(self, locations: pd.DataFrame) -> Iterator[View]:
        """All dates of each place, newest first, in the directions of ``scrape.headings_deg``.

        A place whose dates cannot be had is left out and told; the next run asks for it again.
        """
        self._require_terms()
        known = dict(self.notes.items())
        self.unplanned = []
        ids = [str(pano) for pano in locations["pano_id"]]
        missing = [pano for pano in ids if f"dates {pano}" not in known]
        if missing:
            log.info("%s: asking for the dates of %d places", self.name, len(missing))
        for answer in self._told(self._opened().dates(missing)) if missing else ():
            try:
                if answer.status != "ok":
                    raise Temporary(answer.reason)
                dates = _read_dates(answer.body)
            except Temporary as trouble:
                self.unplanned.append((f"panorama {answer.pano}", f"its dates cannot be had: {trouble}"))
            else:
                known[f"dates {answer.pano}"] = self.notes[f"dates {answer.pano}"] = json.dumps(dates)
        subsets = subset_names(locations)
        columns = [locations[name] for name in ("place", "pano_id", "level", "split")]
        for place, place_pano, level, split in zip(*columns, strict=True):
            note = known.get(f"dates {place_pano}")
            if note is None:
                continue
            for index, (pano, month, lat, lon, attribution) in enumerate(json.loads(note)):
                panorama = Panorama(pano, lat, lon, month, self._licence, attribution)
                for direction, heading in enumerate(self._params.scrape.headings_deg):
                    yield View(int(place), direction, heading, index, panorama, str(split), subsets[int(level)])

    def capture(self, views: Iterable[View]) -> Iterator[Capture]:
        """Pictures by browsers, one panorama after the other."""
        self._require_terms()
        yield from self._told(self._opened().capture(views))

    def seconds(self) -> dict[str, float]:
        """Where the browsers' time went so far: seconds by step, summed over browsers."""
        return {} if self._browsers is None else self._browsers.seconds()

    def _require_terms(self) -> None:
        if not self._terms_accepted:
            raise UserError(
                f"provider '{self.name}': its terms forbid collecting and storing pictures beyond what an agreement "
                "allows. If yours covers this use, set google.accept_terms: true in params.yaml; without it only the "
                "stage 'metadata' can be run (streetrecall metadata, or dvc repro metadata)"
            )

    def _opened(self) -> Browsers:
        """The browsers, and the viewer page before them."""
        if self._browsers is None:
            from streetrecall.providers.browser.browsers import Browsers

            viewer = self._viewer
            if not viewer:
                from streetrecall.providers.google.page import serving

                viewer = self._page.enter_context(serving(Secret(self._endpoint + self._with_key(SCRIPT))))
            host = urlsplit(self._endpoint).netloc
            self._browsers = Browsers(self._params, viewer, host, self._client, self._isolated)
        return self._browsers

    def _told(self, answers: Iterable[T]) -> Iterator[T]:
        """The browsers' answers, with a plain word where the service denies the key."""
        try:
            yield from answers
        except DeniedError as denied:
            raise UserError(
                f"provider '{self.name}': the Maps JavaScript API denies the key ({self._without_key(str(denied))}); "
                "check that the API is enabled for it, with billing, and that its restrictions allow pages on 127.0.0.1"
            ) from None

    def _with_key(self, path_and_query: str) -> str:
        return f"{path_and_query}{'&' if '?' in path_and_query else '?'}key={quote(self._key.reveal(), safe='')}"

    def _seal(self, path_and_query: str) -> str:
        sealed = self._with_key(path_and_query)
        if self._secret is not None:
            sealed += f"&signature={sign(sealed, self._secret.reveal())}"
        return sealed

    def _without_key(self, text: str) -> str:
        for secret in (self._key, self._secret):
            if secret is not None:
                text = text.replace(secret.reveal(), "***").replace(quote(secret.reveal(), safe=""), "***")
        return text

    def _read_metadata(self, answer: Answer) -> tuple[str, Panorama | None]:
        body = read_json(answer)
        status = body.get("status")
        message = self._without_key(str(body.get("error_message", "")))[:300]
        if status in NO_IMAGERY:
            return str(status), None
        if status == "OVER_QUERY_LIMIT":
            raise Refusal(f"{status} {message}".strip())
        if status in ("REQUEST_DENIED", "INVALID_REQUEST"):
            raise DeniedError(
                f"{status}: {message or 'the service gives no reason'}; check the key, its restrictions and "
                "whether the Street View Static API is enabled for it"
            )
        if status != "OK":
            raise Temporary(f"status {str(status)[:40]}" if status != "UNKNOWN_ERROR" else "UNKNOWN_ERROR")
        try:
            pano = str(body["pano_id"])
            lat, lon = float(body["location"]["lat"]), float(body["location"]["lng"])
        except (KeyError, TypeError, ValueError):
            raise Temporary("status OK without a panorama and its position") from None
        if not pano or not (-90 <= lat <= 90 and -180 <= lon <= 180):
            raise Temporary("status OK with an impossible panorama or position")
        date = str(body.get("date", ""))
        month = date[:7] if MONTH.match(date) else ""
        return "OK", Panorama(pano, lat, lon, month, self._licence, str(body.get("copyright", "")))


def _read_dates(body: Any) -> list[list[Any]]:
    """[pano, month, latitude, longitude, copyright] of every date of a place, newest first."""
    try:
        lat, lon, attribution = float(body["lat"]), float(body["lng"]), str(body["copyright"])
        dates = [(str(d["pano"]), str(d["date"])) for d in body["dates"]]
    except (KeyError, TypeError, ValueError):
        raise Temporary("the list of dates is not as agreed") from None
    if not all(pano and (month == "" or MONTH.fullmatch(month)) for pano, month in dates) or not math.isfinite(lat):
        raise Temporary("the list of dates holds a nameless panorama or an impossible month")
    newest_first = sorted(dates, key=lambda d: (d[1], d[0]), reverse=True)
    return [[pano, month, lat, lon, attribution] for pano, month in newest_first]


def read_json(answer: Answer) -> dict[str, Any]:
    """The object in a JSON answer; anything else is a fault of the service that may pass."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Temporary(f"the answer is {kind or 'untyped'}, not JSON")
    try:
        body = json.loads(answer.body)
    except ValueError:
        raise Temporary("the answer is malformed JSON") from None
    if not isinstance(body, dict):
        raise Temporary("the answer is not a JSON object")
    return body


def subset_names(locations: pd.DataFrame) -> dict[int, str]:
    """A name for each level: its split, and which of the split's levels it is, from the widest.

    >>> subset_names(pd.DataFrame({"level": [0, 1, 2], "split": ["train", "test", "test"]}))
    {0: 'train_v1', 1: 'test_v1', 2: 'test_v2'}
    """
    names = {}
    seen: dict[str, int] = {}
    for level, split in sorted(set(zip(locations["level"].astype(int), locations["split"].astype(str), strict=True))):
        seen[split] = seen.get(split, 0) + 1
        names[level] = f"{split}_v{seen[split]}"
    return names


def concurrently(work: Callable[[T], R], items: Iterable[T], threads: int, abandon: Callable[[], None]) -> Iterator[R]:
    """``work`` on every item by so many threads; each result as soon as it is there, in any order.

    No more items are under way than there are threads, so that little is lost when the process is killed. The first
    exception ends it all; ``abandon`` then wakes those who wait.
    """
    todo = deque(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="asker") as pool:
        running: set[Future[R]] = set()
        try:
            while todo or running:
                while todo and len(running) < threads:
                    running.add(pool.submit(work, todo.popleft()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BaseException:
            abandon()
            raise
