"""Provider `google`: coverage from the documented Street View metadata API, dates and pictures by a browser from a page
over the Maps JavaScript API (`streetrecall.providers.google.page`).

It takes no pictures until ``google.accept_terms`` is true: Google's terms forbid collecting and storing pictures beyond
what an agreement allows. Requests for metadata are free of charge and need no such agreement. The credentials come from
the environment alone (`streetrecall.providers.google.credentials`).

The provider `simulated` is this same class with the simulator's service and viewer page.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pandas as pd

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.base import (
    FAILED,
    Capture,
    CaptureRequest,
    Coverage,
    Panorama,
    dates_wanted,
    is_dense,
    subset_names,
)
from streetrecall.providers.google.answers import read_dates, read_metadata
from streetrecall.providers.google.credentials import Credentials
from streetrecall.providers.http import Answer, Client, DeniedError, RequestError, Secret, TemporaryError
from streetrecall.providers.network import NetworkProvider
from streetrecall.providers.proxies import Proxies
from streetrecall.tables import CaptureStatus, Projection

if TYPE_CHECKING:
    from streetrecall.providers.browser.browser import Dates
    from streetrecall.providers.browser.pool import BrowserPool

log = logging.getLogger(__name__)

ENDPOINT = "https://maps.googleapis.com"
METADATA = "/maps/api/streetview/metadata"
SCRIPT = "/maps/api/js?v=quarterly&loading=async&callback=begin"


class GoogleProvider(NetworkProvider):
    """Street View as Google answers it, at ``endpoint``.

    Args:
        viewer: URL of a viewer page; empty starts the one over the endpoint's Maps JavaScript API when it is needed.
        name, namespace, shareable: see `Provider`.
        licence: of every panorama.
        isolated: the viewer page is on loopback and needs no other host.
        credentials: they are in no text that this class returns.
    """

    # How a frame of the viewer page shows the world. Google does not document it.
    frame_fov_deg = math.nan
    frame_horizon = math.nan
    has_panoramas = False  # whether the whole sphere of a panorama can be had as one picture

    def __init__(
        self,
        params: Params,
        *,
        endpoint: str,
        viewer: str = "",
        credentials: Credentials,
        name: str = "google",
        namespace: str = "google",
        shareable: bool = False,
        licence: str = "Google Maps Platform Terms of Service",
        terms_accepted: bool,
        client: Client,
        isolated: bool = False,
    ) -> None:
        super().__init__(params, client)
        self.name, self.namespace, self.shareable = name, namespace, shareable
        self._endpoint, self._viewer, self._licence = endpoint.rstrip("/"), viewer.rstrip("/"), licence
        self._credentials = credentials
        self._terms_accepted = terms_accepted
        self._isolated = isolated
        self._browsers: BrowserPool | None = None
        self._opening = threading.Lock()
        self._page = ExitStack()

    @classmethod
    def open(cls, params: Params) -> GoogleProvider:
        """The real service, with the user's own credentials."""
        return GoogleProvider(
            params,
            endpoint=ENDPOINT,
            credentials=Credentials.from_environment(),
            terms_accepted=params.google.accept_terms,
            client=Client(params.network, Proxies.from_environment()),
        )

    def close(self) -> None:
        if self._browsers is not None:
            self._browsers.close()
            self._browsers = None
        self._page.close()
        super().close()

    def stop(self) -> None:
        super().stop()
        if self._browsers is not None:
            self._browsers.end()

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        """The panorama nearest to each point, by the metadata API; many requests are under way at a time.

        Raises:
            UserError: the key or the request is rejected, or the service kept refusing.
        """
        rows = list(zip(points["point_id"], points["lat"], points["lon"], strict=True))
        try:
            yield from self.each(partial(GoogleProvider._nearest, radius_m=radius_m), rows)
        except DeniedError as denied:
            raise UserError(f"provider '{self.name}': {denied}") from None

    def _nearest(self, point: tuple[int, float, float], radius_m: float) -> Iterator[Coverage]:
        """The panorama nearest to one point: its id, latitude and longitude."""
        point_id, lat, lon = point
        query = {
            "location": f"{lat:.{self._params.metadata.decimals}f},{lon:.{self._params.metadata.decimals}f}",
            "radius": f"{radius_m:g}",
        }

        def read(answer: Answer) -> tuple[str, Panorama | None]:
            return read_metadata(answer, self._licence, self._credentials.redact)

        try:
            status, panorama = self.client.get(self._endpoint + METADATA, query, read, self._credentials.seal)
        except RequestError as error:
            yield Coverage(int(point_id), FAILED, None, str(error))
        else:
            yield Coverage(int(point_id), status, panorama)

    def plan(self, locations: pd.DataFrame) -> Iterator[CaptureRequest]:
        """All dates of each place, newest first, in the directions of ``scrape.headings_deg``.

        A dense place has equirectangular pictures if ``has_panoramas``, and one of split gallery only some dates. A
        place without an answer about its dates is left out and listed in ``unplanned``; the next run asks again.
        """
        self._require_terms()
        columns = [locations[name].tolist() for name in ("place", "pano_id", "level", "split", "radius_m")]
        places = [(*row[:4], is_dense(*row[3:])) for row in zip(*columns, strict=True)]
        self.unplanned = []
        dates = {
            pano: known
            for dense in (False, True)
            for pano, known in self._dates([place[1] for place in places if place[4] == dense], dense).items()
        }
        subsets = subset_names(locations)
        for place, place_pano, level, split, dense in places:
            if place_pano not in dates:
                continue
            newest_first = list(enumerate(json.loads(dates[place_pano])))
            for index, known in newest_first[dates_wanted(split, self._params.scrape.gallery_dates)]:
                pano, month, lat, lon, attribution = known
                panorama = Panorama(pano, lat, lon, month, self._licence, attribution)
                yield from self._pictures(place, index, panorama, split, subsets[level], dense)

    def _pictures(
        self, place: int, date_index: int, panorama: Panorama, split: str, subset: str, dense: bool
    ) -> Iterator[CaptureRequest]:
        """The requests for one panorama: the whole sphere, or a frame of the viewer page for each direction."""
        if dense and self.has_panoramas:
            yield CaptureRequest(
                place, 0, 0.0, date_index, panorama, split, subset,
                projection=Projection.EQUIRECTANGULAR, fov_deg=360.0, horizon=0.5,
            )  # fmt: skip
            return
        for direction, heading in enumerate(self._params.scrape.headings_deg):
            yield CaptureRequest(
                place, direction, heading, date_index, panorama, split, subset,
                fov_deg=self.frame_fov_deg, horizon=self.frame_horizon,
            )  # fmt: skip

    def _dates(self, panos: Sequence[str], dense: bool) -> dict[str, str]:
        """The dates of the places of ``panos``, as JSON: from the notes, or else from the service and then noted."""
        known = {key.removeprefix("dates "): note for key, note in self.notes.items()}
        missing = [pano for pano in panos if pano not in known]
        if missing:
            log.info("%s: requests the dates of %d places", self.name, len(missing))
        for answer in self._ask_dates(missing, dense) if missing else ():
            try:
                if answer.status != CaptureStatus.OK:
                    raise TemporaryError(answer.reason)
                dates = json.dumps(read_dates(answer.body))
            except TemporaryError as error:
                self.unplanned.append((f"panorama {answer.pano}", f"its dates cannot be had: {error}"))
            else:
                known[answer.pano] = self.notes[f"dates {answer.pano}"] = dates
        return known

    def _ask_dates(self, panos: Sequence[str], dense: bool) -> Iterator[Dates]:
        """The last answer about the dates of each of ``panos``, in any order; ``dense``: they are of dense places.

        The browsers ask up to ``network.tries`` times.
        """
        due = panos
        for attempt in range(1, self._params.network.tries + 1):
            again = []
            for answer in self._browse([[pano] for pano in due]):
                if answer.temporary and attempt < self._params.network.tries:
                    again.append(answer)
                else:
                    yield answer
            if not again:
                return
            due = [answer.pano for answer in again]
            wait = self.client.backoff(attempt, max(answer.retry_after_s for answer in again))
            self.client.turns.hold(urlsplit(self._endpoint).netloc, wait)

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        """Take the pictures by browsers, one panorama after the other; its directions are taken together."""
        self._require_terms()
        ordered = sorted(requests, key=lambda r: (r.place, r.date_index, r.panorama.pano_id, r.direction))
        yield from self._browse([list(g) for _, g in groupby(ordered, key=lambda r: (r.place, r.panorama.pano_id))])

    def _browse(self, groups: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """One result for each request (a Capture for a CaptureRequest, a Dates for a panorama's id), in any order.

        The requests of a group go to one browser, in order.
        """
        try:
            yield from self.each(GoogleProvider._browse_group, groups, self._params.network.browsers)
        except DeniedError as denied:
            raise UserError(
                f"provider '{self.name}': the Maps JavaScript API denies the key "
                f"({self._credentials.redact(str(denied))}); check that the API is enabled for it, with billing, and "
                "that its restrictions allow pages on 127.0.0.1"
            ) from None

    def _browse_group(self, group: Sequence[Any]) -> Iterator[Any]:
        return self._opened().answers(group)

    def seconds(self) -> dict[str, float]:
        """How long the browsers took so far: seconds by step, summed over browsers."""
        return {} if self._browsers is None else self._browsers.seconds()

    def _require_terms(self) -> None:
        if not self._terms_accepted:
            raise UserError(
                f"provider '{self.name}': its terms forbid collecting and storing pictures beyond what an agreement "
                "allows. If yours covers this use, set google.accept_terms: true in params.yaml; without it only the "
                "stage 'metadata' can be run (streetrecall metadata, or dvc repro metadata)"
            )

    def _opened(self) -> BrowserPool:
        """The browsers of this process; the viewer page is started before them."""
        with self._opening:
            if self._browsers is None:
                from streetrecall.providers.browser.pool import BrowserPool

                viewer = self._viewer
                if not viewer:
                    from streetrecall.providers.google.page import serving

                    script = Secret(self._endpoint + self._credentials.with_key(SCRIPT))
                    viewer = self._page.enter_context(serving(script))
                host = urlsplit(self._endpoint).netloc
                self._browsers = BrowserPool(self._params, viewer, host, self.client, self._isolated)
            return self._browsers
