"""`streetrecall streets`: the streets of the city, for ``grid.kind: streets``, written once to be kept in git.

They come from an extract of OpenStreetMap (``--osm FILE.osm``), from the network (Overpass, through osmnx), or from the
provider, if its city has streets of its own, as the simulated city has. No stage asks the network for them.
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
from streetrecall.params.schema import load
from streetrecall.polygons import read_polygon
from streetrecall.providers import polygon_path, provider_class
from streetrecall.providers.base import Streets
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
    provider = provider_class(params.provider)
    if provider.own_streets and args.osm is None:
        found = provider.streets(params, polygon)
    else:
        found = Streets(list(of_openstreetmap(polygon, args.osm, args.kind)), ATTRIBUTION, LICENCE)
    if not found.lines:
        raise UserError(f"{path}: there are no streets inside this polygon")
    target = streets_path(params, path)
    write_text(target, collection(found.lines, found.attribution, found.licence))
    print(f"{target}: {len(found.lines)} streets ({found.attribution}, {found.licence})")
    print(f"Next: git add {target}")
    print("      streetrecall set grid.kind=streets")


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
