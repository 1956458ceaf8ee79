// What the page says aloud: to a screen reader, and in notes that can be put away.

import { Refused } from "./api.js";
import { button, el } from "./dom.js";
import { t } from "./i18n.js";
import { reason } from "./refusals.js";

const STAYS_MS = 8000;

/** For those who do not see the page: what has just happened, in a few words. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A note at the page's edge. kind: "good", or "bad", which stays until it is closed. */
export function note(text, kind = "good") {
  const place = document.getElementById("notes");
  const close = () => paper.remove();
  const paper = el(
    "div",
    { class: `note ${kind}`, role: kind === "bad" ? "alert" : "status" },
    el("p", {}, text),
    button(t("close"), { icon: "close", bare: true, class: "quiet", onclick: close }),
  );
  place.append(paper);
  while (place.children.length > 3) place.firstChild.remove();
  if (kind !== "bad") setTimeout(close, STAYS_MS);
}

/** Tell why something did not work. What was no answer of the server is a mistake of the page: it goes on up. */
export function complain(error) {
  if (!(error instanceof Refused)) throw error;
  note(reason(error), "bad");
}

/** f, with its refusals told. */
export function telling(f) {
  return async (...values) => {
    try {
      return await f(...values);
    } catch (error) {
      complain(error);
      return undefined;
    }
  };
}
