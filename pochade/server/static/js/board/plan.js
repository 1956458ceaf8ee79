// What a draft board asks for: variations of an idea, and what lies between two of them. Arithmetic only.

const SPREAD = [3, 12]; // of guidance, from loose to literal
const LATEST_CHANGE = 0.7; // what comes after this share of the steps hardly changes what is to be seen

/** Even steps from 0 to 1, without the ends. */
export function between(count) {
  return Array.from({ length: count }, (_, i) => (i + 1) / (count + 1));
}

/** A prompt with one line of change: "fox = owl" puts one for the other, anything else is added at the end. */
export function changed(prompt, line) {
  const [from, to] = line.split("=").map((part) => part.trim());
  if (to !== undefined && from && prompt.includes(from)) return prompt.replaceAll(from, to);
  const words = to === undefined ? line.trim() : to;
  return words ? `${prompt.trim().replace(/,$/, "")}, ${words}` : prompt;
}

/**
 * Requests for drafts of `base`, each with a note that says what is its own.
 * how: "seeds" (other noise), "near" (the noise of one seed, changed a little), "words" (one line of change
 * each), "guidance" (from loose to literal). random(): a new seed.
 */
export function drafts(base, how, { count, strength, changes }, random) {
  const seed = base.seed ?? random();
  const same = { ...base, seed, batch_size: 1, count: 1 };
  if (how === "near") {
    return Array.from({ length: count }, () => {
      const variation = { seed: random(), strength };
      return { request: { ...same, variation }, note: { kind: "near", strength } };
    });
  }
  if (how === "words") {
    const lines = changes.split("\n").filter((line) => line.trim());
    return [base.prompt, ...lines.map((line) => changed(base.prompt, line))].map((prompt, i) => ({
      request: { ...same, prompt },
      note: { kind: "words", words: i ? lines[i - 1].trim() : "" },
    }));
  }
  if (how === "guidance") {
    return Array.from({ length: count }, (_, i) => {
      const share = count > 1 ? i / (count - 1) : 0.5;
      const cfg_scale = Math.round(2 * (SPREAD[0] + share * (SPREAD[1] - SPREAD[0]))) / 2;
      return { request: { ...same, cfg_scale }, note: { kind: "guidance", cfg_scale } };
    });
  }
  return Array.from({ length: count }, (_, i) => ({
    request: { ...same, seed: i === 0 ? seed : random() },
    note: { kind: "seeds" },
  }));
}

const SPECIAL = /[[\]()|:<>{}\\]/;

/** Two prompts as one that becomes the second on the way: what they share stays, the rest is [a:b:when]. */
export function mergedPrompt(a, b, share) {
  if (a === b) return a;
  const [left, right] = [a, b].map((text) => text.split(/(\s+|(?=,))/).filter((part) => part !== ""));
  let head = 0;
  while (head < Math.min(left.length, right.length) && left[head] === right[head]) head += 1;
  let tail = 0;
  while (tail < Math.min(left.length, right.length) - head && left.at(-1 - tail) === right.at(-1 - tail)) tail += 1;
  const middle = [left, right].map((parts) => parts.slice(head, parts.length - tail).join(""));
  const when = Math.round((1 - share) * LATEST_CHANGE * 100) / 100;
  if (middle.some((words) => SPECIAL.test(words))) {
    return `${a} :${(1 - share).toFixed(2)} AND ${b} :${share.toFixed(2)}`;
  }
  const before = left.slice(0, head).join("");
  const after = tail ? left.slice(-tail).join("") : "";
  return `${before}[${middle[0]}:${middle[1]}:${when}]${after}`;
}

const strengthOf = (request) => request.variation?.strength ?? 0;

/** The noise that lies `share` of the way from one request's to another's, as a seed and a variation. */
export function mixedNoise(a, b, share) {
  if (a.seed !== b.seed) return { seed: a.seed, variation: { seed: b.seed, strength: share } };
  const far = strengthOf(b) >= strengthOf(a) ? b : a;
  if (strengthOf(far) === 0) return { seed: a.seed, variation: null };
  const way = far === b ? share : 1 - share;
  return { seed: a.seed, variation: { seed: far.variation.seed, strength: way * strengthOf(far) } };
}

/** `count` requests between two: noise, prompt and guidance on their way from the first to the second. */
export function mixed(a, b, count) {
  const lerp = (from, to, share) => Math.round((from + share * (to - from)) * 100) / 100;
  return between(count).map((share) => ({
    request: {
      ...a,
      ...mixedNoise(a, b, share),
      prompt: mergedPrompt(a.prompt, b.prompt, share),
      negative_prompt: a.negative_prompt === b.negative_prompt ? a.negative_prompt
        : [a.negative_prompt, b.negative_prompt].filter(Boolean).join(", "),
      cfg_scale: lerp(a.cfg_scale, b.cfg_scale, share),
      steps: Math.max(a.steps, b.steps),
    },
    note: { kind: "mixed", share },
  }));
}

/** A draft, worked out: more steps, larger by a second pass, or drawn over what it is now. */
export function refined(request, picture, { steps, scale, over, strength }) {
  const more = { ...request, steps, preview: true };
  if (over) {
    return {
      ...more,
      kind: "img2img",
      hires: null,
      width: Math.round((picture.width * scale) / 8) * 8,
      height: Math.round((picture.height * scale) / 8) * 8,
      source: { image: `picture:${picture.id}`, denoising_strength: strength },
    };
  }
  return scale > 1 ? { ...more, hires: { scale, upscaler: "Latent", denoising_strength: strength } } : more;
}

/** In which fields requests differ: [[name, [value, ...]], ...]. */
export function differences(requests) {
  const names = ["prompt", "negative_prompt", "model", "seed", "variation", "steps", "cfg_scale", "sampler", "schedule", "width", "height", "hires"];
  return names
    .map((name) => [name, requests.map((request) => request[name] ?? null)])
    .filter(([, values]) => new Set(values.map((value) => JSON.stringify(value))).size > 1);
}
