"use strict";
// A street-view viewer. The service renders each view; the page requests one picture per view and shows the latest.
// For automation: viewer.show({pano, heading}), viewer.dates(pano) and viewer.state; see docs/simulated-city.md.
(() => {
  const query = new URLSearchParams(location.search);
  const fault = query.get("fault");
  const withUi = query.get("ui") !== "0";
  const withLabels = query.get("labels") !== "0";
  const $ = (id) => document.getElementById(id);
  const view = $("view");
  const context = view.getContext("2d", { alpha: false, desynchronized: false });
  const FOCAL = 756 / Math.tan(Math.PI / 3) / 810; // of the view's height, at zoom 1
  const HORIZON = 0.448;
  const state = { pano: null, heading: 0, ready: false, frame: 0, error: null, status: 0, retryAfter: null };
  let pitch = 0;
  let zoom = Math.min(5, Math.max(0.6, parseFloat(query.get("zoom") || "1") || 1));
  let newest = 0; // number of the newest request
  let abort = null;
  let place = null; // what the service says of the panorama's place
  let pending = null;
  let busy = false;

  const wrap = (degrees) => ((degrees % 360) + 360) % 360;
  const focal = () => FOCAL * view.height * zoom;
  const fov = () => Math.min(150, (2 * Math.atan(view.width / 2 / focal()) * 180) / Math.PI);
  const written = (text) => new Date(text + "-15").toLocaleDateString("en-GB", { month: "short", year: "numeric" });

  function resize() {
    for (const canvas of [view, $("labels")]) {
      canvas.width = innerWidth;
      canvas.height = innerHeight;
    }
  }

  function address(pano, heading, width, height) {
    const parts = new URLSearchParams({ pano, heading: String(+heading.toFixed(3)) });
    const standard = view.width === 1512 && view.height === 810 && zoom === 1 && pitch === 0 && width === 1512;
    if (!standard) {
      parts.set("w", width);
      parts.set("h", height);
      parts.set("fov", fov().toFixed(3));
      parts.set("pitch", pitch.toFixed(2));
    }
    if (fault) parts.set("fault", fault);
    return "/tiles/view?" + parts;
  }

  async function picture(url, signal) {
    let answer;
    try {
      answer = await fetch(url, { signal, cache: "no-store" });
    } catch (error) {
      if (signal.aborted) throw error;
      throw Object.assign(new Error("connection failed"), { status: 0 });
    }
    const kind = answer.headers.get("content-type") || "";
    const extra = { status: answer.status, retryAfter: answer.headers.get("retry-after") };
    if (!answer.ok) throw Object.assign(new Error("http " + answer.status), extra);
    if (!kind.startsWith("image/")) throw Object.assign(new Error("not a picture: " + kind), extra);
    let blob;
    try {
      blob = await answer.blob();
    } catch (error) {
      if (signal.aborted) throw error;
      throw Object.assign(new Error("picture cut short"), extra);
    }
    try {
      return await createImageBitmap(blob);
    } catch {
      throw Object.assign(new Error("broken picture"), extra);
    }
  }

  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

  // Fetch and paint one view. state.ready becomes true two animation frames after exactly this view has been decoded and
  // painted. It never becomes true for a request that a newer one has replaced.
  async function paint(scale) {
    const number = ++newest;
    if (abort) abort.abort();
    abort = new AbortController();
    Object.assign(state, { ready: false, error: null, status: 0, retryAfter: null });
    const { pano, heading } = state;
    try {
      const w = Math.round(view.width * scale);
      const h = Math.round(view.height * scale);
      const bitmap = await picture(address(pano, heading, w, h), abort.signal);
      if (number !== newest) return bitmap.close();
      context.imageSmoothingQuality = "medium";
      context.drawImage(bitmap, 0, 0, view.width, view.height);
      bitmap.close();
      state.frame += 1;
      overlay();
      $("message").hidden = true;
      await frame();
      await frame();
      if (number === newest) state.ready = true;
    } catch (error) {
      if (number !== newest) return;
      state.error = String(error.message || error);
      state.status = error.status || 0;
      state.retryAfter = error.retryAfter || null;
      if (withUi) {
        $("message").textContent = "This view could not be loaded (" + state.error + "). Turn or press R to try again.";
        $("message").hidden = false;
      }
    }
  }

  // For a person: one request at a time, for small pictures while the view moves and for a sharp one at the end.
  async function look(moving) {
    pending = moving ? "moving" : "still";
    if (busy) return;
    busy = true;
    while (pending) {
      const now = pending;
      pending = null;
      await paint(now === "moving" ? 0.5 : 1);
    }
    busy = false;
  }

  // The place of a panorama: position, dates and neighbours. Without a panorama, the place where a visit begins.
  async function dates(pano) {
    let answer;
    try {
      answer = await fetch("/viewer/panos" + (pano ? "?pano=" + encodeURIComponent(pano) : ""), { cache: "no-store" });
    } catch {
      throw new Error("connection failed");
    }
    const extra = { status: answer.status, retryAfter: answer.headers.get("retry-after") };
    if (answer.status === 404) throw Object.assign(new Error("there is no panorama " + pano), extra);
    if (!answer.ok) throw Object.assign(new Error("http " + answer.status), extra);
    try {
      return await answer.json();
    } catch {
      throw new Error("the list of dates cannot be read");
    }
  }

  async function load(pano) {
    return (place = await dates(pano));
  }

  function show(next) {
    const moved = next.pano !== undefined && next.pano !== state.pano;
    if (next.pano !== undefined) state.pano = next.pano;
    if (next.heading !== undefined) state.heading = wrap(+next.heading);
    if (next.pitch !== undefined) pitch = +next.pitch;
    if (next.zoom !== undefined) zoom = +next.zoom;
    if (moved && (withUi || withLabels)) {
      place = null;
      load(state.pano).then(furnish, () => {});
    }
    return paint(1);
  }

  // -- labels and controls over the picture ----------------------------------------------------------------------

  function overlay() {
    drawLabels();
    if (!withUi) return;
    $("needle").setAttribute("transform", "rotate(" + -state.heading + ")");
    if (place) placeWalk();
  }

  // The street's name, drawn along the road as if it were painted on the ground.
  function drawLabels() {
    const canvas = $("labels");
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!withLabels || !place) return;
    for (const turn of [0, 180]) {
      const off = ((wrap(place.bearing + turn - state.heading + 180) - 180) * Math.PI) / 180;
      if (Math.abs(off) > 1) continue;
      const f = focal();
      const distance = 11;
      const x = canvas.width / 2 + f * Math.tan(off);
      const y = canvas.height * HORIZON + f * Math.tan((pitch * Math.PI) / 180) + (f * 2.5) / distance / Math.cos(off);
      pen.setTransform(1, 0, -0.25 * Math.sin(off), 0.42, x, y);
      pen.font = "600 " + Math.round((f * 1.5) / distance) + "px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.fillStyle = "rgb(255 255 255 / 0.72)";
      pen.fillText(place.street, 0, 0);
    }
  }

  function furnish() {
    if (!place || place.pano !== state.pano) return;
    drawLabels();
    if (!withUi) return;
    $("street").textContent = place.street;
    $("where").textContent = place.lat.toFixed(5) + ", " + place.lng.toFixed(5);
    $("when").textContent = written(place.date);
    $("captured").textContent = "Image capture: " + written(place.date);
    $("copyright").textContent = place.copyright;
    const strip = $("dates");
    const held = strip.contains(document.activeElement);
    strip.replaceChildren();
    for (const entry of place.dates) {
      const button = document.createElement("button");
      const image = document.createElement("img");
      const label = document.createElement("span");
      image.loading = "lazy";
      image.alt = "";
      image.src = "/tiles/view?" + new URLSearchParams({ pano: entry.pano, heading: state.heading.toFixed(1), w: 148, h: 96, fov: 90 });
      label.textContent = written(entry.date);
      button.append(image, label);
      button.setAttribute("aria-current", String(entry.pano === state.pano));
      button.addEventListener("click", () => show({ pano: entry.pano }).then(remember));
      strip.append(button);
      if (entry.pano !== state.pano) continue;
      button.scrollIntoView({ block: "nearest", inline: "nearest" });
      if (held) button.focus();
    }
    placeWalk();
  }

  function placeWalk() {
    const box = $("walk");
    const held = box.contains(document.activeElement);
    box.replaceChildren();
    for (const link of place.links) {
      const off = ((wrap(link.heading - state.heading + 180) - 180) * Math.PI) / 180;
      if (Math.abs(off) > 0.9) continue;
      const f = focal();
      const button = document.createElement("button");
      button.textContent = "⌃";
      button.title = "Walk on";
      button.setAttribute("aria-label", "Walk on");
      button.style.left = view.width / 2 + f * Math.tan(off) - 22 + "px";
      button.style.top = view.height * HORIZON + f * Math.tan((pitch * Math.PI) / 180) + (f * 2.5) / 9 - 22 + "px";
      button.addEventListener("click", () => show({ pano: link.pano }).then(remember));
      box.append(button);
    }
    if (held) (box.firstChild || view).focus();
  }

  function remember() {
    query.set("pano", state.pano);
    query.set("heading", state.heading.toFixed(1));
    history.replaceState(null, "", "?" + query);
  }

  // -- mouse, touch and keyboard ---------------------------------------------------------------------------------

  let drag = null;
  view.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, heading: state.heading, pitch };
    view.setPointerCapture(event.pointerId);
    view.classList.add("dragging");
    view.focus();
  });
  view.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const degrees = 180 / Math.PI / focal();
    state.heading = wrap(drag.heading - (event.clientX - drag.x) * degrees);
    pitch = Math.max(-45, Math.min(60, drag.pitch + (event.clientY - drag.y) * degrees));
    look(true);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    view.addEventListener(kind, () => {
      if (!drag) return;
      drag = null;
      view.classList.remove("dragging");
      look(false).then(remember);
    });
  }
  let rest = 0;
  function zoomBy(factor) {
    zoom = Math.min(5, Math.max(0.6, zoom * factor));
    look(true);
    clearTimeout(rest);
    rest = setTimeout(() => look(false), 200);
  }
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 500));
  }, { passive: false });
  function turn(degrees) {
    state.heading = wrap(state.heading + degrees);
    look(false).then(remember);
  }
  function walk(turned) {
    if (!place) return;
    const off = (link) => Math.abs(wrap(link.heading - state.heading - turned + 180) - 180);
    const best = place.links.slice().sort((a, b) => off(a) - off(b))[0];
    if (best && off(best) < 60) show({ pano: best.pano }).then(remember);
  }
  function date(step) {
    if (!place) return;
    const i = place.dates.findIndex((entry) => entry.pano === state.pano) + step;
    if (place.dates[i]) show({ pano: place.dates[i].pano }).then(remember);
  }
  const keys = {
    ArrowLeft: () => turn(-15), ArrowRight: () => turn(15), ArrowUp: () => walk(0), ArrowDown: () => walk(180),
    "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8),
    n: () => turn(-state.heading), r: () => look(false), "[": () => date(1), "]": () => date(-1),
  };
  addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  $("closer").addEventListener("click", () => zoomBy(1.25));
  $("wider").addEventListener("click", () => zoomBy(0.8));
  $("compass").addEventListener("click", () => turn(-state.heading));
  addEventListener("resize", () => {
    resize();
    if (state.pano) look(false);
  });

  window.viewer = { state, show, dates };
  resize();
  $("ui").hidden = !withUi;
  (async () => {
    const pano = query.get("pano");
    try {
      if (!withUi && !withLabels && (!pano || query.has("heading"))) {
        return pano && show({ pano, heading: query.get("heading") }); // request nothing but the view
      }
      await load(pano);
      state.pano = place.pano;
      await show({ heading: query.has("heading") ? query.get("heading") : place.heading });
      furnish();
    } catch (error) {
      state.error = String(error.message || error);
      $("message").textContent = state.error;
      $("message").hidden = !withUi;
    }
  })();
})();
