// Results: the queries of the evaluation on the map and in a list, filtered; one of them with its answers.

import { ask, query } from "./api.js";
import { announce, byId, figure, fill, h, metres, month, percent, pictureUrl, plural, select, shortMonth, toggles } from "./dom.js";
import { circle, line, moved, point } from "./map.js";

const OUTCOMES = [["right", "right"], ["wrong", "wrong"], ["withheld", "withheld"], ["unanswerable", "no right picture"]];
const GAPS = { any: "any", "0-1": "under 2 years", "2-4": "2 to 4 years", "5-9": "5 to 9 years", "10-99": "10 years or more" };
const ERRORS = { any: "any", "0-25": "up to 25 m", "25-100": "25 to 100 m", "100-1000": "100 m to 1 km", "1000-1e9": "over 1 km" };
const HEADINGS = { north: 0, east: 90, south: 180, west: 270 };
const STEP = 40;

const inside = (value, range) => {
  if (range === "any") return true;
  if (value === null) return false;
  const cut = range.indexOf("-");
  return value >= Number(range.slice(0, cut)) && value <= Number(range.slice(cut + 1));
};

export class Results {
  constructor(root, { about, map, remember }) {
    Object.assign(this, { root, about, map, remember, rows: [], shown: [], opened: null });
    this.head = h("div");
    this.list = h("div", { class: "list" });
    this.detail = h("div", { class: "detail", hidden: true });
    root.append(this.head, this.list, this.detail);
  }

  async show(values) {
    const { evaluated } = this.about;
    if (!evaluated.length) {
      fill(this.root, h("h1", {}, "Results"), h("p", { class: "note" }, "There are no results yet. `dvc repro` makes them, and `dvc pull` fetches them."));
      return;
    }
    const first = evaluated.find((c) => c.kind === "photos" && c.scope === "test") ?? evaluated.find((c) => c.scope === "test" && c.protocol === "newest_vs_older" && c.system === "model") ?? evaluated[0];
    const wanted = { system: values.get("system") ?? first.system, scope: values.get("scope") ?? first.scope, protocol: values.get("protocol") ?? first.protocol };
    this.filter = {
      outcomes: new Set((values.get("outcomes") ?? "right,wrong,withheld,unanswerable").split(",")),
      gap: values.get("gap") in GAPS ? values.get("gap") : "any",
      error: values.get("error") in ERRORS ? values.get("error") : "any",
      season: values.get("season") ?? "any",
      direction: values.get("direction") ?? "any",
    };
    this.map.onItem = (index) => this.open(index);
    this.map.backdrop(false);
    await this.load(wanted);
    const number = values.get("query");
    if (number !== null) {
      const index = this.rows.findIndex((row) => row.id === Number(number));
      if (index >= 0) await this.open(index);
    }
  }

  async load(wanted) {
    const { evaluated } = this.about;
    // The nearest thing that was evaluated: the same scope and system if possible.
    const fits = (c, keys) => keys.every((key) => c[key] === wanted[key]);
    this.choice = ["system,scope,protocol", "protocol,scope", "protocol,system", "scope,system", "protocol", "scope"]
      .map((keys) => evaluated.find((c) => fits(c, keys.split(","))))
      .find(Boolean) ?? evaluated[0];
    const { system, scope, protocol } = this.choice;
    const { columns, credits } = await ask(query("/api/queries", { system, scope, protocol }));
    const names = Object.keys(columns);
    this.credits = credits;
    this.rows = columns.id.map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
    this.close(false);
    this.apply(true);
  }

  change(key, value) {
    this.filter[key] = value;
    this.apply(false);
  }

  apply(fit) {
    const { filter, rows } = this;
    const others = rows.map((row, index) => ({ row, index })).filter(({ row }) =>
      inside(row.gap_years, filter.gap) && inside(row.error_m, filter.error) &&
      (filter.season === "any" || row.season === filter.season) && (filter.direction === "any" || row.direction === filter.direction));
    this.counts = Object.fromEntries(OUTCOMES.map(([key]) => [key, 0]));
    for (const { row } of others) this.counts[row.outcome]++;
    this.others = others;
    this.shown = others.filter(({ row }) => filter.outcomes.has(row.outcome));
    this.state();
    this.drawHead();
    this.drawList();
    this.drawMap(fit);
  }

  state(number) {
    const { filter, choice } = this;
    const all = OUTCOMES.every(([key]) => filter.outcomes.has(key));
    const set = (value) => (value === "any" ? null : value);
    this.remember({
      system: choice.system === "model" ? null : choice.system, scope: choice.scope, protocol: choice.protocol,
      outcomes: all ? null : [...filter.outcomes].join(","), gap: set(filter.gap), error: set(filter.error),
      season: set(filter.season), direction: set(filter.direction), query: number,
    });
  }

  drawHead() {
    const { about: { evaluated, right_m }, choice, filter, rows, shown, counts } = this;
    const unique = (key, from) => [...new Set(from.map((c) => c[key]))];
    const labels = Object.fromEntries(evaluated.map((c) => [c.protocol, c.label]));
    const systems = unique("system", evaluated.filter((c) => c.protocol === choice.protocol));
    const seasons = ["any", ...["winter", "spring", "summer", "autumn"].filter((s) => rows.some((r) => r.season === s))];
    const directions = ["any", ...[...new Set(rows.map((r) => r.direction))].filter(Boolean).sort()];
    const plain = (list) => list.map((value) => [value, value]);
    const focused = this.head.contains(document.activeElement) ? document.activeElement.closest("[data-key]")?.dataset.key : null;
    const key = (name, element) => {
      element.dataset.key = name;
      return element;
    };
    const able = this.others.filter(({ row }) => row.answerable);
    const found = able.filter(({ row }) => row.rank === 1).length;
    fill(this.head,
      h("h1", {}, "Results"),
      h(
        "div",
        { class: "filters" },
        key("protocol", select("Protocol", unique("protocol", evaluated).map((p) => [p, labels[p]]), choice.protocol, (v) => this.load({ ...choice, protocol: v }))),
        key("scope", select("Split", plain(unique("scope", evaluated.filter((c) => c.protocol === choice.protocol))), choice.scope, (v) => this.load({ ...choice, scope: v }))),
        systems.length > 1 ? key("system", select("System", plain(systems), choice.system, (v) => this.load({ ...choice, system: v }))) : null,
        key("gap", select("Years between", Object.entries(GAPS), filter.gap, (v) => this.change("gap", v))),
        key("season", select("Season", plain(seasons), filter.season, (v) => this.change("season", v))),
        directions.length > 1 ? key("direction", select("Direction", plain(directions), filter.direction, (v) => this.change("direction", v))) : null,
        key("error", select("Error", Object.entries(ERRORS), filter.error, (v) => this.change("error", v))),
      ),
      key("outcomes", toggles("Outcome", OUTCOMES.filter(([k]) => counts[k] || k === "right" || k === "wrong").map(([k, text]) => [k, text, counts[k]]), filter.outcomes, (k) => {
        if (filter.outcomes.has(k)) filter.outcomes.delete(k);
        else filter.outcomes.add(k);
        this.focus = k;
        this.apply(false);
      })),
      h("p", { class: "summary" }, h("b", {}, percent(found, able.length)), ` recall at 1: ${found.toLocaleString("en")} of ${plural(able.length, "query", "queries")} with a right ${choice.kind === "photos" ? "place" : "picture"} in the gallery.`),
      counts.withheld ? h("p", { class: "summary" }, `Given to a user: ${plural(counts.right + counts.wrong, "answer")}, ${percent(counts.right, counts.right + counts.wrong)} of them right within ${metres(right_m)}. Withheld: ${counts.withheld.toLocaleString("en")}.`) : null,
      h("p", { class: "summary" }, `Shown: ${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}.`),
    );
    if (focused === "outcomes") this.head.querySelector(`[data-kind="${this.focus}"]`)?.focus();
    else if (focused) this.head.querySelector(`[data-key="${focused}"] select`)?.focus();
    announce(`${shown.length} queries shown`);
  }

  drawList(count = STEP) {
    const kind = this.choice.kind === "photos" ? "photos" : "crops";
    const spot = this.choice.protocol === "photos_three";
    const item = ({ row, index }) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "row", data: { kind: row.outcome }, onclick: () => this.open(index) },
          spot ? h("span", { class: "thumb several" }, "3") : h("img", { class: "thumb", src: pictureUrl({ id: `${kind}-${row.id}` }, "small"), alt: "", width: "56", height: "56", loading: "lazy", decoding: "async" }),
          h("span", { class: "lines" }, h("b", {}, kind === "photos" ? `${spot ? "Spot" : "Photo"} ${row.id}` : `Place ${row.place}`), h("span", {}, [shortMonth(row.month), row.direction].filter(Boolean).join(", ")), h("span", { class: "credit" }, this.credits[row.credit] ?? "")),
          h("span", { class: "end" }, h("span", { class: "badge" }, h("span", { class: "dot" }), OUTCOMES.find(([k]) => k === row.outcome)[1]), h("span", {}, row.error_m === null ? "no answer" : row.answerable || row.outcome === "unanswerable" ? metres(row.error_m) : "no place nearby")),
        ),
      );
    const items = h("ul", { class: "rows" }, this.shown.slice(0, count).map(item));
    fill(this.list, items);
    if (!this.shown.length) this.list.append(h("p", { class: "note" }, "No query fits these filters."));
    const left = this.shown.length - count;
    if (left > 0) this.list.append(h("button", { type: "button", class: "more", onclick: () => {
      this.drawList(count + 5 * STEP);
      this.list.querySelectorAll(".row")[count]?.focus();
    } }, `Show more (${left.toLocaleString("en")} left)`));
  }

  drawMap(fit) {
    const features = this.shown.map(({ row, index }) => {
      // The directions of a place share its position: they are drawn around it.
      const at = row.direction in HEADINGS && this.choice.kind === "pictures" ? moved(row.lon, row.lat, 5, HEADINGS[row.direction]) : [row.lon, row.lat];
      return point(at[0], at[1], { kind: row.outcome, good: row.outcome === "right" ? 1 : 0, index });
    });
    if (!this.opened) this.map.items(features);
    this.features = features;
    if (fit && features.length) this.map.fit(features.map((f) => f.geometry.coordinates), { padding: 60 });
    const legend = byId("legend");
    const present = OUTCOMES.filter(([key]) => this.rows.some((row) => row.outcome === key));
    fill(legend, ...present.map(([key, text]) => h("span", { data: { kind: key } }, h("i", { class: "dot" }), text)));
    legend.hidden = false;
  }

  async open(index) {
    const row = this.rows[index];
    const { system, scope, protocol } = this.choice;
    const found = await ask(query(`/api/queries/${row.id}`, { system, scope, protocol }));
    this.opened = index;
    this.scrolled = byId("panel").scrollTop;
    this.state(row.id);
    this.head.hidden = true;
    this.list.hidden = true;
    this.detail.hidden = false;
    this.drawDetail(row, found);
    byId("panel").scrollTop = 0;
    this.detail.querySelector("button").focus({ preventScroll: true });
    const right = row.outcome === "right" ? "right" : "wrong";
    const truth = [found.lon, found.lat];
    const marks = found.answers.map((a) => line(truth, [a.lon, a.lat]));
    const named = new Set();
    for (const a of found.answers) {
      const spot = `${a.lon},${a.lat}`;
      if (!named.has(spot)) marks.push(point(a.lon, a.lat, { kind: a.distance_m !== null && a.distance_m <= this.about.right_m ? "right" : "wrong", name: a.rank ? String(a.rank) : undefined }));
      named.add(spot);
    }
    marks.push(point(...truth, { kind: "truth" }));
    const { position } = found;
    const placed = position && position.lat !== null;
    if (placed) marks.push(point(position.lon, position.lat, { kind: "answer" }));
    this.map.items([]);
    this.map.backdrop(true);
    this.map.marks(marks, placed && position.radius_m ? circle(position.lon, position.lat, position.radius_m) : null);
    const all = [truth, ...found.answers.map((a) => [a.lon, a.lat])];
    const rim = placed && position.radius_m && position.radius_m < 1000 ? circle(position.lon, position.lat, position.radius_m).geometry.coordinates[0] : [];
    this.map.fit(placed ? [...all, ...rim, [position.lon, position.lat]] : all, { maxZoom: 18, padding: 50 });
    fill(byId("legend"),
      h("span", { data: { kind: "truth" } }, h("i", { class: "dot" }), "true position"),
      h("span", { data: { kind: right } }, h("i", { class: "dot" }), "best pictures"),
      placed ? h("span", { data: { kind: "answer" } }, h("i", { class: "dot" }), "predicted position, radius") : "",
    );
  }

  drawDetail(row, found) {
    const { position } = found;
    const title = found.kind === "photos" ? (found.pictures.length > 1 ? `Spot ${found.id}` : `Photo ${found.id}`) : `Place ${found.place}, ${row.direction}`;
    const text = { right: "Right", wrong: "Wrong", withheld: "Withheld", unanswerable: "No right picture in the gallery" }[row.outcome];
    const facts = [
      ["Taken", month(found.month)],
      ["Best answer", row.error_m === null ? "none" : `${metres(row.error_m)} away`],
      position ? ["Predicted position", position.error_m === null ? "none" : `${metres(position.error_m)} from the truth`] : null,
      position?.radius_m ? ["Stated radius", `${metres(position.radius_m)}${position.error_m !== null ? (position.error_m <= position.radius_m ? ", holds" : ", too small") : ""}`] : null,
      position ? ["Given to a user", position.answered ? "yes" : "no, withheld"] : null,
    ].filter(Boolean);
    fill(this.detail,
      h("button", { type: "button", class: "plain back", onclick: () => this.close(true) }, "← All queries"),
      h("h1", {}, title),
      h("p", { class: "badge big", data: { kind: row.outcome } }, h("span", { class: "dot" }), text),
      h("div", { class: "asked" }, found.pictures.map((p) => figure(p, "Asked with", { eager: true }))),
      h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      h("h2", {}, found.kind === "photos" ? `The place that was answered: ${found.place}` : plural(found.answers.length, "best answer")),
      h("div", { class: "answers" }, found.answers.map((a) => {
        const good = a.distance_m !== null && a.distance_m <= this.about.right_m;
        const caption = [a.rank ? `${a.rank}.` : "", month(a.picture.month), `${metres(a.distance_m)} away`, a.similarity === null ? "" : `similarity ${a.similarity.toFixed(2)}`].filter(Boolean).join(" · ");
        return figure(a.picture, caption, { className: good ? "good" : "bad" });
      })),
      found.place >= 0 ? h("p", {}, h("a", { href: `#/time?place=${found.place}` }, `All dates of place ${found.place}`)) : null,
      found.protocols.length > 1
        ? h("table", {}, h("caption", {}, "Under the other protocols"), h("tbody", {}, found.protocols.map((p) => h("tr", {}, h("th", { scope: "row" }, p.label), h("td", {}, p.rank === 1 ? "right" : p.rank > 1 ? `right at ${p.rank}` : "wrong"), h("td", {}, p.error_m === null ? "" : metres(p.error_m))))))
        : null,
    );
  }

  close(back) {
    if (this.opened === null) return;
    const index = this.opened;
    this.opened = null;
    this.detail.hidden = true;
    this.head.hidden = false;
    this.list.hidden = false;
    this.map.marks([]);
    this.map.backdrop(false);
    if (!back) return;
    this.state();
    this.drawMap(false);
    byId("panel").scrollTop = this.scrolled;
    const at = this.shown.findIndex((item) => item.index === index);
    this.list.querySelectorAll(".row")[at]?.focus({ preventScroll: true });
  }

  hide() {
    this.close(false);
  }
}
