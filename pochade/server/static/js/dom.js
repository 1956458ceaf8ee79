// Making elements. Text always goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * el("button", {class: "quiet", onclick: f, "aria-label": "Undo"}, icon("undo"), "Undo")
 * Functions become listeners, booleans attributes without a value, null and undefined nothing.
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value" || name === "htmlFor") element[name] = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A drawing from icons.svg. It is decoration: what holds it has the name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon. Without visible text, `label` is its name and its hint. */
export function button(label, { icon: drawing = null, bare = false, ...properties } = {}) {
  const shown = bare ? [] : [el("span", {}, label)];
  const named = bare ? { "aria-label": label, title: label } : {};
  return el("button", { type: "button", ...named, ...properties }, drawing && icon(drawing), ...shown);
}

/** Show or hide without losing focus to nowhere. */
export function shown(element, visible) {
  element.hidden = !visible;
  return element;
}

const FOCUSABLE = "button:not(:disabled), input:not(:disabled), a[href]";

/**
 * Make these the children of a list. What stays is not touched: a button that is replaced between press and
 * release loses its click, and one that is moved loses the focus. Where what has the focus goes, its neighbour gets
 * it, or what is around the list.
 */
export function arrange(list, elements) {
  const focused = document.activeElement;
  const at = [...list.children].findIndex((child) => child.contains(focused));
  const wanted = new Set(elements);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  let next = list.firstElementChild;
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling;
    else list.insertBefore(element, next);
  }
  if (document.activeElement === focused) return;
  if (focused.isConnected) return focused.focus({ preventScroll: true });
  if (at < 0) return;
  const near = list.children[Math.min(at, list.children.length - 1)];
  const heir = near?.matches(FOCUSABLE) ? near : near?.querySelector(FOCUSABLE);
  (heir ?? list.closest("[tabindex]"))?.focus({ preventScroll: true });
}

/**
 * A function from items to a list's children. make(item): {element, update(item)}, called for what is new only;
 * update is called for every item each time. key(item): what makes it the same one.
 */
export function keyed(list, make, key = (item) => item.id) {
  const made = new Map();
  return (items) => {
    const there = new Set(items.map(key));
    for (const each of made.keys()) if (!there.has(each)) made.delete(each);
    const elements = items.map((item) => {
      if (!made.has(key(item))) made.set(key(item), make(item));
      const { element, update } = made.get(key(item));
      update?.(item);
      return element;
    });
    arrange(list, elements);
  };
}

let last = 0;

/** A new id, for labels and what they name. */
export function freshId(word = "x") {
  last += 1;
  return `${word}-${last}`;
}
