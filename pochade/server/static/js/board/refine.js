// How drafts are worked out: asked once for all that are chosen.

import { button, el } from "../dom.js";
import { slider, toggle } from "../fields.js";
import { t } from "../i18n.js";
import { keep, recalled, watched } from "../state.js";

/** {dialog, ask()}: ask() gives {steps, scale, over, strength}, or null if it was closed. */
export function refineDialog(limits) {
  const how = watched({ refine_steps: 30, refine_scale: 1, refine_over: false, refine_strength: 0.5, ...recalled("refine", {}) });
  how.watch((values) => keep("refine", values));
  let answer = () => {};
  const settle = (value) => { answer(value); answer = () => {}; dialog.close(); };
  const dialog = el("dialog", { class: "ask card", "aria-label": t("refine"), onclose: () => settle(null) },
    el("form", { class: "stack", onsubmit: (event) => {
      event.preventDefault();
      const { refine_steps: steps, refine_scale: scale, refine_over: over, refine_strength: strength } = how.get();
      settle({ steps, scale, over, strength });
    } },
      el("h2", {}, t("refine")), el("p", { class: "hint" }, t("refine_hint")),
      slider(how, "refine_steps", { min: 1, max: Math.min(limits.steps, 150) }),
      slider(how, "refine_scale", { min: 1, max: 3, step: 0.25 }),
      toggle(how, "refine_over", { hint: t("refine_over_hint") }),
      slider(how, "refine_strength", { min: 0.05, max: 1, step: 0.05 }),
      el("div", { class: "row end" },
        button(t("close"), { class: "quiet", onclick: () => settle(null) }),
        el("button", { type: "submit", class: "primary" }, t("refine")))));
  return {
    dialog,
    ask: () => new Promise((resolve) => {
      answer = resolve;
      dialog.showModal();
    }),
  };
}
