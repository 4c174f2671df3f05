// Time machine: the dates of a place, all directions of a date side by side, and two dates one over the other.

import { ask, query } from "./api.js";
import { announce, byId, figure, fill, h, month, notice, pictureUrl, plural, shortMonth, side } from "./dom.js";

export class TimeMachine {
  constructor(root, { about, map, remember }) {
    Object.assign(this, { root, about, map, remember, found: null, date: 0, pinned: null });
    this.number = h("input", { type: "number", min: "0", step: "1", inputMode: "numeric", required: true });
    this.body = h("div");
    const form = h(
      "form",
      { class: "pick", onsubmit: (event) => {
        event.preventDefault();
        this.open(Number(this.number.value));
      } },
      h("label", { class: "field" }, h("span", {}, "Place"), this.number),
      h("button", { class: "plain" }, "Show"),
      h("button", { type: "button", class: "plain", onclick: () => this.another(-1) }, "Previous"),
      h("button", { type: "button", class: "plain", onclick: () => this.another(1) }, "Next"),
    );
    root.append(h("h1", {}, "Time machine"), h("p", { class: "quiet" }, "One place through the years. Choose a place on the map, or by its number."), form, this.body);
  }

  async show(values) {
    this.map.onPlace = (place) => this.open(place);
    if (!this.about.time) {
      fill(this.root, h("h1", {}, "Time machine"), h("p", { class: "note" }, "There are no pictures yet. `dvc repro` takes them, and `dvc pull` fetches them."));
      return;
    }
    const wanted = values.get("place");
    if (wanted !== null) await this.open(Number(wanted), values.get("date"), values.get("with"));
    else if (this.found) await this.open(this.found.place, this.found.dates[this.date]?.month);
    else await this.open((await this.places())[0]?.place ?? 0);
  }

  // Places with several dates first, in the order of their numbers.
  async places() {
    if (!this.known) {
      this.known = [];
      let answer;
      do {
        answer = await ask(query("/api/places", { limit: 1000, offset: this.known.length }));
        this.known.push(...answer.places);
      } while (answer.places.length && this.known.length < Math.min(answer.total, 5000));
      this.known.sort((a, b) => (b.dates > 2) - (a.dates > 2) || a.place - b.place);
    }
    return this.known;
  }

  async another(step) {
    const places = await this.places();
    const at = places.findIndex((p) => p.place === this.found?.place);
    const next = places[(at + step + places.length) % places.length];
    if (next) await this.open(next.place);
  }

  async open(place, date, other) {
    let found;
    try {
      found = await ask(`/api/places/${place}`);
    } catch (error) {
      fill(this.body, notice("error", "This place cannot be shown.", error.message));
      return;
    }
    this.found = found;
    this.number.value = String(found.place);
    const at = (text) => found.dates.findIndex((d) => d.month === text);
    this.date = at(date) >= 0 ? at(date) : found.dates.length - 1;
    this.pinned = at(other) >= 0 ? at(other) : null;
    this.draw();
    this.map.pick(found.place);
    this.map.fit([[found.lon, found.lat]], { maxZoom: 17 });
    byId("legend").hidden = false;
    fill(byId("legend"), h("span", { data: { kind: "picked" } }, h("i", { class: "dot" }), "this place"), h("span", { data: { kind: "place" } }, h("i", { class: "dot" }), "other places"));
    announce(`Place ${found.place}, ${plural(found.dates.length, "date")}`);
  }

  name(direction) {
    return direction.heading_deg === null ? `Direction ${direction.key}` : `${side(direction.heading_deg)} (${Math.round(direction.heading_deg)}°)`;
  }

  draw() {
    const { found } = this;
    const { dates, directions } = found;
    const years = dates.map((d) => d.month.slice(0, 4)).filter(Boolean);
    this.shown = h("output", { class: "when", id: "when" });
    this.slider = h("input", { type: "range", id: "date", min: "0", max: String(Math.max(dates.length - 1, 0)), step: "1", value: String(this.date), "aria-label": "Date", oninput: () => this.turn(Number(this.slider.value)) });
    const ticks = h("div", { class: "ticks", "aria-hidden": "true" }, dates.map((d, i) => h("span", { class: i && d.month.slice(0, 4) === dates[i - 1].month.slice(0, 4) ? "same" : "" }, d.month.slice(0, 4) || "?")));
    const options = [["", "nothing"], ...dates.map((d, i) => [String(i), month(d.month)])];
    this.with = h("select", { onchange: () => {
      this.pinned = this.with.value === "" ? null : Number(this.with.value);
      this.views();
    } }, options.map(([key, text]) => h("option", { value: key, selected: key === String(this.pinned ?? "") }, text)));
    this.grid = h("div", { class: "directions" });
    this.matrix = h("table", { class: "matrix" });
    fill(this.body,
      h("h2", {}, `Place ${found.place}`),
      h("p", { class: "quiet" }, `${plural(dates.length, "date")}${years.length ? `, ${years[0]} to ${years[years.length - 1]}` : ""} · ${plural(directions.length, "direction")} · ${found.split}`),
      h("div", { class: "timeline" }, this.shown, this.slider, ticks),
      h("label", { class: "field inline" }, h("span", {}, "Lay over it"), this.with),
      this.grid,
      h("h2", {}, "All dates"),
      h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "All dates and directions" }, this.matrix),
    );
    this.matrix.append(
      h("thead", {}, h("tr", {}, h("td"), dates.map((d, i) => h("th", { scope: "col" }, h("button", { type: "button", class: "plain", data: { date: String(i) }, onclick: () => this.turn(i) }, shortMonth(d.month)))))),
      h("tbody", {}, directions.map((direction, row) =>
        h("tr", {}, h("th", { scope: "row" }, this.name(direction)), dates.map((d) => h("td", {}, d.pictures[row] ? figure(d.pictures[row], null, { size: "small", alt: `${month(d.month)}, ${this.name(direction)}` }) : h("span", { class: "none" }, "none")))))),
    );
    this.views();
  }

  turn(date) {
    this.date = date;
    this.slider.value = String(date);
    this.views();
  }

  views() {
    const { found, date, pinned } = this;
    const now = found.dates[date];
    const before = pinned === null || pinned === date ? null : found.dates[pinned];
    this.shown.textContent = month(now.month);
    this.slider.setAttribute("aria-valuetext", month(now.month));
    for (const button of this.matrix.querySelectorAll("[data-date]")) {
      if (button.dataset.date === String(date)) button.setAttribute("aria-current", "date");
      else button.removeAttribute("aria-current");
    }
    fill(this.grid,
      ...found.directions.map((direction, row) => {
        const picture = now.pictures[row];
        const name = this.name(direction);
        if (!picture) return h("div", { class: "hole" }, `${name}: no picture in ${month(now.month)}`);
        const shown = figure(picture, name, { alt: `${name}, ${month(now.month)}`, eager: true });
        const older = before?.pictures[row];
        if (older) this.overlay(shown, older, name, before.month);
        return shown;
      }),
    );
    this.remember({ place: found.place, date: date === found.dates.length - 1 ? null : now.month, with: before?.month });
    // The next dates are fetched ahead, so that the slider does not wait.
    for (const step of [-1, 1]) {
      for (const picture of found.dates[date + step]?.pictures ?? []) if (picture) new Image().src = pictureUrl(picture, "full");
    }
  }

  overlay(shown, older, name, when) {
    const over = h("img", { class: "over", src: pictureUrl(older, "full"), alt: `${name}, ${month(when)}` });
    const wipe = h("input", { type: "range", class: "wipe", min: "0", max: "100", value: "50", "aria-label": `How much of ${month(when)} is shown, ${name}`, oninput: () => cut() });
    const cut = () => over.style.setProperty("clip-path", `inset(0 ${100 - Number(wipe.value)}% 0 0)`);
    cut();
    shown.querySelector(".zoom").append(over);
    shown.querySelector(".zoom").after(wipe);
    shown.classList.add("wiped");
  }

  hide() {
    this.map.pick(null);
  }
}
