// Everything about a drawing that is not words: sampler, size, seed and the rest, in A1111's order.

import { api } from "./api.js";
import { button, el } from "./dom.js";
import { choice, fold, number, slider, toggle } from "./fields.js";
import { t } from "./i18n.js";
import { randomSeed } from "./form.js";
import { telling } from "./notes.js";
import { secondPass } from "./second-pass.js";

const USUAL = [512, 512]; // of a model that has not been loaded yet
const SHAPES = { square: 1, portrait: 2 / 3, landscape: 3 / 2, wide: 16 / 9 };

/** Width and height of about `pixels`, in the multiples that models like. */
export function sizeOf(ratio, [width, height]) {
  const unit = Math.min(width, height) < 256 ? 16 : 64;
  const side = Math.sqrt(width * height);
  return [Math.sqrt(ratio), 1 / Math.sqrt(ratio)].map((part) => Math.max(unit, Math.round((side * part) / unit) * unit));
}

function sizeFields({ form, known, limits }) {
  const own = async () => {
    const size = () => known.models.get().find((model) => model.name === form.get().model)?.size ?? null;
    if (size() === null) known.models.set(await api.models()); // it may have been loaded since
    return size() ?? USUAL;
  };
  const about = { min: 8, max: limits.side, step: 8, empty: t("model_size") };
  const swap = button(t("swap"), {
    icon: "swap", bare: true, class: "quiet",
    onclick: () => form.change({ width: form.get().height, height: form.get().width }),
  });
  const shapes = el("div", { class: "chips shapes", role: "group", "aria-label": t("shapes") },
    Object.entries(SHAPES).map(([name, ratio]) =>
      button(t(`shape_${name}`), {
        class: "chip",
        onclick: telling(async () => {
          const [width, height] = sizeOf(ratio, await own());
          form.change({ width, height });
        }),
      })),
    button(t("shape_own"), { class: "chip", onclick: () => form.change({ width: null, height: null }) }));
  return el("div", { class: "size" },
    el("div", { class: "pair" }, number(form, "width", about), swap, number(form, "height", about)),
    shapes);
}

function seedFields({ form, last }) {
  const dice = button(t("seed_random"), { icon: "dice", bare: true, class: "quiet", onclick: () => form.change({ seed: null }) });
  const reuse = button(t("seed_reuse"), {
    icon: "recycle", bare: true, class: "quiet",
    onclick: () => { if (last.get()) form.change({ seed: last.get().seed }); },
  });
  last.watch((picture) => { reuse.disabled = picture === null; });
  const field = number(form, "seed", { min: 0, max: Number.MAX_SAFE_INTEGER, empty: t("random") });
  return el("div", { class: "seed" }, field, dice, reuse);
}

function variation({ form }) {
  const dice = button(t("seed_random"), {
    icon: "dice", bare: true, class: "quiet", onclick: () => form.change({ variation_seed: randomSeed() }),
  });
  return fold(t("variation"), { open: form.get().variation_on },
    toggle(form, "variation_on", { hint: t("variation_hint") }),
    el("div", { class: "seed" }, number(form, "variation_seed", { min: 0, max: 2 ** 32 - 1, empty: t("random") }), dice),
    slider(form, "variation_strength", { min: 0, max: 1, step: 0.01 }));
}

/** Shown where the sampler takes one. */
function eta({ form, known }) {
  const field = number(form, "eta", { min: 0, max: 1, step: 0.05, empty: t("samplers_own"), hint: t("eta_hint") });
  const show = () => { field.hidden = !known.samplers.get().find((each) => each.name === form.get().sampler)?.eta; };
  known.samplers.watch(show);
  form.watch(show);
  return field;
}

export function settingsBlock(app) {
  const { form, known, limits } = app;
  return el("div", { class: "settings card" },
    el("div", { class: "two" },
      choice(form, "sampler", known.choices(known.samplers, (each) => each.name)),
      choice(form, "schedule", known.choices(known.schedules, (each) => each.name))),
    slider(form, "steps", { min: 1, max: Math.min(limits.steps, 150) }),
    sizeFields(app),
    slider(form, "cfg_scale", { min: 1, max: 30, step: 0.5 }),
    seedFields(app),
    el("div", { class: "two" },
      slider(form, "count", { min: 1, max: Math.min(limits.pictures, 32) }),
      slider(form, "batch_size", { min: 1, max: Math.min(limits.batch_size, 16) })),
    secondPass(app),
    variation(app),
    fold(t("more"), {},
      el("div", { class: "two" },
        slider(form, "clip_skip", { min: 1, max: 12 }),
        slider(form, "guidance_rescale", { min: 0, max: 1, step: 0.05 })),
      eta(app),
      choice(form, "speed", ["exact", "balanced", "fast"].map((value) => ({ value, label: t(`speed_${value}`) }))),
      el("div", { class: "two" },
        choice(form, "rng", ["NV", "CPU"].map((value) => ({ value, label: t(`rng_${value}`) }))),
        choice(form, "emphasis", ["Original", "No norm", "Ignore", "None"].map((value) => ({ value, label: t(`emphasis_${value.replace(" ", "_")}`) })))),
      toggle(form, "tiling", { hint: t("tiling_hint") }),
      toggle(form, "expand", { hint: t("expand_hint") }),
      button(t("reset"), { class: "quiet", icon: "recycle", onclick: () => form.reset() })));
}
