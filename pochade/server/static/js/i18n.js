// The page's words. One table for each language; a test holds them to the same names.

import { messages as english } from "./messages/en.js";
import { messages as french } from "./messages/fr.js";
import { keep, recalled } from "./state.js";

export const LANGUAGES = { en: "English", fr: "Français" };
const TABLES = { en: english, fr: french };

/** The chosen language, or the first of the browser's that there is a table for. */
export function language() {
  const chosen = recalled("language", null);
  const wanted = [chosen, ...navigator.languages.map((name) => name.slice(0, 2))];
  return wanted.find((name) => Object.hasOwn(TABLES, name)) ?? "en";
}

/** Speak another language from now on. The page is built anew; a drawing in the middle is found again. */
export function speak(name) {
  keep("language", name);
  location.reload();
}

/** Whether there are words of this name. */
export const has = (name) => Object.hasOwn(english, name);

/** The words of `name`, with {places} filled. Numbers are written as the language writes them. */
export function t(name, values = {}) {
  const now = language();
  const text = TABLES[now][name] ?? english[name];
  if (text === undefined) throw new Error(`no words for '${name}'`);
  return text.replace(/\{(\w+)\}/g, (_, place) => {
    const value = values[place];
    return typeof value === "number" ? value.toLocaleString(now) : String(value);
  });
}

/** t(`${name}_one`) or t(`${name}_many`). */
export function counted(name, n) {
  const rule = new Intl.PluralRules(language()).select(n);
  return t(`${name}_${rule === "one" ? "one" : "many"}`, { n });
}

/** "3 s", "2 min": as precise as a prediction is. */
export function duration(seconds) {
  if (seconds < 1) return t("under_a_second");
  if (seconds < 90) return t("seconds", { n: Math.round(seconds) });
  if (seconds < 5400) return t("minutes", { n: Math.round(seconds / 60) });
  return t("hours", { n: Math.round(seconds / 360) / 10 });
}

/** "2.1 GB". */
export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(n, 1)) / 3));
  return `${(n / 1000 ** power).toLocaleString(language(), { maximumFractionDigits: 1 })} ${units[power]}`;
}
