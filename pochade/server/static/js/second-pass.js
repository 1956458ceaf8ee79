// Hires. fix: a second, larger pass, and the settings that it may have of its own.

import { el } from "./dom.js";
import { choice, fold, lines, number, slider, toggle } from "./fields.js";
import { HIRES_OWN } from "./form.js";
import { t } from "./i18n.js";

export function secondPass(app) {
  const { form, known } = app;
  const upscalers = known.choices(known.upscalers, (each) => each.name);
  return fold(t("hires"), { open: form.get().hires_on, id: "hires" },
    toggle(form, "hires_on", { hint: t("hires_hint") }),
    slider(form, "hires_scale", { min: 1, max: 4, step: 0.05 }),
    choice(form, "hires_upscaler", upscalers),
    slider(form, "hires_strength", { min: 0, max: 1, step: 0.01 }),
    number(form, "hires_steps", { min: 1, max: 150, empty: t("as_first") }),
    ownSettings(app));
}

function ownSettings({ form, known }) {
  const set = () => HIRES_OWN.filter((name) => form.get()[`hires_${name}`]).length;
  const badge = el("span", { class: "badge" });
  form.watch(() => {
    badge.textContent = set() || "";
    badge.hidden = !set();
  });
  const named = (list) => known.choices(list, (each) => each.title || each.name, t("as_first"));
  const prompt = lines(form, "hires_prompt", { rows: 1 });
  const negative = lines(form, "hires_negative_prompt", { rows: 1 });
  for (const each of [prompt, negative]) each.querySelector("textarea").placeholder = t("as_first");
  return fold(t("hires_own"), { open: set() > 0, summary: badge, id: "hires-own" },
    prompt,
    negative,
    el("div", { class: "two" },
      choice(form, "hires_sampler", named(known.samplers)),
      choice(form, "hires_schedule", named(known.schedules))),
    el("div", { class: "two" },
      number(form, "hires_cfg_scale", { min: 1, max: 30, step: 0.5, empty: t("as_first") }),
      choice(form, "hires_model", named(known.models))));
}
