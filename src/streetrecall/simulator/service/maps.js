// The part of Google's Maps JavaScript API that shows panoramas, over the simulated city. As the real one it first loads
// coarse tiles and fades them into fine ones, has no event for the end of it, draws controls and street names over the
// picture unless an option switches them off, and always draws a copyright line. The service calls this function with
// the name of the error of a refused key, or with null.
(function (denial) {
  "use strict";
  const script = new URL(document.currentScript.src);
  const { origin } = script;
  const FADE_MS = 350;
  const FOCAL = 756 / Math.tan(Math.PI / 3) / 810; // of the view's height, at zoom 1; as in viewer.js
  const DATE_KEY = "xE"; // a minified name, which changes with every version of the real API
  const frame = () => new Promise(requestAnimationFrame);

  class LatLng {
    constructor(lat, lng) {
      this.lat = () => lat;
      this.lng = () => lng;
    }
  }

  function metadata(request) {
    return new Promise((resolve) => {
      const query = new URLSearchParams({ key: script.searchParams.get("key") });
      if (request.pano) query.set("pano", request.pano);
      else query.set("location", request.location.lat + "," + request.location.lng);
      if (request.radius) query.set("radius", request.radius);
      const ask = new XMLHttpRequest();
      ask.open("GET", origin + "/maps/api/js/GeoPhotoService.GetMetadata?" + query);
      ask.onloadend = () => {
        let body;
        try {
          body = JSON.parse(ask.responseText);
        } catch {
          body = {};
        }
        if (ask.status !== 200 || body.status !== "OK") {
          resolve({ data: null, status: body.status === "ZERO_RESULTS" ? "ZERO_RESULTS" : "UNKNOWN_ERROR" });
          return;
        }
        const { pano, lat, lng } = body.location;
        const time = body.time.map(({ pano, date }) => {
          const [year, month] = date.split("-").map(Number);
          return { pano, [DATE_KEY]: new Date(year, month - 1) };
        });
        const location = { pano, latLng: new LatLng(lat, lng), description: "" };
        const tiles = { centerHeading: 0, tileSize: { width: 512, height: 512 }, worldSize: { width: 1512, height: 810 } };
        resolve({ data: { ...body, location, time, tiles }, status: "OK" });
      };
      ask.send();
    });
  }

  class StreetViewService {
    async getPanorama(request, callback) {
      const { data, status } = await metadata(request);
      if (callback) callback(data, status);
      if (status !== "OK") throw Object.assign(new Error("STREET_VIEW_GET_PANORAMA: " + status), { code: status });
      return { data };
    }
  }

  class StreetViewPanorama {
    #box; #pen; #over; #options; #pano = ""; #pov = { heading: 0, pitch: 0 }; #zoom = 1;
    #status; #place; #turn = 0; #drawn = 0;

    constructor(box, options = {}) {
      this.#box = box;
      box.style.position = "relative";
      const canvas = box.appendChild(document.createElement("canvas"));
      canvas.width = box.clientWidth;
      canvas.height = box.clientHeight;
      canvas.style.cssText = "position: absolute; left: 0; top: 0";
      this.#pen = canvas.getContext("2d", { alpha: false });
      this.#over = box.appendChild(document.createElement("div"));
      this.#options = options;
      if (options.pov) this.#pov = { ...options.pov };
      if (options.zoom !== undefined) this.#zoom = options.zoom;
      this.#furnish();
      if (options.pano) this.setPano(options.pano);
    }

    getPano() { return this.#pano; }
    getPov() { return { ...this.#pov }; }
    getZoom() { return this.#zoom; }
    getStatus() { return this.#status; }
    getLocation() { return this.#place; }

    setPov(pov) {
      this.#pov = { ...pov };
      this.#draw();
    }

    async setPano(pano) {
      if (pano === this.#pano) return;
      this.#pano = pano;
      const number = ++this.#turn;
      const { data, status } = await metadata({ pano });
      if (number !== this.#turn) return;
      this.#status = status;
      if (data) this.#place = data.location;
      this.#draw();
    }

    async #draw() {
      if (denial || !this.#place || this.#place.pano !== this.#pano) return;
      const number = ++this.#drawn;
      const { width, height } = this.#pen.canvas;
      const wide = (2 * Math.atan(width / 2 / (FOCAL * height * 2 ** (this.#zoom - 1))) * 180) / Math.PI;
      const tile = (share) => origin + "/tiles/view?" + new URLSearchParams({
        cb_client: "apiv3", pano: this.#pano, heading: this.#pov.heading, pitch: this.#pov.pitch, fov: Math.min(150, wide),
        w: Math.round(width * share), h: Math.round(height * share),
      });
      await frame();
      if (number !== this.#drawn) return;
      const tiles = [tileByElement(tile(0.25)), tileByFetch(tile(1))];
      tiles[1].catch(() => {});
      try {
        for (const picture of tiles) await this.#fade(await picture, number);
      } catch {
        // as in the real API: the picture stays as it is, and no error is raised
      }
    }

    async #fade(picture, number) {
      const { width, height } = this.#pen.canvas;
      if (number !== this.#drawn) return;
      const before = await createImageBitmap(this.#pen.canvas);
      const start = performance.now();
      for (let share = 0; share < 1; ) {
        await frame();
        if (number !== this.#drawn) return;
        share = Math.min(1, (performance.now() - start) / FADE_MS);
        this.#pen.globalAlpha = 1;
        this.#pen.drawImage(before, 0, 0);
        this.#pen.globalAlpha = share;
        this.#pen.drawImage(picture, 0, 0, width, height);
      }
    }

    // Plain boxes for what a page has to switch off, and the line that it cannot switch off.
    #furnish() {
      const { disableDefaultUI: bare, showRoadLabels = true } = this.#options;
      const box = (text, where) => {
        const part = this.#over.appendChild(document.createElement("div"));
        part.textContent = text;
        part.style.cssText = "position: absolute; padding: 8px; font: 13px sans-serif; color: #fff; background: #222c;" + where;
      };
      const corners = {
        addressControl: "left: 8px; top: 8px", fullscreenControl: "right: 8px; top: 8px", linksControl: "left: 50%; bottom: 30%",
        panControl: "right: 8px; bottom: 160px", zoomControl: "right: 8px; bottom: 60px", motionTrackingControl: "right: 60px; bottom: 60px",
      };
      for (const [name, where] of Object.entries(corners)) {
        if (this.#options[name] ?? !bare) box(name, where);
      }
      if (showRoadLabels) box("Road label", "left: 40%; top: 60%; background: none; font-size: 40px");
      box("© streetrecall simulated city", "right: 0; bottom: 0; padding: 1px 6px; font-size: 10px");
    }
  }

  const sound = (picture) => (picture.naturalWidth || picture.width ? picture : Promise.reject(new Error("no picture")));

  function tileByElement(url) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(sound(image));
      image.onerror = () => reject(new Error("no picture"));
      image.src = url;
    });
  }

  async function tileByFetch(url) {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error("no picture");
    return createImageBitmap(await answer.blob());
  }

  const streetView = { StreetViewPanorama, StreetViewService, StreetViewStatus: { OK: "OK", UNKNOWN_ERROR: "UNKNOWN_ERROR", ZERO_RESULTS: "ZERO_RESULTS" } };
  window.google = { maps: { ...streetView, LatLng, importLibrary: async () => streetView } };
  if (denial) {
    console.error("Google Maps JavaScript API error: " + denial);
    if (window.gm_authFailure) window.gm_authFailure();
  }
  const callback = script.searchParams.get("callback");
  if (callback) window[callback]();
})
