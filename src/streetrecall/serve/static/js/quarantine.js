// Quarantine: what takes no part in training and evaluation, and why.

import { ask, query } from "./api.js";
import { announce, figure, fill, h, month, plural, toggles } from "./dom.js";

const WHY = {
  undecodable: "The file is no picture.",
  wrong_shape: "The picture is not of a size that the pipeline knows.",
  blank: "Almost black, or of one colour: nothing can be recognised.",
  duplicate_across_splits: "The same picture occurs at places of different splits. Which place it shows is unknown, and it would give answers away.",
  duplicate_across_places: "The same picture occurs at several places. Which of them it shows is unknown.",
  duplicate_within_place: "The same picture stands for several dates or directions of its place. The newest is used.",
  "capture gone": "The provider no longer has the picture.",
  "capture failed": "The picture could not be taken.",
};
const name = (reason) => reason.replaceAll("_", " ");

export class Quarantine {
  constructor(root, { about, remember }) {
    Object.assign(this, { root, about, remember, reason: null });
  }

  async show(values) {
    if (!this.about.quarantine) {
      fill(this.root, h("h1", {}, "Quarantine"), h("p", { class: "note" }, "There are no pictures yet. `dvc repro` takes them, and `dvc pull` fetches them."));
      return;
    }
    this.reason = values.get("reason");
    await this.load();
  }

  async load(offset = 0) {
    const found = await ask(query("/api/quarantine", { reason: this.reason, offset }));
    if (offset === 0) {
      const all = Object.values(found.reasons).reduce((a, b) => a + b, 0);
      const options = Object.entries(found.reasons).map(([key, count]) => [key, name(key), count]);
      this.grid = h("div", { class: "gallery" });
      this.more = h("div");
      fill(
      this.root,
        h("h1", {}, "Quarantine"),
        h("p", { class: "quiet" }, all ? `${plural(all, "picture")} took no part in training and evaluation. Each is kept, with the reason.` : "Nothing was kept out."),
        toggles("Reason", options, new Set(this.reason ? [this.reason] : []), (key) => {
          this.reason = this.reason === key ? null : key;
          this.remember({ reason: this.reason });
          this.load().then(() => this.root.querySelector(`[data-kind="${key.replace(" ", "-")}"]`)?.focus());
        }),
        this.reason ? h("p", { class: "why" }, WHY[this.reason] ?? "") : null,
        this.grid,
        this.more,
      );
      announce(`${found.total} pictures`);
    }
    this.grid.append(
      ...found.pictures.map((item) => {
        const about = h("div", { class: "lines" }, h("b", {}, name(item.reason)), h("span", {}, `Place ${item.place} · ${month(item.picture.month)} · ${item.split}`), h("span", { class: "quiet" }, item.detail || WHY[item.reason] || ""));
        const picture = item.picture.id
          ? figure(item.picture, null, { size: "small", alt: `Place ${item.place}, ${month(item.picture.month)}, in quarantine: ${name(item.reason)}` })
          : h("div", { class: "no-picture" }, "no picture");
        return h("article", { class: "kept-out" }, picture, about);
      }),
    );
    const next = offset + found.pictures.length;
    fill(this.more, ...(next < found.total ? [h("button", { type: "button", class: "more", onclick: () => this.load(next) }, `Show more (${(found.total - next).toLocaleString("en")} left)`)] : []));
  }
}
