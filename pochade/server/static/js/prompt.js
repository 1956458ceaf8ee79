// The prompt over the negative prompt, with A1111's keys, styles, and the LoRA browser.

import { button, el, keyed, shown } from "./dom.js";
import { fold, lines } from "./fields.js";
import { t } from "./i18n.js";

export const EXAMPLES = [
  "an owl, 3d style",
  "a sunflower, flat style",
  "a castle, noto style",
  "a red apple, flat style",
  "a frog on a light blue background, 3d style",
];

const STEP = 0.1;

/** Ctrl+Up and Ctrl+Down: the selected words, or the word at the cursor, count more or less. */
export function weigh(area, direction) {
  let { selectionStart: start, selectionEnd: end, value } = area;
  const inside = value.slice(0, end).match(/\(([^()]*)$/) && value.slice(end).match(/^([^()]*):([\d.]+)\)/);
  if (inside) {
    const open = value.lastIndexOf("(", start - 1) < 0 ? value.lastIndexOf("(", start) : value.lastIndexOf("(", start - 1);
    const close = value.indexOf(")", end) + 1;
    const [words, weight] = value.slice(open + 1, close - 1).split(/:(?=[\d.]+$)/);
    const next = Math.round((Number(weight) + direction * STEP) * 100) / 100;
    area.setRangeText(Math.abs(next - 1) < 1e-9 ? words : `(${words}:${next})`, open, close, "end");
    const from = Math.abs(next - 1) < 1e-9 ? open : open + 1;
    area.setSelectionRange(from, from + words.length);
  } else {
    if (start === end) {
      while (start > 0 && /[^\s,()[\]:]/.test(value[start - 1])) start -= 1;
      while (end < value.length && /[^\s,()[\]:]/.test(value[end])) end += 1;
    }
    while (end > start && /\s/.test(value[end - 1])) end -= 1;
    if (start === end) return;
    const words = value.slice(start, end);
    area.setRangeText(`(${words}:${(1 + direction * STEP).toFixed(1)})`, start, end, "end");
    area.setSelectionRange(start + 1, start + 1 + words.length);
  }
  area.dispatchEvent(new Event("input"));
}

/** Put words at the end of the prompt, or take them out if they are there. */
export function toggleWords(form, words) {
  const now = form.get().prompt;
  const next = now.includes(words) ? now.replace(words, "").replace(/ {2,}/g, " ").trim() : `${now.trim()} ${words}`.trim();
  form.change({ prompt: next });
}

function chips(list, empty, make) {
  const place = el("div", { class: "chips" });
  list.watch((items) => {
    place.replaceChildren(...(items.length ? items.map(make) : [el("p", { class: "hint" }, empty)]));
  });
  return place;
}

/** The server's styles, and behind them those that are chosen and not there any more: a click lets go of one. */
function styleChips({ form, known }) {
  const place = el("div", { class: "chips", role: "group", "aria-label": t("styles"), tabindex: "-1" });
  const none = el("p", { class: "hint" }, t("no_styles"));
  const lay = keyed(place, ({ name }) => {
    const element = button(name, {
      class: "chip",
      data: { style: name },
      onclick: () => {
        const now = form.get().styles;
        form.change({ styles: now.includes(name) ? now.filter((each) => each !== name) : [...now, name] });
      },
    });
    const update = (style) => {
      element.classList.toggle("gone", Boolean(style.gone));
      element.title = style.gone ? t("style_gone") : [style.prompt, style.negative_prompt].filter(Boolean).join("\n");
      element.lastChild.textContent = style.gone ? t("gone", { name }) : name;
      element.setAttribute("aria-pressed", form.get().styles.includes(name));
    };
    return { element, update };
  }, (style) => style.name);
  let [there, chosen] = [null, null];
  const show = () => {
    const now = [known.styles.get(), form.get().styles];
    if (now[0] === there && now[1] === chosen) return;
    [there, chosen] = now;
    const gone = chosen.filter((name) => !there.some((style) => style.name === name));
    lay([...there, ...gone.map((name) => ({ name, gone: true }))]);
    shown(none, !there.length && !gone.length);
  };
  known.styles.watch(show);
  form.watch(show);
  return el("div", {}, place, none);
}

/** LoRAs and embeddings: a click puts one into the prompt, the next takes it out again. */
function additions({ form, known }) {
  const filter = el("input", { type: "search", placeholder: t("filter"), "aria-label": t("filter"), oninput: () => narrow() });
  const loras = chips(known.loras, t("no_loras"), (lora) =>
    button(lora.title || lora.name, { class: "chip", data: { words: `<lora:${lora.name}:1>` } }));
  const embeddings = chips(known.embeddings, t("no_embeddings"), (each) =>
    button(each.title || each.name, { class: "chip", data: { words: each.name } }));
  const both = el("div", { class: "additions" }, el("h3", {}, t("loras")), loras, el("h3", {}, t("embeddings")), embeddings);
  both.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-words]");
    if (chip) toggleWords(form, chip.dataset.words);
  });
  const mark = () => {
    for (const chip of both.querySelectorAll("[data-words]")) {
      chip.setAttribute("aria-pressed", form.get().prompt.includes(chip.dataset.words));
    }
  };
  const narrow = () => {
    for (const chip of both.querySelectorAll("[data-words]")) {
      chip.hidden = !chip.textContent.toLowerCase().includes(filter.value.trim().toLowerCase());
    }
  };
  form.watch(mark);
  known.loras.watch(mark);
  known.embeddings.watch(mark);
  return el("div", {}, filter, both);
}

export function promptBlock(app) {
  const { form } = app;
  const positive = lines(form, "prompt", { rows: 2 });
  const negative = lines(form, "negative_prompt", { rows: 1 });
  const area = positive.querySelector("textarea");
  area.placeholder = t("prompt_hint");
  negative.querySelector("textarea").placeholder = t("negative_hint");
  for (const each of [area, negative.querySelector("textarea")]) {
    each.addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
      event.preventDefault();
      weigh(each, event.key === "ArrowUp" ? 1 : -1);
    });
  }
  const chosen = el("span", { class: "badge" });
  form.watch(({ styles }) => {
    chosen.textContent = styles.length || "";
    chosen.hidden = !styles.length;
  });
  return el("div", { class: "prompt-block card" },
    positive, negative,
    el("div", { class: "prompt-extras" },
      fold(t("styles"), { summary: chosen }, styleChips(app)),
      fold(t("additions"), {}, additions(app))),
  );
}
