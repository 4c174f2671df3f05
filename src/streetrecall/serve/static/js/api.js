// Requests to the service. Errors carry what the service says (problem details).

import { byId, fill, h } from "./dom.js";

export class ProblemError extends Error {
  constructor(status, problem) {
    super(problem.detail || `The service answered with status ${status}.`);
    this.status = status;
    this.file = problem.file;
  }
}

async function problemOf(response) {
  try {
    return new ProblemError(response.status, await response.json());
  } catch {
    return new ProblemError(response.status, {});
  }
}

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer. Is it still running?");
  }
  if (response.status === 401) {
    await signIn();
    return ask(path, options);
  }
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

export const query = (path, values) => `${path}?${new URLSearchParams(Object.entries(values).filter(([, v]) => v !== undefined && v !== null && v !== ""))}`;

let pending = null;

// Ask for the token once, however many requests wait for it.
function signIn() {
  pending ??= new Promise((resolve) => {
    const dialog = byId("sign-in");
    const wrong = h("p", { class: "notice error", role: "alert", hidden: true }, "That is not the token of this service.");
    const field = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true });
    const form = h(
      "form",
      {
        onsubmit: async (event) => {
          event.preventDefault();
          const body = JSON.stringify({ token: field.value });
          const response = await fetch("/api/session", { method: "POST", headers: { "content-type": "application/json" }, body });
          if (response.ok) {
            dialog.close();
            pending = null;
            resolve();
          } else wrong.hidden = false;
        },
      },
      h("h2", { id: "sign-in-title" }, "Token"),
      h("p", {}, "Who started this service has its token."),
      h("label", { class: "field" }, h("span", {}, "Token"), field),
      wrong,
      h("button", { class: "main" }, "Go on"),
    );
    fill(dialog, form);
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
  });
  return pending;
}
