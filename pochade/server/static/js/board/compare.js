// Drafts side by side, with what is different between them, and nothing else.

import { button, el } from "../dom.js";
import { t } from "../i18n.js";
import { image } from "../pictures.js";
import { differences } from "./plan.js";

const written = (name, value) => {
  if (value === null || value === "") return t("none");
  if (name === "variation") return t("variation_written", { seed: String(value.seed), n: value.strength });
  if (name === "hires") return `× ${value.scale}`;
  return String(value);
};

export function compare(cells) {
  const different = differences(cells.map((cell) => cell.request));
  const close = () => { paper.close(); paper.remove(); };
  const paper = el("dialog", { class: "compare", "aria-label": t("compare"), onclose: () => paper.remove() },
    el("div", { class: "viewer-head" }, el("h2", {}, t("compare")), button(t("close"), { icon: "close", bare: true, class: "quiet", onclick: close })),
    el("div", { class: "compare-row" }, cells.map((cell, i) =>
      el("figure", {}, image(cell.picture),
        el("figcaption", {}, el("dl", { class: "facts" }, different.flatMap(([name, values]) =>
          [el("dt", {}, t(`field_${name}`)), el("dd", {}, written(name, values[i]))])))))));
  document.body.append(paper);
  paper.showModal();
}
