// Everything that this user has drawn, searched by its words.

import { api } from "./api.js";
import { button, el, shown } from "./dom.js";
import { t } from "./i18n.js";
import { telling } from "./notes.js";
import { thumb } from "./pictures.js";

const PAGE = 60;
const PAUSE_MS = 250;

export function historyRoom(room, studio) {
  let pictures = [];
  let next = null;
  let asked = 0;

  const search = el("input", { type: "search", placeholder: t("search"), "aria-label": t("search"), oninput: () => later() });
  const pinned = el("input", { type: "checkbox", onchange: () => load() });
  const grid = el("div", { class: "grid", role: "group", "aria-label": t("room_history") });
  const empty = el("p", { class: "hint" });
  const more = button(t("show_more"), { class: "quiet", onclick: telling(() => load(true)) });

  const draw = () => {
    grid.replaceChildren(...pictures.map((picture) => thumb(studio, picture, () => pictures)));
    empty.textContent = search.value || pinned.checked ? t("nothing_found") : t("nothing_drawn");
    shown(empty, !pictures.length);
    shown(more, next !== null);
  };
  const load = telling(async (further = false) => {
    asked += 1;
    const mine = asked;
    const page = await api.pictures({
      q: search.value.trim(), pinned: pinned.checked ? "true" : null, limit: PAGE, before: further ? next : null,
    });
    if (mine !== asked) return; // a newer question has been asked since
    pictures = further ? [...pictures, ...page.pictures] : page.pictures;
    next = page.next;
    draw();
  });
  let timer = null;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(load, PAUSE_MS);
  };

  studio.tabs.now.watch((name) => { if (name === "history") load(); });
  studio.hub.over(() => { if (studio.tabs.now.get() === "history") later(); });
  studio.changed.watch((picture) => {
    if (!picture) return;
    pictures = picture.removed ? pictures.filter((each) => each.id !== picture.id)
      : pictures.map((each) => (each.id === picture.id ? picture : each));
    draw();
  });
  room.append(
    el("div", { class: "card search-bar" }, search, el("label", { class: "toggle" }, pinned, el("span", {}, t("only_pinned")))),
    grid, empty, more);
}
