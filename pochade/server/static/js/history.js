// Everything that this user has drawn, searched by its words.

import { api } from "./api.js";
import { button, el, keyed, shown } from "./dom.js";
import { t } from "./i18n.js";
import { telling } from "./notes.js";
import { thumb } from "./pictures.js";

const PAGE = 60;
const PAUSE_MS = 250;

export function historyPanel(panel, app) {
  let pictures = [];
  let next = null;
  let asked = 0; // questions so far: what answers an older one counts no more
  let turn = Promise.resolve(); // one request after another: none of them makes another's answer useless

  const search = el("input", { type: "search", placeholder: t("search"), "aria-label": t("search"), oninput: () => later() });
  const pinned = el("input", { type: "checkbox", onchange: () => load() });
  const grid = el("div", { class: "grid", role: "group", "aria-label": t("panel_history") });
  const place = keyed(grid, (picture) => thumb(app, picture, () => pictures));
  const empty = el("p", { class: "hint" });
  const more = button(t("show_more"), { class: "quiet", onclick: () => further() });

  const draw = () => {
    place(pictures);
    empty.textContent = search.value || pinned.checked ? t("nothing_found") : t("nothing_drawn");
    shown(empty, !pictures.length);
    shown(more, next !== null);
  };
  const ask = (before) => api.pictures({
    q: search.value.trim(), pinned: pinned.checked ? "true" : null, limit: PAGE, before,
  });
  const inTurn = (act) => telling(() => {
    const mine = asked;
    const now = turn.then(() => (mine === asked ? act(() => mine === asked) : undefined));
    turn = now.catch(() => null);
    return now;
  });
  const begin = inTurn(async (counts) => {
    const page = await ask(null);
    if (!counts()) return;
    ({ pictures, next } = page);
    draw();
  });
  const load = () => {
    asked += 1;
    turn = Promise.resolve();
    return begin();
  };
  const further = inTurn(async (counts) => {
    if (next === null) return;
    const page = await ask(next);
    if (!counts()) return;
    pictures = [...pictures, ...page.pictures];
    next = page.next;
    draw();
  });
  /** What is new comes before what is there, which stays, however many pages it is. */
  const freshen = inTurn(async (counts) => {
    let page = { next: null };
    let found = [];
    let known = -1; // the place of the last that was found, among those that are there
    do {
      page = await ask(page.next);
      if (!counts()) return;
      found = [...found, ...page.pictures];
      known = pictures.findIndex((picture) => picture.id === found.at(-1)?.id);
    } while (known < 0 && page.next !== null && found.length < pictures.length + PAGE);
    if (known < 0) next = page.next;
    pictures = known < 0 ? found : [...found, ...pictures.slice(known + 1)];
    draw();
  });
  let timer = null;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(load, PAUSE_MS);
  };
  let ending = null;
  const soon = () => {
    clearTimeout(ending);
    ending = setTimeout(() => (pictures.length ? freshen() : load()), PAUSE_MS);
  };

  app.tabs.now.watch((name) => { if (name === "history") (pictures.length ? freshen : load)(); });
  app.hub.over(() => { if (app.tabs.now.get() === "history") soon(); });
  app.changed.watch((picture) => {
    if (!picture) return;
    pictures = picture.removed ? pictures.filter((each) => each.id !== picture.id)
      : pictures.map((each) => (each.id === picture.id ? picture : each));
    draw();
  });
  panel.append(
    el("div", { class: "card search-bar" }, search, el("label", { class: "toggle" }, pinned, el("span", {}, t("only_pinned")))),
    grid, empty, more);
}
