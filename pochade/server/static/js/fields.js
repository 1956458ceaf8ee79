// Fields that are bound to a watched form: what is typed changes the form, and the form changes what is shown.

import { button, el, freshId } from "./dom.js";
import { t } from "./i18n.js";

/** A label above its control. `name` is the field's in the form and the words' in the tables. */
export function labelled(name, control, { hint = null, aside = null, words = t(`field_${name}`) } = {}) {
  control.id ||= freshId(name);
  const label = el("label", { htmlFor: control.id }, words);
  const about = hint && el("p", { class: "hint", id: freshId("hint") }, hint);
  if (about) control.setAttribute("aria-describedby", about.id);
  return el("div", { class: `field field-${name}` }, el("div", { class: "field-head" }, label, aside), control, about);
}

const parsed = (text) => (text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text));

/** A number, or nothing where nothing is allowed (`empty` says what that means). */
export function number(form, name, { min, max, step = 1, empty = null, ...more }) {
  const input = el("input", {
    type: "number", inputmode: step < 1 ? "decimal" : "numeric", min, max, step: step < 1 ? "any" : step, placeholder: empty,
    onchange: () => {
      const value = parsed(input.value);
      const kept = value === null ? (empty === null ? form.get()[name] : null) : Math.min(max, Math.max(min, value));
      form.change({ [name]: kept !== null && step >= 1 ? Math.round(kept) : kept });
      show();
    },
  });
  const show = () => {
    const value = form.get()[name];
    if (document.activeElement !== input || parsed(input.value) !== value) input.value = value ?? "";
  };
  form.watch(show);
  return labelled(name, input, more);
}

/** A number with a bar to drag; both have the label. */
export function slider(form, name, { min, max, step = 1, ...more }) {
  const change = (text) => {
    const value = parsed(text);
    if (value !== null) form.change({ [name]: Math.min(Number(box.max), Math.max(min, value)) });
  };
  const box = el("input", {
    type: "number", class: "small", inputmode: step < 1 ? "decimal" : "numeric", min, max, step: "any",
    "aria-label": t(`field_${name}`), onchange: () => { change(box.value); show(); },
  });
  const bar = el("input", { type: "range", min, max, step, oninput: () => change(bar.value) });
  const show = () => {
    const value = form.get()[name];
    bar.value = value;
    bar.style.setProperty("--share", `${(100 * (value - min)) / (max - min)}%`);
    box.value = value;
  };
  form.watch(show);
  return labelled(name, bar, { ...more, aside: box });
}

/**
 * A list to choose from. options: [{value, label}], or a watched list of them. What is chosen and not among them
 * (any more) is shown as such, until another one is chosen.
 */
export function choice(form, name, options, more = {}) {
  const list = el("select", { onchange: () => form.change({ [name]: list.value }) });
  let known = [];
  const show = () => {
    const value = form.get()[name] ?? "";
    const gone = list.querySelector("[data-gone]");
    const missing = value !== "" && !known.some((item) => item.value === value);
    if (gone && !(missing && gone.value === value)) gone.remove();
    if (missing && gone?.value !== value) list.append(el("option", { value, data: { gone: "" } }, t("gone", { name: value })));
    list.value = value;
  };
  const fill = (items) => {
    known = items;
    list.replaceChildren(...items.map((item) => el("option", { value: item.value }, item.label)));
    show();
  };
  if (Array.isArray(options)) fill(options);
  else options.watch(fill);
  form.watch(show);
  return labelled(name, list, more);
}

/** A switch with its words beside it. */
export function toggle(form, name, { hint = null } = {}) {
  const box = el("input", { type: "checkbox", onchange: () => form.change({ [name]: box.checked }) });
  form.watch((values) => { box.checked = values[name]; });
  const words = el("span", {}, t(`field_${name}`), hint && el("small", {}, hint));
  return el("label", { class: "toggle" }, box, words);
}

/** Lines of text that grow with what is written. */
export function lines(form, name, { rows = 2, ...more } = {}) {
  const area = el("textarea", { rows, spellcheck: "false", autocomplete: "off", oninput: () => form.change({ [name]: area.value }) });
  form.watch((values) => {
    if (area.value !== values[name]) area.value = values[name];
  });
  return labelled(name, area, more);
}

/** A part that can be folded away; it is open if `open`, and says in a few words what is set in it. */
export function fold(words, { open = false, summary = null, id = null } = {}, ...children) {
  return el(
    "details",
    { class: "fold", open, id },
    el("summary", {}, el("span", { class: "fold-name" }, words), summary),
    el("div", { class: "fold-body" }, ...children),
  );
}

/** Buttons of which one is chosen. */
export function segments(label, options, chosen, onchoose) {
  const group = el("div", { class: "segments", role: "radiogroup", "aria-label": label });
  const show = (value) => {
    for (const each of group.children) {
      const on = each.dataset.value === value;
      each.setAttribute("aria-checked", on);
      each.tabIndex = on ? 0 : -1;
    }
  };
  const choose = (value) => { show(value); onchoose(value); };
  group.append(
    ...options.map((option) =>
      button(option.label, { role: "radio", data: { value: option.value }, onclick: () => choose(option.value) }),
    ),
  );
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...group.children];
    const next = all[(all.indexOf(event.target) + step + all.length) % all.length];
    next.focus();
    choose(next.dataset.value);
  });
  show(chosen);
  return group;
}
