// The frame around a picture: by how many pixels it is to grow on each side.

import { button, el } from "../dom.js";
import { fold, number } from "../fields.js";
import { t } from "../i18n.js";

export const SIDES = ["left", "top", "right", "bottom"];
const STEP = 8; // models draw multiples of eight

export function outpaintFields(margins) {
  const around = (by) => margins.set(Object.fromEntries(SIDES.map((side) => [side, by])));
  return fold(t("outpaint"), {},
    el("p", { class: "hint" }, t("outpaint_hint")),
    el("div", { class: "four" }, SIDES.map((side) => number(margins, side, { min: 0, max: 1024, step: STEP, words: t(`side_${side}`) }))),
    el("div", { class: "chips" },
      [32, 64, 128].map((by) => button(t("all_around", { n: by }), { class: "chip", onclick: () => around(by) })),
      button(t("no_frame"), { class: "chip", onclick: () => around(0) })));
}
