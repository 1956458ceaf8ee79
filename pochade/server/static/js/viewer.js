// One picture, large, with its neighbours on the arrow keys and all that can be done with it.

import { api } from "./api.js";
import { button, el } from "./dom.js";
import { t } from "./i18n.js";
import { telling } from "./notes.js";
import { image, keepButtons, sendButtons, textTable } from "./pictures.js";

export function makeViewer(app) {
  let all = [];
  let at = 0;
  const current = () => all[at];

  const frame = el("div", { class: "viewer-frame" });
  const place = el("p", { class: "viewer-place" });
  const facts = el("div", { class: "viewer-facts" });
  const keeping = keepButtons(app, current, (picture) => {
    app.changed.set(picture ?? { ...current(), removed: true });
    if (picture) all[at] = picture;
    else all.splice(at, 1);
    if (!all.length) dialog.close();
    else show(Math.min(at, all.length - 1));
  });
  const before = button(t("before"), { icon: "left", bare: true, class: "viewer-step", onclick: () => show(at - 1) });
  const after = button(t("after"), { icon: "right", bare: true, class: "viewer-step", onclick: () => show(at + 1) });
  const dialog = el("dialog", { class: "viewer", "aria-label": t("viewer") },
    el("div", { class: "viewer-head" }, place, button(t("close"), { icon: "close", bare: true, class: "quiet", onclick: () => dialog.close() })),
    el("div", { class: "viewer-body" }, before, frame, after),
    el("div", { class: "viewer-side" }, sendButtons(app, current), keeping.row, facts));

  const show = telling(async (index) => {
    if (index < 0 || index >= all.length) return;
    at = index;
    const picture = current();
    before.disabled = at === 0;
    after.disabled = at === all.length - 1;
    place.textContent = t("place", { n: at + 1, all: all.length });
    frame.replaceChildren(image(picture));
    frame.style.setProperty("--across", picture.width);
    frame.style.setProperty("--down", picture.height);
    keeping.show(picture);
    facts.replaceChildren();
    const about = await api.info(`picture:${picture.id}`);
    if (picture === current()) facts.replaceChildren(textTable(about));
  });

  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select")) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(at + step);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  let touch = null;
  frame.addEventListener("pointerdown", (event) => { touch = event.clientX; });
  frame.addEventListener("pointerup", (event) => {
    const moved = touch === null ? 0 : event.clientX - touch;
    if (Math.abs(moved) > 60) show(at + (moved < 0 ? 1 : -1));
    touch = null;
  });

  return {
    dialog,
    close: () => dialog.close(),
    view: (pictures, id) => {
      all = [...pictures];
      dialog.showModal();
      show(Math.max(0, all.findIndex((picture) => picture.id === id)));
    },
  };
}
