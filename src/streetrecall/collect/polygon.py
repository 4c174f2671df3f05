"""`streetrecall polygon "Uppsala, Sweden"`: the outline of a city by its name, written once to be kept in git.

Nominatim, the search of OpenStreetMap, is asked through osmnx: once, and never by a stage.
``STREETRECALL_NOMINATIM`` is the address of another server.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import shapely

from streetrecall.crs import check_crs
from streetrecall.errors import UserError
from streetrecall.files import write_text
from streetrecall.params.schema import utm_crs
from streetrecall.polygons import read_polygon, sample

CITIES = Path("data/cities")
NOMINATIM = "STREETRECALL_NOMINATIM"
LICENCE, ATTRIBUTION = "ODbL-1.0", "© OpenStreetMap contributors"
DECIMALS = 7  # of a degree, about 1 cm


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", help='name of the city, such as "Uppsala, Sweden"')
    parser.add_argument("--name", default="", help="name of the file and of city.name (made from the place's name)")
    parser.add_argument("--cities", type=Path, default=CITIES, help="folder of polygons (%(default)s)")
    parser.add_argument("--replace", action="store_true", help="replace the file if it is there already")


def main(args: argparse.Namespace) -> None:
    name = args.name or slug(args.place)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"--name: '{name}' is no name of a city; use letters, digits, - and _")
    path = args.cities / f"{name}.geojson"
    if path.exists() and not args.replace:
        raise UserError(f"{path}: there is such a file already; --replace asks again, --name takes another name")
    geometry, display = ask(args.place)
    write_text(path, feature(geometry, display))
    point = shapely.point_on_surface(geometry)
    lat, lon = round(float(point.y), 5), round(float(point.x), 5)
    try:
        crs = utm_crs(lat, lon)
        polygon = read_polygon(path, crs)
        check_crs(crs, *sample(polygon))
    except UserError as error:
        print(f"{path}: written, but it cannot be used as it is: {error}")
        return
    print(f"{path}: {display} ({ATTRIBUTION}, {LICENCE})")
    print(f"Next: git add {path}")
    print(f"      streetrecall set city.name={name} city.crs=auto 'order.start=[{lat}, {lon}]'")


def ask(place: str) -> tuple[Any, str]:
    """The outline of a place and its full name.

    Raises:
        UserError: the service cannot be asked, or knows no area of this name.
    """
    import osmnx

    quiet(osmnx)
    try:
        found = osmnx.geocode_to_gdf(place)
    except (osmnx._errors.InsufficientResponseError, TypeError) as error:
        raise UserError(f"'{place}': OpenStreetMap knows no area of this name; add the country, or draw the outline "
                        "yourself (docs/cities.md)") from error  # fmt: skip
    except (osmnx._errors.ResponseStatusCodeError, OSError, ValueError) as error:
        raise UserError(f"'{place}': Nominatim cannot be asked ({type(error).__name__}); try again later, or name "
                        f"another server by {NOMINATIM}") from error  # fmt: skip
    geometry, display = found.geometry.iloc[0], str(found["display_name"].iloc[0])
    if geometry is None or geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        raise UserError(f"'{place}': OpenStreetMap has no area for {display}, only a point or a line")
    return shapely.set_precision(geometry, 10**-DECIMALS), "".join(c for c in display if c.isprintable())


def quiet(osmnx: Any) -> None:
    """Let osmnx keep no files, and ask the server of the environment."""
    osmnx.settings.use_cache = False
    osmnx.settings.log_console = False
    osmnx.settings.requests_timeout = 60
    server = os.environ.get(NOMINATIM, "").strip()
    if server:
        if urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
            raise UserError(f"{NOMINATIM}: not the address of a server, such as https://nominatim.openstreetmap.org/")
        osmnx.settings.nominatim_url = server if server.endswith("/") else f"{server}/"


def feature(geometry: Any, display: str) -> str:
    """The GeoJSON file of an outline, with its source."""
    content = {
        "type": "Feature",
        "properties": {"name": display, "attribution": ATTRIBUTION, "licence": LICENCE},
        "geometry": json.loads(shapely.to_geojson(geometry)),
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def slug(place: str) -> str:
    """A name for a file from a place's name.

    >>> slug("Malmö, Sweden"), slug("København")
    ('malmo', 'kobenhavn')
    """
    first = place.partition(",")[0].replace("ø", "o").replace("Ø", "O").replace("ß", "ss").replace("æ", "ae")
    plain = unicodedata.normalize("NFKD", first).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
