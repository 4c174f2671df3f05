// Which view is shown, by the part of the address behind #.

import { ask } from "./api.js";
import { announce, byId, fill, notice, plural } from "./dom.js";
import { CityMap } from "./map.js";
import { Ask } from "./ask.js";
import { Compare } from "./compare.js";
import { Quarantine } from "./quarantine.js";
import { Results } from "./results.js";
import { TimeMachine } from "./time.js";

const VIEWS = { ask: Ask, results: Results, time: TimeMachine, compare: Compare, quarantine: Quarantine };
const TITLES = { ask: "Ask", results: "Results", time: "Time machine", compare: "Compare", quarantine: "Quarantine" };
const map = new CityMap();
const shown = new Map();
let current = null;

function address() {
  const [path, values] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: path in VIEWS ? path : "ask", values: new URLSearchParams(values ?? "") };
}

// Put the state of a view into the address, without a new entry in the history.
function remember(name, values) {
  const kept = Object.entries(values).filter(([, v]) => v !== undefined && v !== null && v !== "");
  const text = new URLSearchParams(kept).toString();
  history.replaceState(null, "", `#/${name}${text ? `?${text}` : ""}`);
}

async function show(about) {
  const { name, values } = address();
  const changed = current !== name;
  if (changed && current) shown.get(current)?.hide?.();
  current = name;
  for (const id of Object.keys(VIEWS)) byId(id).hidden = id !== name;
  for (const link of byId("views").children) {
    if (link.dataset.view === name) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = name;
  document.title = `${TITLES[name]} · streetrecall`;
  byId("legend").hidden = true;
  if (changed) {
    map.onItem = null;
    map.onPlace = null;
    map.clear();
    map.backdrop(true);
    map.resize();
    byId("panel").scrollTop = 0;
  }
  if (!shown.has(name)) shown.set(name, new VIEWS[name](byId(name), { about, map, remember: (v) => remember(name, v) }));
  try {
    await shown.get(name).show(values);
  } catch (error) {
    fill(byId(name), notice("error", "This cannot be shown.", error.message));
    shown.delete(name);
  }
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => map.repaint();
  dark.addEventListener("change", repaint);
  byId("theme").addEventListener("click", () => {
    const { dataset } = document.documentElement;
    const isDark = dataset.theme ? dataset.theme === "dark" : dark.matches;
    dataset.theme = isDark ? "light" : "dark";
    try {
      localStorage.setItem("theme", dataset.theme);
    } catch {
      // Storage may be switched off.
    }
    announce(`${dataset.theme} colours`);
    repaint();
  });
}

async function start() {
  theme();
  let about;
  try {
    about = await ask("/api/about");
  } catch (error) {
    byId("ask").hidden = false;
    fill(byId("ask"), notice("error", "The service did not answer.", error.message));
    return;
  }
  byId("city").textContent = [about.city, about.places ? plural(about.places, "place") : null].filter(Boolean).join(" · ");
  addEventListener("hashchange", () => show(about));
  await show(about);
  document.documentElement.dataset.page = "ready";
  // The map comes after the first picture of the page.
  requestAnimationFrame(() => setTimeout(async () => map.open(about, await ask("/api/city")), 0));
}

start();
