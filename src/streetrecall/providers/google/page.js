"use strict";
// Street View by the documented Maps JavaScript API, with the interface that providers/browser/ uses: viewer.show,
// viewer.dates and viewer.state. The API has no event for "all tiles of the panorama are loaded". So this page observes
// all requests whose URL contains the panorama's id, and reports ready when none has begun or ended for RESTED_MS. The
// browser module then waits until two pictures are equal.
(() => {
  const RESTED_MS = 250; // time without such a request; the pause between coarse and finer tiles is shorter
  const ZOOM = 1;
  const BARE = {
    disableDefaultUI: true, addressControl: false, clickToGo: false, disableDoubleClickZoom: true,
    fullscreenControl: false, imageDateControl: false, linksControl: false, motionTracking: false,
    motionTrackingControl: false, panControl: false, scrollwheel: false, showRoadLabels: false, zoomControl: false,
  };
  // still: how long pictures must be equal, ms. lacks: what the picture waits for. denied: why the key is refused.
  const state = {
    pano: null, heading: 0, frame: 0, error: null, status: 0, retryAfter: null, still: 500, lacks: null, denied: null,
    get ready() {
      look();
      return !state.lacks && !state.error;
    },
  };
  let newest = 0; // number of the newest call of show
  let asked = null; // when the panorama was set to its view
  let panorama = null;
  let found = null; // the service's last answer

  const fail = (text, status = 0, retryAfter = null) => Object.assign(new Error(text), { status, retryAfter });
  const whole = (url) => {
    try {
      return new URL(String(url), document.baseURI).href;
    } catch {
      return String(url);
    }
  };
  const names = (url, pano) => url.includes(pano) || url.includes(encodeURIComponent(pano));

  // -- the API's requests ---------------------------------------------------------------------------------------

  const requests = new Map(); // by URL: how many are open, whether one brought a picture, the last problem
  let own = null; // those whose URL contains the panorama's id; null after a request began or ended

  function began(url) {
    const request = requests.get(url) || { open: 0, picture: false, problem: null, at: 0 };
    requests.set(url, request);
    const changed = () => {
      request.at = performance.now();
      own = null;
      if (state.pano !== null && names(url, state.pano)) state.frame += 1;
    };
    request.open += 1;
    changed();
    let over = false;
    return (problem, picture = false) => {
      if (over) return;
      over = true;
      request.open -= 1;
      request.problem = problem;
      request.picture ||= picture;
      changed();
    };
  }

  // A picture counts only if it can be decoded: the API may show the first part of a damaged one.
  const decoded = (picture, ended) => picture.then(() => ended(null, true), () => ended(fail("broken picture")));

  // Answers that are not pictures have various types; HTML is never one of them, but comes from proxies and portals.
  const strange = (kind) => (kind.startsWith("text/html") ? fail("not a picture: " + kind) : null);

  const source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
  const loading = new WeakMap();
  Object.defineProperty(HTMLImageElement.prototype, "src", {
    ...source,
    set(value) {
      if (loading.has(this)) loading.get(this)(null); // replaced by the next one
      const ended = began(whole(value));
      loading.set(this, ended);
      this.addEventListener("load", () => decoded(this.decode(), ended), { once: true });
      this.addEventListener("error", () => ended(fail("not loaded")), { once: true });
      source.set.call(this, value);
    },
  });

  const ask = window.fetch;
  window.fetch = async (input, init) => {
    const ended = began(whole(input instanceof Request ? input.url : input));
    const broken = (text) => (init && init.signal && init.signal.aborted ? null : fail(text));
    try {
      const answer = await ask(input, init);
      const kind = answer.headers.get("content-type") || "";
      const bad = fail("http " + answer.status, answer.status, answer.headers.get("retry-after"));
      answer.clone().blob().then((blob) => {
        if (answer.ok && kind.startsWith("image/")) decoded(createImageBitmap(blob), ended);
        else ended(answer.ok ? strange(kind) : bad);
      }, () => ended(broken("cut short")));
      return answer;
    } catch (error) {
      ended(broken("connection failed"));
      throw error;
    }
  };

  const { open, send } = XMLHttpRequest.prototype;
  const addresses = new WeakMap();
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    addresses.set(this, whole(url));
    return open.call(this, method, url, ...rest);
  };
  XMLHttpRequest.prototype.send = function (body) {
    const ended = began(addresses.get(this));
    this.addEventListener("abort", () => ended(null), { once: true });
    this.addEventListener("loadend", () => {
      const kind = this.getResponseHeader("content-type") || "";
      if (this.status < 200 || this.status > 299) ended(fail(this.status ? "http " + this.status : "connection failed", this.status));
      else if (!kind.startsWith("image/")) ended(strange(kind));
      else if (typeof this.response === "string") ended(null, true);
      else decoded(createImageBitmap(new Blob([this.response])), ended);
    }, { once: true });
    return send.call(this, body);
  };

  // -- the API -----------------------------------------------------------------------------------------------------

  let quota = null; // the refusal, once the key's quota is used up
  let refuse;
  const refused = new Promise((_, reject) => (refuse = reject));
  refused.catch(() => {});
  window.gm_authFailure = () => {
    state.denied ||= "gm_authFailure";
  };
  const complain = console.error;
  console.error = (...words) => {
    const [, code] = /Google Maps JavaScript API error: (\w+)/.exec(words.map(String).join(" ")) || [];
    if (code === "OverQuotaMapError") refuse((quota = fail(code, 429)));
    else if (code) state.denied = code;
    complain.apply(console, words);
  };

  const api = new Promise((resolve, reject) => {
    window.begin = () => google.maps.importLibrary("streetView").then(resolve, reject);
    const script = document.createElement("script");
    script.src = document.currentScript.dataset.api;
    script.onerror = () => reject(fail("the Maps JavaScript API could not be loaded"));
    document.head.append(script);
  });
  api.catch(() => {});

  async function find(pano) {
    const { StreetViewService } = await Promise.race([refused, api]);
    if (found && found.location.pano === pano) return found;
    const answer = new Promise((resolve) => {
      const promise = new StreetViewService().getPanorama({ pano }, (data, status) => resolve({ data, status }));
      if (promise) promise.catch(() => {}); // where it rejects, the callback has the status
    });
    const { data, status } = await Promise.race([refused, answer]);
    if (status !== "OK") throw fail(status, status === "ZERO_RESULTS" ? 404 : 0);
    if (data.location.pano !== pano) throw fail("another panorama was answered");
    return (found = data);
  }

  // What the view still lacks, or null. The direction is set again where the panorama came with its own.
  function lacks() {
    const { pano, heading } = state;
    if (asked === null) return "the service";
    if (panorama.getStatus() !== "OK" || panorama.getPano() !== pano) return "the panorama";
    const place = panorama.getLocation();
    if (!place || place.pano !== pano) return "the panorama";
    const pov = panorama.getPov();
    if (Math.abs(((pov.heading - heading) % 360 + 540) % 360 - 180) > 1e-6 || pov.pitch !== 0) {
      turn();
      return "its direction";
    }
    own ||= [...requests].filter(([url]) => names(url, pano)).map(([, request]) => request);
    if (own.some((request) => request.open)) return "tiles";
    if (performance.now() - Math.max(asked, ...own.map((request) => request.at)) < RESTED_MS) return "rest";
    const bad = own.find((request) => request.problem);
    if (bad) {
      const { message, status, retryAfter } = bad.problem;
      throw fail("a tile: " + message, status === 404 || status === 410 ? 0 : status, retryAfter); // a missing tile is no missing panorama
    }
    return own.some((request) => request.picture) ? null : "a first tile";
  }

  function look() {
    if (state.error) return;
    try {
      if (quota) throw quota;
      state.lacks = lacks();
    } catch (error) {
      failed(error);
    }
  }

  function failed(error) {
    state.error = String(error.message || error);
    state.status = error.status || 0;
    state.retryAfter = error.retryAfter || null;
  }

  function turn() {
    asked = performance.now();
    panorama.setPov({ heading: state.heading, pitch: 0 });
  }

  async function show({ pano, heading }) {
    const number = ++newest;
    asked = own = null;
    Object.assign(state, { pano, heading, error: null, status: 0, retryAfter: null });
    try {
      await find(pano);
      const { StreetViewPanorama } = await api;
      if (number !== newest) return;
      panorama ||= new StreetViewPanorama(document.getElementById("view"), { ...BARE, zoom: ZOOM });
      panorama.setPano(pano);
      turn();
    } catch (error) {
      if (number === newest) failed(error);
    }
  }

  // All dates of a place. The older ones are in a field that is not documented: a list of {pano, KEY: Date}, whose KEY
  // changes with each version. Each Date is the first of its month at midnight in some time zone; 14 hours later it is
  // within that month in every time zone.
  async function dates(pano) {
    const data = await find(pano);
    const months = new Map([[pano, ""]]);
    for (const entry of data.time || []) {
      const when = Object.values(entry).find((value) => value instanceof Date);
      if (entry.pano) months.set(entry.pano, when ? new Date(when.getTime() + 14 * 3600e3).toISOString().slice(0, 7) : "");
    }
    if (/^\d{4}-\d{2}/.test(data.imageDate)) months.set(pano, data.imageDate.slice(0, 7));
    const place = data.location.latLng;
    return {
      pano, lat: place.lat(), lng: place.lng(), copyright: data.copyright || "",
      dates: [...months].map(([id, date]) => ({ pano: id, date })),
    };
  }

  window.viewer = { state, show, dates };
})();
