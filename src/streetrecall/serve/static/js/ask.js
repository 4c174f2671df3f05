// Ask: photos in, a position out, with its radius and the places that it comes from.

import { ask, ProblemError } from "./api.js";
import { announce, byId, figure, fill, h, metres, month, notice, pictureUrl, plural, side } from "./dom.js";
import { circle, line, point } from "./map.js";

const GAP = 4; // between two pictures, hundredths of their height

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

export class Ask {
  constructor(root, { about, map }) {
    Object.assign(this, { root, about, map, photos: [], answer: null, asked: 0 });
    this.input = h("input", { type: "file", accept: "image/*,.heic", multiple: true, class: "away", tabIndex: -1, "aria-label": "Photos", onchange: () => this.choose(this.input.files) });
    this.drop = h(
      "button",
      { type: "button", class: "drop", onclick: () => this.pickFiles(false) },
      h("b", {}, "Drop a photo here"),
      h("span", {}, "or choose one, or paste it. Several photos of one spot find more."),
    );
    this.chosen = h("div", { class: "chosen" });
    this.result = h("div", { class: "result", "aria-busy": "false" });
    const cannot = about.bundle
      ? null
      : notice("warn", "Photos are not answered here.", "There is no bundle. `dvc repro bundle` makes it, and `dvc pull models/bundle` fetches it. The results can be seen all the same.");
    root.append(h("h1", {}, "Where was this photo taken?"), cannot ?? this.drop, this.input, this.chosen, this.result, this.manual());
    if (about.bundle) this.listen();
  }

  manual() {
    const { bundle, limits } = this.about;
    const taken = `At most ${limits.files} photos of up to ${Math.round(limits.file_bytes / 1e6)} MB and ${Math.round(limits.pixels / 1e6)} megapixels.`;
    return h(
      "details",
      { class: "about" },
      h("summary", {}, "What is taken, and what happens to photos"),
      h("p", {}, `JPEG, PNG, WebP and HEIC. ${taken}`),
      h("p", {}, "Photos go to the service that sent this page, and to no other. They are not kept. A position in the photo's own data is shown beside the answer and is not used for it."),
      h("p", {}, "To find where other people are from their photos can hurt them. Ask only with photos whose people agree."),
      bundle ? h("p", {}, `Compared with ${bundle.pictures.toLocaleString("en")} pictures of ${plural(bundle.places, "place")}${bundle.first ? `, ${bundle.first.slice(0, 4)} to ${bundle.last.slice(0, 4)}` : ""}.`) : null,
    );
  }

  listen() {
    const stop = (event) => event.preventDefault();
    const over = (on) => () => this.drop.classList.toggle("over", on && document.body.dataset.view === "ask");
    addEventListener("dragenter", over(true));
    addEventListener("dragleave", (event) => event.relatedTarget === null && over(false)());
    addEventListener("dragover", stop);
    addEventListener("drop", (event) => {
      stop(event);
      over(false)();
      if (document.body.dataset.view === "ask") this.choose(event.dataTransfer.files);
    });
    addEventListener("paste", (event) => {
      const files = event.clipboardData?.files ?? [];
      if (document.body.dataset.view === "ask" && files.length) this.choose(files);
    });
  }

  pickFiles(more) {
    this.more = more;
    this.input.value = "";
    this.input.click();
  }

  choose(files) {
    if (!files.length) return;
    if (!this.more) this.forget();
    this.more = false;
    for (const file of files) this.photos.push({ file, url: URL.createObjectURL(file) });
    this.send();
  }

  forget() {
    for (const photo of this.photos) URL.revokeObjectURL(photo.url);
    this.photos = [];
    this.answer = null;
  }

  remove(photo) {
    URL.revokeObjectURL(photo.url);
    this.photos = this.photos.filter((other) => other !== photo);
    if (this.photos.length) this.send();
    else {
      this.answer = null;
      this.drawPhotos();
      fill(this.result);
      this.map.clear();
      this.drop.focus();
    }
  }

  drawPhotos() {
    this.drop.classList.toggle("small", this.photos.length > 0);
    fill(this.chosen,
      ...this.photos.map((photo, index) =>
        h(
          "div",
          { class: "own" },
          h("img", { src: photo.url, alt: `Your photo ${index + 1}: ${photo.file.name}` }),
          h("button", { type: "button", class: "remove", "aria-label": `Remove photo ${index + 1}`, onclick: () => this.remove(photo) }, "×"),
        ),
      ),
    );
    if (this.photos.length && this.photos.length < this.about.limits.files) {
      this.chosen.append(h("button", { type: "button", class: "add", onclick: () => this.pickFiles(true) }, h("b", { "aria-hidden": "true" }, "+"), "Add a photo of this spot"));
    }
  }

  async send() {
    const turn = ++this.asked;
    this.drawPhotos();
    const { files, file_bytes: most } = this.about.limits;
    const large = this.photos.find((photo) => photo.file.size > most);
    if (this.photos.length > files || large) {
      this.fail(large ? `${large.file.name} has more than ${Math.round(most / 1e6)} MB.` : `At most ${files} photos are taken at once.`);
      return;
    }
    this.result.setAttribute("aria-busy", "true");
    fill(this.result, h("p", { class: "busy" }, h("span", { class: "spinner" }), `Comparing ${plural(this.photos.length, "photo")} with the city...`));
    const body = new FormData();
    for (const photo of this.photos) body.append("photos", photo.file, photo.file.name || "photo");
    try {
      const answer = await ask("/api/locate", { method: "POST", body });
      if (turn !== this.asked) return;
      this.answer = answer;
      this.drawAnswer();
    } catch (error) {
      if (turn === this.asked) this.fail(error instanceof ProblemError && error.file ? `${error.file}: ${error.message}` : error.message);
    }
  }

  fail(text) {
    this.answer = null;
    this.result.setAttribute("aria-busy", "false");
    fill(this.result, notice("error", "No answer.", text));
    this.map.clear();
  }

  drawAnswer() {
    const { answer } = this;
    const { position, neighbours } = answer;
    this.result.setAttribute("aria-busy", "false");
    const sure = position?.coverage ? `${Math.round(100 * position.coverage)}% of such answers are this near, where the gallery has a place nearby.` : "";
    const radius = position?.radius_m;
    const head = answer.answered
      ? h(
          "div",
          { class: "verdict good" },
          h("h2", {}, radius ? `Within ${metres(radius)} of this point` : "At this point"),
          h("p", { class: "coordinates" }, `${position.lat.toFixed(5)}, ${position.lon.toFixed(5)} `, this.copy(position)),
          h("p", { class: "quiet" }, sure),
        )
      : h(
          "div",
          { class: "verdict withheld" },
          h("h2", {}, "Withheld"),
          h("p", {}, sentence(answer.reason || "the best places do not agree enough for an answer")),
          h("p", { class: "quiet" }, "Below is what looks most alike. None of it is an answer."),
        );
    const own = answer.photos
      .filter((photo) => photo.says)
      .map((photo) => h("p", { class: "says" }, h("b", {}, "The photo itself says: "), `${photo.says.lat.toFixed(5)}, ${photo.says.lon.toFixed(5)}${photo.says.distance_m === null ? "" : `, ${metres(photo.says.distance_m)} from the answer`}.`));
    const list = h(
      "ol",
      { class: "neighbours" },
      neighbours.map((n) =>
        h(
          "li",
          { onmouseenter: () => this.drawMap(n.rank), onmouseleave: () => this.drawMap(), onfocusin: () => this.drawMap(n.rank), onfocusout: () => this.drawMap() },
          n.picture ? figure(n.picture, null, { alt: `Place ${n.place}, ${month(n.month)}` }) : h("div", { class: "no-picture" }, "no picture in the bundle"),
          h(
            "div",
            {},
            h("b", {}, `${n.rank}. Place ${n.place}`),
            h("span", {}, `${month(n.month)}${n.heading_deg === null || n.heading_deg === undefined ? "" : `, looking ${side(n.heading_deg)}`}`),
            h("span", {}, `similarity ${n.similarity.toFixed(2)}${n.inliers ? `, ${plural(n.inliers, "point")} ${n.inliers === 1 ? "agrees" : "agree"}` : ""}`),
            h("span", {}, `${metres(n.distance_m)} from ${answer.answered ? "the answer" : "the best guess"}`),
            this.about.time ? h("a", { href: `#/time?place=${n.place}` }, "its other dates") : null,
          ),
        ),
      ),
    );
    fill(this.result, head, ...own, this.drawWhy(), h("h3", {}, "What looks most alike"), list, h("p", { class: "quiet" }, `Answered in ${answer.milliseconds} ms.`));
    announce(answer.answered ? `Answer: within ${metres(radius)} of ${position.lat.toFixed(5)}, ${position.lon.toFixed(5)}` : "The answer is withheld.");
    this.drawMap();
    const near = neighbours.map((n) => [n.lon, n.lat]);
    const around = answer.answered && radius ? circle(position.lon, position.lat, radius).geometry.coordinates[0] : near;
    this.map.fit(answer.answered ? [...around, ...near.slice(0, 1)] : near, { maxZoom: 18 });
  }

  // The photo beside the best picture, with lines between the points that agree, so that a person can judge.
  drawWhy() {
    const { why, neighbours, photos } = this.answer;
    if (!why) return null;
    const picture = neighbours[0].picture;
    const shape = photos[0].width / photos[0].height;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${100 * (shape + 1) + GAP} 100`);
    svg.setAttribute("aria-hidden", "true");
    const add = (name, values) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(values)) element.setAttribute(key, String(value));
      svg.append(element);
    };
    for (const [ax, ay, bx, by] of why.points) {
      const [x1, y1, x2, y2] = [100 * shape * ax, 100 * ay, 100 * shape + GAP + 100 * bx, 100 * by];
      add("line", { x1, y1, x2, y2 });
      for (const [cx, cy] of [[x1, y1], [x2, y2]]) add("circle", { cx, cy, r: 1.1 });
    }
    const own = h("img", { src: this.photos[0].url, alt: "Your photo" });
    const other = h("img", { src: pictureUrl(picture, "full"), alt: `The best picture, place ${neighbours[0].place}` });
    own.style.setProperty("flex-grow", String(shape));
    other.style.setProperty("flex-grow", "1");
    const box = h("div", { class: "pair" }, own, other, svg);
    own.addEventListener("error", () => box.remove());
    return h(
      "div",
      { class: "why-box" },
      h("h3", {}, "What agrees"),
      box,
      h("p", { class: "credit" }, `Right: ${[picture.attribution, picture.licence].filter(Boolean).join(" · ")}`),
      h("p", { class: "quiet" }, `${plural(why.matches, "point")} of your photo and of the best picture fit one another. More than about 15 that lie on buildings are a good sign.`),
    );
  }

  copy(position) {
    const button = h("button", { type: "button", class: "plain", onclick: async () => {
      await navigator.clipboard.writeText(`${position.lat}, ${position.lon}`);
      announce("Copied");
      button.textContent = "copied";
    } }, "copy");
    return button;
  }

  drawMap(highlighted) {
    const { answer, map } = this;
    if (!answer) return;
    const { position, neighbours, answered } = answer;
    const features = neighbours.map((n) => point(n.lon, n.lat, { kind: n.rank === highlighted ? "right" : "other", name: String(n.rank) }));
    if (position) {
      features.unshift(...neighbours.filter((n) => n.rank === highlighted).map((n) => line([position.lon, position.lat], [n.lon, n.lat])));
      if (answered) features.push(point(position.lon, position.lat, { kind: "answer" }));
    }
    for (const photo of answer.photos) if (photo.says) features.push(point(photo.says.lon, photo.says.lat, { kind: "truth" }));
    map.marks(features, answered && position.radius_m ? circle(position.lon, position.lat, position.radius_m) : null);
  }

  show() {
    this.drawMap();
    const legend = byId("legend");
    fill(legend,
      h("span", { data: { kind: "answer" } }, h("i", { class: "dot" }), "answer and its radius"),
      h("span", { data: { kind: "muted" } }, h("i", { class: "dot" }), "what looks alike"),
    );
    legend.hidden = !this.about.bundle;
  }

  hide() {}
}
