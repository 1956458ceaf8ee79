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

let last = 0;

/** A new id, for labels and what they name. */
export function freshId(word = "x") {
  last += 1;
  return `${word}-${last}`;
}
