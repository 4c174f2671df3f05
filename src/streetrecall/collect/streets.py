"""`streetrecall streets`: the streets of the city, for ``grid.kind: streets``, written once to be kept in git.

They come from an extract of OpenStreetMap (``--osm FILE.osm``), from the network (Overpass, through osmnx), or with the
provider `simulated` from the simulated city. No stage asks the network for them.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import MultiPolygon

from streetrecall.collect.polygon import ATTRIBUTION, CITIES, LICENCE, quiet
from streetrecall.errors import UserError
from streetrecall.files import write_text
from streetrecall.geo import unproject
from streetrecall.params.schema import Params, load
from streetrecall.polygons import read_polygon
from streetrecall.providers import polygon_path
from streetrecall.stages.grid import streets_path

DECIMALS = 7


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--osm", type=Path, help="extract of OpenStreetMap (.osm, XML) to read instead of the network")
    parser.add_argument(
        "--kind", default="drive", choices=("drive", "walk", "all"), help="streets to take (%(default)s)"
    )
    parser.add_argument("--cities", type=Path, default=CITIES, help="folder of polygons (%(default)s)")


def main(args: argparse.Namespace) -> None:
    params = load(args.params)
    path = polygon_path(params, args.cities)
    polygon = read_polygon(path, params.city.crs, params.grid.features)
    if params.provider == "simulated" and args.osm is None:
        lines, attribution, licence = list(of_simulated_city(params, polygon)), "streetrecall simulated city", "CC0-1.0"
    else:
        lines, attribution, licence = list(of_openstreetmap(polygon, args.osm, args.kind)), ATTRIBUTION, LICENCE
    if not lines:
        raise UserError(f"{path}: there are no streets inside this polygon")
    target = streets_path(params, path)
    write_text(target, collection(lines, attribution, licence))
    print(f"{target}: {len(lines)} streets ({attribution}, {licence})")
    print(f"Next: git add {target}")
    print("      streetrecall set grid.kind=streets")


def of_simulated_city(params: Params, polygon: MultiPolygon) -> Iterator[Any]:
    """The streets of the simulated city inside ``polygon``, driven or not."""
    from streetrecall.simulator.city.plan import open_city

    city = open_city(params)
    for street in city.streets:
        if street.index in city.street_grid.swallowed:
            continue
        x = [street.x0 + city.origin[0], street.x1 + city.origin[0]]
        y = [street.y0 + city.origin[1], street.y1 + city.origin[1]]
        lat, lon = unproject(x, y, params.city.crs)
        line = shapely.LineString(list(zip(lon, lat, strict=True)))
        if line.intersects(polygon):
            yield line


def of_openstreetmap(polygon: MultiPolygon, extract: Path | None, kind: str) -> Iterator[Any]:
    """The streets of OpenStreetMap inside ``polygon``, from a file or from the network.

    Raises:
        UserError: the file cannot be read, or the service cannot be asked.
    """
    import osmnx

    quiet(osmnx)
    where = str(extract) if extract else "Overpass"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if extract is not None:
                if not extract.is_file():
                    raise UserError(f"--osm: {extract}: there is no such file")
                graph = osmnx.graph_from_xml(extract, retain_all=True)
            else:
                graph = osmnx.graph_from_polygon(polygon, network_type=kind, retain_all=True, truncate_by_edge=True)
            edges = osmnx.graph_to_gdfs(osmnx.convert.to_undirected(graph), nodes=False)
    except UserError:
        raise
    except Exception as error:  # expat, networkx and osmnx each raise errors of their own on damaged input
        raise UserError(f"{where}: no streets could be read ({type(error).__name__}: {str(error)[:150]})") from error
    yield from (line for line in edges.geometry if line.intersects(polygon))


def collection(lines: Iterable[Any], attribution: str, licence: str) -> str:
    """The GeoJSON file of the streets, sorted, so that the same streets give the same bytes."""
    rounded = [shapely.set_precision(line, 10**-DECIMALS).normalize() for line in lines]
    texts = sorted({shapely.to_geojson(line) for line in rounded if not line.is_empty})
    features = ",\n".join(f'{{"type":"Feature","properties":{{}},"geometry":{text}}}' for text in texts)
    about = json.dumps({"attribution": attribution, "licence": licence}, ensure_ascii=False)[1:-1]
    return f'{{"type":"FeatureCollection",{about},"features":[\n{features}\n]}}\n'
