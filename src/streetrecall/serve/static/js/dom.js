// Elements, texts and pictures.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Replaces what is in an element; missing children are left out.
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
}

export const byId = (id) => document.getElementById(id);

export function announce(text) {
  byId("announcer").textContent = text;
}

const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

export function month(text) {
  const [year, number] = (text || "").split("-");
  return number ? `${MONTHS[Number(number) - 1]} ${year}` : "unknown date";
}

export function shortMonth(text) {
  const [year, number] = (text || "").split("-");
  return number ? `${MONTHS[Number(number) - 1].slice(0, 3)} ${year}` : "no date";
}

export function metres(value) {
  if (value === null || value === undefined) return "unknown";
  if (value < 10) return `${value.toFixed(1)} m`;
  return value < 10000 ? `${Math.round(value).toLocaleString("en")} m` : `${(value / 1000).toFixed(1)} km`;
}

export const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)}%` : "-");

export function plural(number, one, several = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : several}`;
}

const SIDES = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];

export function side(heading) {
  return heading === null || heading === undefined ? "" : SIDES[Math.round(heading / 45) % 8];
}

export const pictureUrl = (picture, size) => `/api/pictures/${picture.id}?size=${size}`;

function credit(picture) {
  const who = picture.attribution || picture.provider || "unknown source";
  return picture.licence ? `${who} · ${picture.licence}` : who;
}

// A picture with its caption, and its attribution and licence under it. A click shows it large.
export function figure(picture, caption, { size = "full", alt, eager = false, className = "" } = {}) {
  const text = alt ?? `${caption ?? ""} ${month(picture.month)}${picture.heading_deg === null ? "" : `, looking ${side(picture.heading_deg)}`}`.trim();
  const image = h("img", {
    src: picture.url ?? pictureUrl(picture, size),
    alt: text,
    width: String(picture.width || 224),
    height: String(picture.height || 224),
    loading: eager ? "eager" : "lazy",
    decoding: "async",
  });
  image.addEventListener("error", () => image.classList.add("missing"));
  return h(
    "figure",
    { class: `picture ${className}` },
    h("button", { type: "button", class: "zoom", "aria-label": `Show large: ${text}`, onclick: () => enlarge(picture, text) }, image),
    h("figcaption", {}, caption ? h("span", { class: "caption" }, caption) : null, h("span", { class: "credit", title: credit(picture) }, credit(picture))),
  );
}

export function enlarge(picture, text) {
  const dialog = byId("viewer");
  dialog.replaceChildren(
    h("img", { src: picture.url ?? pictureUrl(picture, "full"), alt: text, width: String(picture.width || 224), height: String(picture.height || 224) }),
    h("p", {}, text, h("br"), h("span", { class: "credit" }, credit(picture))),
    h("form", { method: "dialog" }, h("button", { class: "plain" }, "Close")),
  );
  dialog.showModal();
}

export function select(label, options, value, onchange) {
  const box = h(
    "select",
    { onchange: (event) => onchange(event.target.value) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
  );
  return h("label", { class: "field" }, h("span", {}, label), box);
}

// Buttons that are pressed or not, each with a count and a colour.
export function toggles(label, options, chosen, onchange) {
  return h(
    "div",
    { class: "toggles", role: "group", "aria-label": label },
    options.map(([key, text, count]) =>
      h(
        "button",
        { type: "button", class: "toggle", data: { kind: key.replace(" ", "-") }, "aria-pressed": String(chosen.has(key)), onclick: () => onchange(key) },
        h("span", { class: "dot" }),
        `${text} `,
        h("b", {}, count.toLocaleString("en")),
      ),
    ),
  );
}

export function notice(kind, title, ...rest) {
  return h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : undefined }, h("strong", {}, title), rest.length ? h("p", {}, rest) : null);
}
