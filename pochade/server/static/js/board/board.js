// The draft board: one idea becomes a sheet of variations to pin, compare, mix and refine.

import { arrange, button, el, shown } from "../dom.js";
import { lines, segments, slider } from "../fields.js";
import { randomSeed, requestOf } from "../form.js";
import { counted, t } from "../i18n.js";
import { note } from "../notes.js";
import { keep, recalled, watched } from "../state.js";
import { makeCell } from "./cell.js";
import { compare } from "./compare.js";
import { drafts, mixed, refined } from "./plan.js";
import { refineDialog } from "./refine.js";
import { openSheet } from "./sheet.js";

const HOWS = ["seeds", "near", "words", "guidance"];
const NEAR = 4; // more like this one
const BETWEEN = 3; // between two

export function boardPanel(panel, app) {
  const { form, hub, limits } = app;
  const sheet = openSheet(hub);
  const how = watched({ vary: "seeds", drafts: 8, draft_steps: 10, near_strength: 0.3, changes: "", ...recalled("drafts", {}) });
  how.watch((values) => keep("drafts", values));
  const chosen = watched(new Set());
  const { dialog, ask } = refineDialog(limits);

  // --- what is drafted
  const base = () => ({ ...requestOf({ ...form.get(), hires_on: false, expand: false }), steps: how.get().draft_steps });
  const make = () => {
    const { vary, drafts: count, near_strength: strength, changes } = how.get();
    if (vary === "words" && !changes.trim()) return note(t("changes_empty"), "bad");
    return sheet.add(drafts(base(), vary, { count, strength, changes }, randomSeed));
  };
  const strength = slider(how, "near_strength", { min: 0.05, max: 0.9, step: 0.05 });
  const changes = lines(how, "changes", { rows: 4, hint: t("changes_hint") });
  changes.querySelector("textarea").placeholder = "fox = owl\nflat style\non a blue background";
  const count = slider(how, "drafts", { min: 2, max: 24 });
  const vary = segments(t("vary"), HOWS.map((value) => ({ value, label: t(`vary_${value}`) })), how.get().vary, (value) => how.change({ vary: value }));
  how.watch((values) => {
    shown(strength, values.vary === "near");
    shown(changes, values.vary === "words");
    shown(count, values.vary !== "words");
  });
  const idea = lines(form, "prompt", { rows: 2, words: t("idea") });
  const go = button(t("make_drafts"), { icon: "grid", class: "primary", id: "make-drafts", onclick: make });
  const tray = el("div", { class: "board-tray card stack" },
    idea, el("div", { class: "field" }, el("span", { class: "field-words" }, t("vary")), vary),
    el("div", { class: "three" }, count, slider(how, "draft_steps", { min: 1, max: 40 }), strength), changes, go);

  // --- what stands on it
  const cell = (id) => sheet.cells.get().find((each) => each.id === id);
  const picked = () => sheet.cells.get().filter((each) => chosen.get().has(each.id) && each.picture);
  const rework = async (cells) => {
    const answer = await ask();
    if (!answer) return;
    for (const each of cells) {
      const request = refined(each.request, each.picture, answer);
      sheet.add([{ request, note: { kind: "refined" } }], { after: each.id, refinement: true });
    }
    chosen.set(new Set());
  };
  const acts = {
    choose: (id, on) => {
      const next = new Set(chosen.get());
      if (on) next.add(id);
      else next.delete(id);
      chosen.set(next);
    },
    open: (id) => {
      const pictures = sheet.cells.get().filter((each) => each.picture).map((each) => each.picture);
      app.view(pictures, cell(id).picture.id);
    },
    pin: (id) => sheet.pin(cell(id)),
    near: (id) => {
      const { request } = cell(id);
      const plans = drafts(request, "near", { count: NEAR, strength: how.get().near_strength }, randomSeed);
      sheet.add(plans, { after: id });
    },
    refine: (id) => rework([cell(id)]),
  };
  const cells = new Map();
  const kept = el("ul", { class: "drafts kept", "aria-label": t("kept") });
  const loose = el("ul", { class: "drafts", "aria-label": t("drafts") });
  const keptPart = el("section", { class: "board-part" }, el("h2", {}, t("kept")), kept);
  const clear = button(t("clear_board"), { icon: "bin", class: "quiet", onclick: () => {
    if (confirm(t("clear_sure"))) sheet.remove(sheet.cells.get().filter((each) => !each.pinned));
  } });
  const loosePart = el("section", { class: "board-part" }, el("div", { class: "board-head" }, el("h2", {}, t("drafts")), clear), loose);
  const empty = el("div", { class: "board-empty" }, el("p", { class: "welcome-title" }, t("board_empty")), el("p", {}, t("board_empty_more")));

  const place = (list, items) => {
    for (const { id } of items) if (!cells.has(id)) cells.set(id, makeCell(id, acts));
    arrange(list, items.map(({ id }) => cells.get(id).element));
  };
  const show = () => {
    const all = sheet.cells.get();
    const there = new Set(all.map((each) => each.id));
    for (const id of cells.keys()) if (!there.has(id)) cells.delete(id);
    place(kept, all.filter((each) => each.pinned));
    place(loose, all.filter((each) => !each.pinned));
    for (const each of all) cells.get(each.id).update(each, hub.jobs.get().get(each.job), chosen.get().has(each.id));
    shown(keptPart, all.some((each) => each.pinned));
    shown(loosePart, all.some((each) => !each.pinned));
    shown(empty, !all.length);
    const n = picked().length;
    shown(bar, n > 0);
    said.textContent = counted("chosen", n);
    comparing.disabled = n < 2 || n > 4;
    mixing.disabled = n !== 2;
  };

  // --- what can be done with the chosen ones
  const said = el("span", { class: "chosen-words" });
  const comparing = button(t("compare"), { icon: "columns", onclick: () => compare(picked()) });
  const mixing = button(t("mix"), { icon: "mix", onclick: () => {
    const [a, b] = picked();
    sheet.add(mixed(a.request, b.request, BETWEEN), { after: a.pinned ? null : a.id });
    chosen.set(new Set());
  } });
  const bar = el("div", { class: "board-bar card", role: "toolbar", "aria-label": t("chosen_tools"), hidden: true },
    said, comparing, mixing,
    button(t("refine"), { icon: "spark", onclick: () => rework(picked()) }),
    button(t("pin"), { icon: "pin", onclick: () => picked().forEach((each) => sheet.pin(each)) }),
    button(t("remove"), { icon: "bin", class: "danger", onclick: () => { sheet.remove(picked()); chosen.set(new Set()); } }),
    button(t("choose_none"), { icon: "close", bare: true, class: "quiet", onclick: () => chosen.set(new Set()) }));

  sheet.cells.watch(show);
  hub.jobs.watch(show);
  chosen.watch(show);
  app.changed.watch((picture) => {
    const mine = picture && sheet.cells.get().find((each) => each.picture?.id === picture.id);
    if (!mine) return;
    if (picture.removed) sheet.drop([mine.id]);
    else sheet.change(mine.id, { picture, pinned: picture.pinned });
  });
  panel.append(tray, el("div", { class: "board-sheet" }, keptPart, loosePart, empty), bar, dialog);
  return { make, findAgain: sheet.findAgain };
}
