// The map: the city's outline, the places of the gallery, and what a view puts on it. Nothing comes from other hosts.

import { byId, h } from "./dom.js";

const EMPTY = { type: "FeatureCollection", features: [] };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export const collection = (features) => ({ type: "FeatureCollection", features });
export const point = (lon, lat, properties = {}, id) => ({ type: "Feature", id, properties, geometry: { type: "Point", coordinates: [lon, lat] } });
export const line = (from, to, properties = {}) => ({ type: "Feature", properties, geometry: { type: "LineString", coordinates: [from, to] } });

// A position some metres away in a direction.
export function moved(lon, lat, metres, heading) {
  const angle = (heading * Math.PI) / 180;
  const north = (metres * Math.cos(angle)) / 111320;
  return [lon + (metres * Math.sin(angle)) / (111320 * Math.cos((lat * Math.PI) / 180)), lat + north];
}

export function circle(lon, lat, radius) {
  const ring = [];
  for (let corner = 0; corner <= 72; corner++) ring.push(moved(lon, lat, radius, corner * 5));
  return { type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: [ring] } };
}

// Colours by the property `kind` of a point.
const KINDS = ["right", "wrong", "withheld", "unanswerable", "gained", "lost", "both-wrong", "both-right"];
const byKind = () => ["match", ["get", "kind"], ...KINDS.flatMap((kind) => [kind, colour(kind)]), colour("muted")];

function paint() {
  return {
    land: { "background-color": colour("land") },
    city: { "fill-color": colour("city") },
    outline: { "line-color": colour("city-edge"), "line-width": 1.5 },
    streets: { "line-color": colour("street"), "line-width": ["interpolate", ["exponential", 2], ["zoom"], 13, 1.5, 18, 22], "line-opacity": 0.9 },
    crowds: {
      "circle-color": colour("place"),
      "circle-opacity": 0.45,
      "circle-radius": ["interpolate", ["linear"], ["sqrt", ["get", "count"]], 1, 2.5, 12, 7, 60, 12],
    },
    places: { "circle-color": colour("place"), "circle-radius": ["interpolate", ["linear"], ["zoom"], 12, 1.6, 15, 3, 18, 6], "circle-stroke-color": colour("city"), "circle-stroke-width": 1 },
    picked: { "circle-color": "rgba(0,0,0,0)", "circle-radius": 12, "circle-stroke-color": colour("accent"), "circle-stroke-width": 3 },
    groups: {
      "circle-color": ["interpolate", ["linear"], ["/", ["get", "good"], ["get", "point_count"]], 0, colour("wrong"), 0.5, colour("middle"), 1, colour("right")],
      "circle-radius": ["interpolate", ["linear"], ["sqrt", ["get", "point_count"]], 1, 11, 10, 20, 40, 30],
      "circle-stroke-color": colour("surface"),
      "circle-stroke-width": 2,
    },
    counts: { "text-color": colour("on-tone") },
    items: { "circle-color": byKind(), "circle-radius": ["interpolate", ["linear"], ["zoom"], 13, 4.5, 18, 9], "circle-stroke-color": colour("surface"), "circle-stroke-width": 1.5 },
    area: { "fill-color": colour("answer"), "fill-opacity": 0.12 },
    rim: { "line-color": colour("answer"), "line-width": 2 },
    links: { "line-color": colour("text"), "line-width": 1.5, "line-dasharray": [2, 2], "line-opacity": 0.7 },
    marks: {
      "circle-color": ["match", ["get", "kind"], "truth", "rgba(0,0,0,0)", "answer", colour("answer"), ...KINDS.flatMap((kind) => [kind, colour(kind)]), colour("muted")],
      "circle-radius": ["match", ["get", "kind"], "truth", 14, "answer", 10, 9],
      "circle-stroke-color": ["match", ["get", "kind"], "truth", colour("text"), colour("surface")],
      "circle-stroke-width": ["match", ["get", "kind"], "truth", 4, 2],
    },
    names: { "text-color": ["match", ["get", "kind"], "truth", colour("text"), colour("on-tone")] },
  };
}

function style(version) {
  const p = paint();
  const layer = (id, type, source, more = {}) => ({ id, type, source, paint: p[id], ...more });
  const text = (value) => ({ "text-field": value, "text-font": ["sans-serif"], "text-size": 12, "text-allow-overlap": true });
  return {
    version: 8,
    sources: {
      city: { type: "geojson", data: EMPTY },
      places: { type: "vector", tiles: [`${location.origin}/api/tiles/{z}/{x}/{y}?v=${version}`], minzoom: 8, maxzoom: 17, promoteId: "place" },
      items: { type: "geojson", data: EMPTY, cluster: true, clusterRadius: 34, clusterMaxZoom: 15, clusterProperties: { good: ["+", ["get", "good"]] } },
      area: { type: "geojson", data: EMPTY },
      marks: { type: "geojson", data: EMPTY },
    },
    layers: [
      { id: "land", type: "background", paint: p.land },
      layer("city", "fill", "city"),
      layer("outline", "line", "city"),
      layer("streets", "line", "places", { "source-layer": "streets", layout: { "line-cap": "round", "line-join": "round" } }),
      layer("crowds", "circle", "places", { "source-layer": "places", filter: ["has", "count"] }),
      layer("places", "circle", "places", { "source-layer": "places", filter: ["has", "place"] }),
      layer("picked", "circle", "places", { "source-layer": "places", filter: ["==", ["get", "place"], -1] }),
      layer("area", "fill", "area"),
      layer("rim", "line", "area"),
      layer("groups", "circle", "items", { filter: ["has", "point_count"] }),
      layer("counts", "symbol", "items", { filter: ["has", "point_count"], layout: text(["get", "point_count_abbreviated"]) }),
      layer("items", "circle", "items", { filter: ["!", ["has", "point_count"]] }),
      layer("links", "line", "marks", { filter: ["==", ["geometry-type"], "LineString"] }),
      layer("marks", "circle", "marks", { filter: ["==", ["geometry-type"], "Point"] }),
      layer("names", "symbol", "marks", { filter: ["has", "name"], layout: text(["get", "name"]) }),
    ],
  };
}

// Calls made before the map is there wait for it; without WebGL they wait for ever and the rest of the page works.
export class CityMap {
  constructor() {
    this.ready = new Promise((resolve) => {
      this.resolve = resolve;
    });
    this.onPlace = null;
    this.onItem = null;
  }

  async open(about, city) {
    let maplibre;
    document.head.append(h("link", { rel: "stylesheet", href: "/static/vendor/maplibre-gl.css" }));
    try {
      maplibre = await import("/static/vendor/maplibre-gl.mjs");
      maplibre.setWorkerUrl(new URL("/static/vendor/maplibre-gl-worker.mjs", location.href).href);
      const bounds = about.bounds ?? [17.9, 59.25, 18.2, 59.4];
      this.home = [[bounds[0], bounds[1]], [bounds[2], bounds[3]]];
      this.map = new maplibre.Map({
        container: "map",
        style: style(about.data),
        bounds: this.home,
        fitBoundsOptions: { padding: 50, maxZoom: 16 },
        attributionControl: false,
        maxZoom: 20,
        minZoom: 3,
        dragRotate: false,
        pitchWithRotate: false,
        fadeDuration: 0,
        validateStyle: false,
      });
    } catch (error) {
      byId("map-note").hidden = false;
      byId("map-note").textContent = "This browser draws no map (it has no WebGL). Everything else works.";
      console.info(error);
      return;
    }
    const { map } = this;
    map.touchZoomRotate.disableRotation();
    map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
    map.addControl(new maplibre.ScaleControl({ maxWidth: 120 }), "bottom-right");
    await new Promise((resolve) => map.once("load", resolve));
    map.getCanvas().setAttribute("aria-label", "Map; arrow keys move it, plus and minus zoom");
    map.getSource("city").setData(city);
    for (const layer of ["places", "items", "groups", "crowds", "marks"]) {
      map.on("mouseenter", layer, () => map.getCanvas().classList.add("pointing"));
      map.on("mouseleave", layer, () => map.getCanvas().classList.remove("pointing"));
    }
    map.on("click", (event) => this.click(event));
    this.resolve(map);
    document.documentElement.dataset.map = "ready";
  }

  async click(event) {
    const { map } = this;
    const box = [[event.point.x - 6, event.point.y - 6], [event.point.x + 6, event.point.y + 6]];
    const found = map.queryRenderedFeatures(box, { layers: ["marks", "items", "groups", "places", "crowds"] });
    const first = (layer) => found.find((feature) => feature.layer.id === layer);
    if (first("items") && this.onItem) this.onItem(first("items").properties.index);
    else if (first("groups")) {
      const { geometry, properties } = first("groups");
      const zoom = await map.getSource("items").getClusterExpansionZoom(properties.cluster_id);
      map.easeTo({ center: geometry.coordinates, zoom: Math.min(zoom + 0.2, 19) });
    } else if (first("places") && this.onPlace) this.onPlace(first("places").properties.place);
    else if (first("crowds")) map.easeTo({ center: event.lngLat, zoom: map.getZoom() + 2 });
  }

  async repaint() {
    const map = await this.ready;
    for (const [layer, values] of Object.entries(paint())) {
      for (const [name, value] of Object.entries(values)) map.setPaintProperty(layer, name, value);
    }
  }

  async items(features) {
    (await this.ready).getSource("items").setData(collection(features));
  }

  async marks(features, area = null) {
    const map = await this.ready;
    map.getSource("marks").setData(collection(features));
    map.getSource("area").setData(collection(area ? [area] : []));
  }

  async pick(place) {
    (await this.ready).setFilter("picked", ["==", ["get", "place"], place ?? -1]);
  }

  async clear() {
    await Promise.all([this.items([]), this.marks([]), this.pick(null)]);
  }

  // Which of the backdrop is shown: places are in the way of a view's own points.
  async backdrop(shown) {
    const map = await this.ready;
    for (const layer of ["places", "crowds"]) map.setLayoutProperty(layer, "visibility", shown ? "visible" : "none");
  }

  async fit(coordinates, { maxZoom = 17, padding = 70 } = {}) {
    const map = await this.ready;
    const lons = coordinates.map((c) => c[0]);
    const lats = coordinates.map((c) => c[1]);
    if (!lons.length) return;
    const { width, height } = map.getCanvas().getBoundingClientRect();
    const room = Math.min(padding, width / 5, height / 5);
    const animate = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    map.fitBounds([[Math.min(...lons), Math.min(...lats)], [Math.max(...lons), Math.max(...lats)]], { maxZoom, padding: room, duration: animate ? 500 : 0 });
  }

  async whole() {
    const map = await this.ready;
    map.fitBounds(this.home, { padding: 50, maxZoom: 16, duration: 0 });
  }

  async resize() {
    (await this.ready).resize();
  }
}
