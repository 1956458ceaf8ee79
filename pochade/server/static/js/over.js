// Image to image: the same prompt and settings, over a picture, inside a mask or further than its edges.

import { button, el, shown } from "./dom.js";
import { choice, slider, toggle } from "./fields.js";
import { t } from "./i18n.js";
import { acceptDrops, asDataUrl, dropPlace } from "./pictures.js";
import { makeEditor } from "./editor/editor.js";

const names = (kind, values) => values.map((value) => ({ value, label: t(`${kind}_${value}`) }));

/** {element, source, take(url, send)}; shown in the panel "over" only. */
export function overBlock({ form }) {
  const editor = makeEditor();
  const take = async (url, send) => {
    const loaded = await editor.load(url, send);
    if (loaded) shown(drop, false);
    shown(settings, loaded || !settings.hidden);
    shown(other, loaded || !other.hidden);
    return loaded;
  };
  const takeFile = async (file) => take(await asDataUrl(file));
  const drop = dropPlace(t("drop_over"), takeFile);
  const other = button(t("other_picture"), { icon: "picture", class: "quiet", hidden: true, onclick: () => {
    editor.forget();
    shown(drop, true);
    shown(settings, false);
    shown(other, false);
  } });
  // Outpainting begins with nothing, so it has a strength of its own; where it is, no part is drawn alone.
  const strength = slider(form, "denoising_strength", { min: 0, max: 1, step: 0.01, hint: t("strength_hint") });
  const further = slider(form, "outpaint_strength", { min: 0, max: 1, step: 0.01, hint: t("strength_hint") });
  const closer = toggle(form, "only_masked", { hint: t("only_masked_hint") });
  const padding = slider(form, "padding", { min: 0, max: 256, step: 4 });
  editor.outpainting.watch((now) => {
    for (const each of [strength, closer, padding]) shown(each, !now);
    shown(further, now);
  });
  const settings = el("div", { class: "over-settings", hidden: true },
    strength, further,
    el("div", { class: "two" },
      choice(form, "fill", names("fill", ["original", "surroundings", "noise", "nothing"])),
      choice(form, "resize_mode", names("resize", ["crop", "fill", "stretch"]))),
    closer,
    el("div", { class: "two" }, slider(form, "mask_blur", { min: 0, max: 64 }), padding));
  const element = el("div", { class: "over card" }, el("div", { class: "over-head" }, el("h2", {}, t("over_title")), other), drop, editor.element, settings);
  acceptDrops(element, takeFile);
  return { element, source: editor.source, take, takeFile };
}
