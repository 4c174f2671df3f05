"""Provider `simulated` (the default): provider `google`, with the simulator's service in place of the real one.

The service listens on a free loopback port. The default thus runs the same code that a user later runs with the real
service. Two things differ. The simulator's viewer page knows when its frame is complete, so one picture is enough. And
dense places are captured as whole spheres, which the service hands out as files: no browser is needed for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import cv2
import numpy as np
import pandas as pd
import PIL
from shapely.geometry import LineString, MultiPolygon

from streetrecall.geo import unproject
from streetrecall.imports import code_digest
from streetrecall.months import month_numbers
from streetrecall.params.schema import Params
from streetrecall.providers.base import Capture, CaptureRequest, Photo, Streets
from streetrecall.providers.google.credentials import Credentials
from streetrecall.providers.google.provider import GoogleProvider
from streetrecall.providers.http import (
    Client,
    GoneError,
    RefusedError,
    RequestError,
    Secret,
    read_json,
    read_picture,
)
from streetrecall.providers.proxies import LOOPBACK, Proxies
from streetrecall.store.results import kept
from streetrecall.tables import CaptureStatus, Projection

if TYPE_CHECKING:
    from streetrecall.providers.browser.browser import Dates

LICENCE = "CC0-1.0"
ATTRIBUTION = "streetrecall simulated city"
PANORAMA_WIDTH = 2048  # of a sphere, pixels; it is half as high
KEY = "AIzaSimulatedCityNeedsNoKey"  # the service accepts any key of this form


class SimulatedProvider(GoogleProvider):
    """The simulated city. Its service runs until the provider is closed.

    Args:
        service: base URL of a service that runs already; None starts one, and so does each worker of a cluster.
    """

    has_panoramas = True
    own_streets = True

    def __init__(self, params: Params, service: str | None = None) -> None:
        from streetrecall.simulator import fingerprint

        self._service = ExitStack()
        reopen = partial(type(self), params, service)
        if service is None:
            from streetrecall.simulator.service.server import running

            service = self._service.enter_context(running(params))
        self.base = service
        proxies = Proxies.from_environment()
        if any(urlsplit(url).hostname not in LOOPBACK for url in proxies.urls):
            proxies = Proxies([])  # a proxy elsewhere cannot reach a service on this machine's loopback
        super().__init__(
            params, endpoint=service, viewer=f"{service}/viewer", credentials=Credentials(Secret(KEY)),
            name="simulated", namespace=f"simulated {fingerprint(params)}", shareable=True, licence=LICENCE,
            terms_accepted=True,
            client=Client(params.network, proxies, environment=False), isolated=True,
        )  # fmt: skip
        self.reopen = reopen
        self.frame_fov_deg, self.frame_horizon = _frame(params.scrape.width, params.scrape.height)

    @classmethod
    def open(cls, params: Params) -> Self:
        return cls(params)

    @classmethod
    def streets(cls, params: Params, polygon: MultiPolygon) -> Streets:
        """The streets of the simulated city, driven or not."""
        from streetrecall.simulator.city.plan import open_city

        city = open_city(params)
        lines = []
        for street in city.streets:
            if street.index in city.street_grid.swallowed:
                continue
            x = [street.x0 + city.origin[0], street.x1 + city.origin[0]]
            y = [street.y0 + city.origin[1], street.y1 + city.origin[1]]
            lat, lon = unproject(x, y, params.city.crs)
            line = LineString(list(zip(lon, lat, strict=True)))
            if line.intersects(polygon):
                lines.append(line)
        return Streets(lines, ATTRIBUTION, LICENCE)

    @classmethod
    def photos(cls, params: Params, gallery: pd.DataFrame) -> Iterator[Photo]:
        """Photos rendered in this process: the service is not needed."""
        from streetrecall.simulator import fingerprint, photos
        from streetrecall.simulator.city.panoramas import month_text
        from streetrecall.simulator.city.plan import open_city

        if gallery.empty:
            return
        city = open_city(params)
        panoramas = gallery.drop_duplicates(["place", "pano_id"])
        answers = photos.Gallery(
            panoramas[["x", "y"]].to_numpy(float) - np.array(city.origin),
            month_numbers(panoramas["month"]),
            panoramas["split"].to_numpy(str),
        )
        versions = {"opencv": cv2.__version__, "pillow": PIL.__version__, "numpy": np.__version__}
        facts = {"city": fingerprint(params), "code": code_digest(photos.__name__), **versions}
        with kept("photos", long_side=params.photos.long_side, **facts) as known:
            for pose, data in photos.take_photos(city, answers, params.photos, known):
                lat, lon = unproject(pose.x + city.origin[0], pose.y + city.origin[1], params.city.crs)
                yield Photo(
                    pose.spot, pose.split, month_text(pose.month), round(float(lat), 7), round(float(lon), 7),
                    round(pose.heading_deg, 1), round(pose.fov_deg, 1), round(pose.pitch_deg, 1),
                    round(pose.roll_deg, 1), round(pose.height_m, 2), data, LICENCE, ATTRIBUTION, shareable=True,
                )  # fmt: skip

    def _ask_dates(self, panos: Sequence[str], dense: bool) -> Iterator[Dates]:
        if not dense:
            return super()._ask_dates(panos, dense)
        return self.each(SimulatedProvider._dates_over_http, panos)

    def _dates_over_http(self, pano: str) -> Iterator[Dates]:
        from streetrecall.providers.browser.browser import Dates

        try:
            body = self.client.get(f"{self.base}/viewer/panos", {"pano": pano}, read_json)
        except GoneError as error:
            yield Dates(pano, CaptureStatus.GONE, str(error))
        except RequestError as error:
            yield Dates(pano, CaptureStatus.FAILED, str(error))
        else:
            yield Dates(pano, CaptureStatus.OK, "", body)

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        """Download the spheres, many at a time, and then take the frames by browsers."""
        requests = list(requests)
        spheres = [request for request in requests if request.projection == Projection.EQUIRECTANGULAR]
        yield from self.each(SimulatedProvider._download, spheres)
        frames = [request for request in requests if request.projection != Projection.EQUIRECTANGULAR]
        if frames:
            yield from super().capture(frames)

    def _download(self, request: CaptureRequest) -> Iterator[Capture]:
        """The whole sphere as a file. The client repeats a request that fails for a while."""
        query = {"pano": request.panorama.pano_id, "w": str(PANORAMA_WIDTH)}
        try:
            data = self.client.get(f"{self.base}/tiles/panorama", query, read_picture)
        except GoneError as error:
            yield Capture(request, CaptureStatus.GONE, str(error), b"")
        except RequestError as error:
            yield Capture(request, CaptureStatus.FAILED, str(error), b"", refused=isinstance(error, RefusedError))
        else:
            yield Capture(request, CaptureStatus.OK, "", data)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._service.close()


def _frame(width: int, height: int) -> tuple[float, float]:
    """Field of view in degrees and horizon of the viewer page's frame of ``width`` x ``height`` pixels.

    The page keeps the focal length in proportion to the height.
    """
    from streetrecall.simulator.render.renderer import FOV, HEIGHT, HORIZON, WIDTH

    focal = WIDTH / 2 / math.tan(math.radians(FOV) / 2) * height / HEIGHT
    return round(math.degrees(2 * math.atan(width / 2 / focal)), 6), HORIZON
