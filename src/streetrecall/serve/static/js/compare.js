// Compare: the queries that one revision answers and another does not.

import { ask, query } from "./api.js";
import { announce, byId, figure, fill, h, metres, month, notice, percent, plural, select, shortMonth, toggles } from "./dom.js";
import { point, moved } from "./map.js";

const OUTCOMES = [["gained", "gained"], ["lost", "lost"], ["both wrong", "both wrong"], ["both right", "both right"]];
const STEP = 60;

export class Compare {
  constructor(root, { about, map, remember }) {
    Object.assign(this, { root, about, map, remember });
    this.chosen = new Set(["gained", "lost", "both wrong"]);
    this.form = h("div", { class: "filters" });
    this.body = h("div");
    root.append(h("h1", {}, "Compare"), h("p", { class: "quiet" }, "The same queries, asked of two revisions or experiments."), this.form, this.body);
  }

  async show(values) {
    const evaluated = this.about.evaluated.filter((c) => c.kind === "pictures");
    if (!this.about.compare || !evaluated.length) {
      fill(this.root, h("h1", {}, "Compare"), h("p", { class: "note" }, "There are no results yet. `dvc repro` makes them, and `dvc pull` fetches them."));
      return;
    }
    this.evaluated = evaluated;
    this.revisions ??= (await ask("/api/revisions")).revisions;
    this.wanted = {
      first: values.get("first") ?? (this.revisions.some((r) => r.name === "HEAD") ? "HEAD" : "workspace"),
      second: values.get("second") ?? "workspace",
      scope: values.get("scope") ?? (evaluated.some((c) => c.scope === "test") ? "test" : evaluated[0].scope),
      protocol: values.get("protocol") ?? (evaluated.some((c) => c.protocol === "newest_vs_older") ? "newest_vs_older" : evaluated[0].protocol),
      system: values.get("system") ?? "model",
      k: values.get("k") ?? "1",
    };
    this.map.backdrop(false);
    this.map.onItem = (index) => this.pick(index);
    this.drawForm();
    await this.load();
  }

  change(key, value) {
    this.wanted[key] = value;
    this.load();
  }

  drawForm() {
    const { wanted, evaluated, revisions } = this;
    const names = revisions.map((r) => [r.name, `${r.name} (${r.kind}${r.text ? `: ${r.text.slice(0, 50)}` : ""})`]);
    for (const side of ["first", "second"]) if (!names.some(([name]) => name === wanted[side])) names.push([wanted[side], wanted[side]]);
    const unique = (key) => [...new Set(evaluated.map((c) => c[key]))];
    const labels = Object.fromEntries(evaluated.map((c) => [c.protocol, c.label]));
    fill(this.form,
      select("First", names, wanted.first, (v) => this.change("first", v)),
      select("Second, judged", names, wanted.second, (v) => this.change("second", v)),
      select("Protocol", unique("protocol").map((p) => [p, labels[p]]), wanted.protocol, (v) => this.change("protocol", v)),
      select("Split", unique("scope").map((s) => [s, s]), wanted.scope, (v) => this.change("scope", v)),
      select("System", unique("system").map((s) => [s, s]), wanted.system, (v) => this.change("system", v)),
      select("Found among the best", ["1", "5", "10", "20"].map((k) => [k, k]), wanted.k, (v) => this.change("k", v)),
    );
  }

  async load() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.remember(this.wanted);
    fill(this.body, h("p", { class: "busy" }, h("span", { class: "spinner" }), "Comparing..."));
    let found;
    try {
      found = await ask(query("/api/compare", this.wanted));
    } catch (error) {
      if (turn === this.turn) {
        fill(this.body, notice("error", "These cannot be compared.", error.message));
        this.map.items([]);
      }
      return;
    }
    if (turn !== this.turn) return;
    const names = Object.keys(found.columns);
    this.found = found;
    this.rows = found.columns.place.map((_, i) => Object.fromEntries(names.map((name) => [name, found.columns[name][i]])));
    this.draw(true);
  }

  draw(fit) {
    const { found, rows, chosen, wanted } = this;
    const d = found.difference;
    const points = (value) => `${value >= 0 ? "+" : ""}${(100 * value).toFixed(1)}`;
    const interval = d.low === null ? "too few places for an interval" : `${points(d.low)} to ${points(d.high)} with ${Math.round(100 * found.confidence)}% confidence`;
    const kind = d.verdict === "better" ? "good" : d.verdict === "worse" ? "bad" : "";
    const shown = rows.map((row, index) => ({ row, index })).filter(({ row }) => chosen.has(row.outcome));
    fill(this.body,
      h(
        "div",
        { class: `verdict ${kind}` },
        h("h2", {}, `${found.second}: ${d.verdict}`),
        h("p", {}, `${percent(d.first, 1)} → ${percent(d.second, 1)}, ${points(d.difference)} points (${interval}).`),
        h("p", { class: "quiet" }, `${plural(d.queries, "query", "queries")} of ${plural(d.places, "place")}, ${d.changed_places} of which changed.${found.only_one ? ` ${plural(found.only_one, "query", "queries")} that only one of the two has are left out.` : ""}`),
      ),
      toggles("What became of a query", OUTCOMES.map(([k, text]) => [k, text, found.counts[k]]), chosen, (k) => {
        if (chosen.has(k)) chosen.delete(k);
        else chosen.add(k);
        this.draw(false);
        this.body.querySelector(`[data-kind="${k.replace(" ", "-")}"]`)?.focus();
      }),
      this.picked = h("div"),
      h("ul", { class: "rows" }, shown.slice(0, this.count ?? STEP).map(({ row, index }) => h("li", {}, h(
        "button",
        { type: "button", class: "row", data: { kind: row.outcome.replace(" ", "-") }, onclick: () => this.pick(index) },
        h("span", { class: "lines" }, h("b", {}, `Place ${row.place}, direction ${row.direction}`), h("span", {}, shortMonth(row.month))),
        h("span", { class: "end" }, h("span", { class: "badge" }, h("span", { class: "dot" }), row.outcome), h("span", {}, `${metres(row.error_first_m)} → ${metres(row.error_second_m)}`)),
      )))),
      shown.length > (this.count ?? STEP) ? h("button", { type: "button", class: "more", onclick: () => {
        this.count = (this.count ?? STEP) + 5 * STEP;
        this.draw(false);
      } }, "Show more") : null,
      !shown.length ? h("p", { class: "note" }, "No query became this.") : null,
    );
    const features = shown.map(({ row, index }) => point(...moved(row.lon, row.lat, 5, 90 * row.direction), { kind: row.outcome.replace(" ", "-"), good: row.outcome === "gained" || row.outcome === "both right" ? 1 : 0, index }));
    this.map.items(features);
    if (fit && features.length) this.map.fit(features.map((f) => f.geometry.coordinates), { padding: 60 });
    fill(byId("legend"), ...OUTCOMES.map(([key, text]) => h("span", { data: { kind: key.replace(" ", "-") } }, h("i", { class: "dot" }), text)));
    byId("legend").hidden = false;
    announce(`${found.second}: ${d.verdict}. ${wanted.first} ${percent(d.first, 1)}, ${wanted.second} ${percent(d.second, 1)}`);
  }

  async pick(index) {
    const row = this.rows[index];
    const { first, second, scope, protocol, system } = this.wanted;
    const facts = h("dl", { class: "facts" },
      h("dt", {}, "Taken"), h("dd", {}, month(row.month)),
      h("dt", {}, first), h("dd", {}, `best answer ${metres(row.error_first_m)} away`),
      h("dt", {}, second), h("dd", {}, `best answer ${metres(row.error_second_m)} away`));
    const box = h("div", { class: "picked", data: { kind: row.outcome.replace(" ", "-") } }, h("h3", {}, `Place ${row.place}, direction ${row.direction}: ${row.outcome}`), facts);
    fill(this.picked, box);
    this.map.marks([point(row.lon, row.lat, { kind: "truth" })]);
    this.map.fit([[row.lon, row.lat]], { maxZoom: 17 });
    box.scrollIntoView({ block: "nearest" });
    if (row.id === null) return;
    const found = await ask(query(`/api/queries/${row.id}`, { system, scope, protocol })).catch(() => null);
    if (!found) return;
    box.append(
      h("div", { class: "answers" }, found.pictures.map((p) => figure(p, "Asked with")), found.answers.slice(0, 1).map((a) => figure(a.picture, `Answer of the workspace, ${metres(a.distance_m)} away`))),
      h("p", {}, h("a", { href: `#/results?${new URLSearchParams({ system, scope, protocol, query: row.id })}` }, "All its answers in the workspace")),
    );
  }

  hide() {}
}
