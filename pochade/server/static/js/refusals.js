// What the server says is wrong, in the page's language. Its own sentences are English; those that a visitor
// of this page can meet are known here, and any other one is shown as it came.

import { has, t } from "./i18n.js";

/** Codes of docs/api.md that say all there is to say. */
const CODES = new Set([
  "unauthorized", "forbidden", "not_found", "conflict", "timeout", "too_large", "too_many", "internal", "stopping", "no_room",
  "busy",
]); // prettier-ignore

/** What an invalid request, or a job that failed, may be told: the sentence's form, and what its parts are called. */
const SENTENCES = [
  ["bounds", /^(?<field>.+?) is (?<value>\S+); it must lie between (?<low>\S+) and (?<high>\S+)$/],
  ["unknown", /'(?<name>[^']*)' is unknown; one of: (?<known>.*)$/s],
  ["long", /^(?<field>[\w.]+) has (?<n>[\d,]+) characters; at most (?<most>[\d,]+) are allowed$/],
  ["pixels", /(?<width>\d+) x (?<height>\d+) px(?: was sent)?; at most (?<most>[\d,]+) (?:px|pixels) are (?:accepted|allowed)$/],
  ["side", /^(?<field>\w+) is (?<value>\d+); this model draws multiples of (?<factor>\d+)/],
  ["no_picture", /^not a picture in a supported format/],
  ["pictures", /makes (?<n>\d+) pictures; at most (?<most>\d+) are allowed in one job$/],
  ["deaths", /^the worker process died or hung (?<n>\d+) times/],
  ["pins", /^your pinned pictures would take (?<n>[\d,]+) bytes; at most (?<most>[\d,]+) may be pinned/],
  ["no_room", /^on the server's disk: /],
  ["memory", /^out of memory/],
  ["inside", /^internal error: (?<kind>\w+)/],
];

/** "steps" as the form calls it; numbers as numbers, which each language writes in its way. */
function part(name, text) {
  if (name === "field") {
    const field = `field_${text.replace(/[ .]/g, "_")}`; // "hires.prompt", "hires steps"
    return has(field) ? t(field) : text;
  }
  return /^\d[\d,]*(\.\d+)?$/.test(text) ? Number(text.replaceAll(",", "")) : text;
}

/** A sentence of the server's. */
export function sentence(text) {
  for (const [name, form] of SENTENCES) {
    const found = form.exec(text);
    if (!found) continue;
    const parts = Object.entries(found.groups ?? {}).map(([place, value]) => [place, part(place, value)]);
    return t(`refusal_${name}`, Object.fromEntries(parts));
  }
  return t("refusal_other", { text });
}

/** Why an answer was no: an error of api.js. */
export function reason(error) {
  if (error.status === 0) return t("unreachable");
  if (error.status === 429 && error.retryAfter) return t("try_again_in", { n: error.retryAfter });
  return CODES.has(error.code) ? t(`refusal_${error.code}`) : sentence(error.message);
}
