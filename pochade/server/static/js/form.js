// What is asked for: one flat object that fields are bound to, and the way from it to a request and back.

import { keep, recalled, watched } from "./state.js";

export const FIRST_PROMPT = "a frog, 3d style";

/** null means: the model's own choice, or a random one. */
const BLANK = {
  prompt: FIRST_PROMPT,
  negative_prompt: "",
  model: null,
  sampler: "DPM++ 2M",
  schedule: "Automatic",
  steps: 20,
  width: null,
  height: null,
  cfg_scale: 7,
  guidance_rescale: 0,
  batch_size: 1,
  count: 1,
  seed: null,
  clip_skip: 1,
  eta: null,
  speed: "exact",
  tiling: false,
  rng: "NV",
  emphasis: "Original",
  expand: false,
  styles: [],
  variation_on: false,
  variation_seed: null,
  variation_strength: 0.2,
  hires_on: false,
  hires_scale: 2,
  hires_steps: null,
  hires_upscaler: "Latent",
  hires_strength: 0.7,
  hires_prompt: "",
  hires_negative_prompt: "",
  hires_sampler: "",
  hires_schedule: "",
  hires_cfg_scale: null,
  hires_model: "",
  denoising_strength: 0.75,
  outpaint_strength: 1,
  resize_mode: "crop",
  mask_blur: 4,
  fill: "original",
  only_masked: false,
  padding: 32,
};

const PLAIN = [
  "prompt", "negative_prompt", "model", "sampler", "schedule", "steps", "width", "height", "cfg_scale",
  "guidance_rescale", "batch_size", "count", "seed", "clip_skip", "eta", "speed", "tiling", "rng", "emphasis",
  "expand", "styles",
]; // prettier-ignore

/** What a second pass may have of its own, as its request calls it; empty is as in the first pass. */
export const HIRES_OWN = ["prompt", "negative_prompt", "sampler", "schedule", "cfg_scale", "model"];

/** The form as it was left, or with the server's defaults on the first visit. */
export function openForm(defaults) {
  const known = Object.fromEntries(PLAIN.filter((name) => defaults[name] !== undefined).map((name) => [name, defaults[name]]));
  const fresh = { ...BLANK, ...known, prompt: FIRST_PROMPT };
  const left = recalled("form", {});
  const kept = Object.fromEntries(Object.entries(left).filter(([name]) => Object.hasOwn(fresh, name)));
  const form = watched({ ...fresh, ...kept });
  form.watch((values) => keep("form", values));
  return { ...form, reset: () => form.set({ ...fresh, model: form.get().model }) };
}

/** The fields of POST /jobs. Without a source picture: see `withSource`. */
export function requestOf(values) {
  const request = { kind: "txt2img", ...Object.fromEntries(PLAIN.map((name) => [name, values[name]])) };
  if (values.variation_on) {
    request.variation = { seed: values.variation_seed ?? randomSeed(), strength: values.variation_strength };
  }
  if (values.hires_on) {
    request.hires = {
      scale: values.hires_scale,
      steps: values.hires_steps,
      upscaler: values.hires_upscaler,
      denoising_strength: values.hires_strength,
      ...Object.fromEntries(HIRES_OWN.map((name) => [name, values[`hires_${name}`] || null])),
    };
  }
  return request;
}

/** The same, drawn over a picture. source: {image, mask, outpaint}, the latter two null if there are none. */
export function withSource(values, { image, mask = null, outpaint = null }) {
  const request = requestOf({ ...values, hires_on: false });
  request.kind = mask || outpaint ? "inpaint" : "img2img";
  request.source = {
    image,
    mask,
    outpaint,
    denoising_strength: outpaint ? values.outpaint_strength : values.denoising_strength,
    resize_mode: values.resize_mode,
    mask_blur: values.mask_blur,
    fill: values.fill,
    only_masked: values.only_masked && mask !== null,
    padding: values.padding,
  };
  return request;
}

/** What the form becomes when a request (of a job or of a picture's text) is sent to it. */
export function formOf(request) {
  const values = {};
  for (const name of PLAIN) if (request[name] !== undefined && request[name] !== null) values[name] = request[name];
  values.width = request.width ?? null;
  values.height = request.height ?? null;
  values.eta = request.eta ?? null;
  values.styles = request.styles ?? [];
  values.batch_size = 1;
  values.count = 1;
  const { variation, hires, source } = request;
  values.variation_on = Boolean(variation && variation.strength > 0);
  if (values.variation_on) Object.assign(values, { variation_seed: variation.seed, variation_strength: variation.strength });
  values.hires_on = Boolean(hires);
  if (hires) {
    Object.assign(values, {
      hires_scale: scaleOf(request) ?? hires.scale ?? 2,
      hires_steps: hires.steps ?? null,
      hires_upscaler: hires.upscaler,
      hires_strength: hires.denoising_strength,
      ...Object.fromEntries(HIRES_OWN.map((name) => [`hires_${name}`, hires[name] ?? BLANK[`hires_${name}`]])),
    });
  }
  if (source) {
    if (source.outpaint) values.outpaint_strength = source.denoising_strength ?? BLANK.outpaint_strength;
    else values.denoising_strength = source.denoising_strength ?? BLANK.denoising_strength;
    for (const name of ["resize_mode", "mask_blur", "fill", "only_masked", "padding"]) {
      if (source[name] !== undefined && source[name] !== null) values[name] = source[name];
    }
  }
  return values;
}

/** The scale of a second pass that a request gives a size; null if there is no size, or no scale that gives it. */
export function scaleOf({ width, height, hires }) {
  if (!hires?.size || !width || !height) return null;
  const scale = hires.size[0] / width;
  return Math.round(width * scale) === hires.size[0] && Math.round(height * scale) === hires.size[1] ? scale : null;
}

export function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}
