"""Reading the service's answers: metadata of a panorama, and the dates of a place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from streetrecall import months
from streetrecall.providers.base import Panorama
from streetrecall.providers.http import Answer, DeniedError, RefusedError, TemporaryError, read_json

NO_IMAGERY = {"ZERO_RESULTS", "NOT_FOUND"}
MONTH = re.compile(months.PATTERN)


def read_metadata(answer: Answer, licence: str, redact: Callable[[str], str]) -> tuple[str, Panorama | None]:
    """The status of a metadata answer and its panorama, None where there is no imagery.

    Args:
        licence: of the panorama.
        redact: removes the credentials from the service's own messages.

    Raises:
        RefusedError: the quota is used up.
        TemporaryError: the answer is faulty.
        DeniedError: the service rejects the key or the request.
    """
    body = read_json(answer)
    status = body.get("status")
    message = redact(str(body.get("error_message", "")))[:300]
    if status in NO_IMAGERY:
        return str(status), None
    if status == "OVER_QUERY_LIMIT":
        raise RefusedError(f"{status} {message}".strip())
    if status in ("REQUEST_DENIED", "INVALID_REQUEST"):
        raise DeniedError(
            f"{status}: {message or 'the service gives no reason'}; check the key, its restrictions and "
            "whether the Street View Static API is enabled for it"
        )
    if status != "OK":
        raise TemporaryError(f"status {str(status)[:40]}" if status != "UNKNOWN_ERROR" else "UNKNOWN_ERROR")
    try:
        pano = str(body["pano_id"])
        lat, lon = float(body["location"]["lat"]), float(body["location"]["lng"])
    except (KeyError, TypeError, ValueError):
        raise TemporaryError("status OK without a panorama and its position") from None
    if not pano or not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise TemporaryError("status OK with an impossible panorama or position")
    date = str(body.get("date", ""))
    month = date[:7] if MONTH.match(date) else ""
    return "OK", Panorama(pano, lat, lon, month, licence, str(body.get("copyright", "")))


def read_dates(body: Any) -> list[list[Any]]:
    """[panorama's id, month, latitude, longitude, copyright] of every date of a place, newest first.

    ``body`` is what the viewer page's ``dates(pano)`` returned.

    Raises:
        TemporaryError: the answer is faulty.
    """
    try:
        lat, lon, attribution = float(body["lat"]), float(body["lng"]), str(body["copyright"])
        dates = [(str(d["pano"]), str(d["date"])) for d in body["dates"]]
    except (KeyError, TypeError, ValueError):
        raise TemporaryError("the list of dates is incomplete or malformed") from None
    if not all(pano and (month == "" or MONTH.fullmatch(month)) for pano, month in dates) or not math.isfinite(lat):
        raise TemporaryError("the list of dates has a panorama without an id, or an impossible month")
    newest_first = sorted(dates, key=lambda d: (d[1], d[0]), reverse=True)
    return [[pano, month, lat, lon, attribution] for pano, month in newest_first]
