// Puts the page together: what there is, the rooms, and the keys.

import { address, api, onUnauthorized } from "./api.js";
import { boardRoom } from "./board/board.js";
import { LABEL as BOARD_LABEL } from "./board/sheet.js";
import { el, shown } from "./dom.js";
import { choice } from "./fields.js";
import { formOf, openForm, withSource, requestOf } from "./form.js";
import { generateBar, generateBlock, queueChip, stop } from "./generate.js";
import { historyRoom } from "./history.js";
import { language, t } from "./i18n.js";
import { infoRoom } from "./info.js";
import { openHub } from "./jobs.js";
import { openCatalogue } from "./known.js";
import { enter, staying } from "./login.js";
import { complain, note, say, telling } from "./notes.js";
import { overBlock } from "./over.js";
import { preferencesRoom } from "./preferences.js";
import { promptBlock } from "./prompt.js";
import { settingsBlock } from "./settings.js";
import { makeStage } from "./stage.js";
import { watched } from "./state.js";
import { makeTabs } from "./tabs.js";
import { LABEL as UPSCALE_LABEL, upscaleRoom } from "./upscale.js";
import { makeViewer } from "./viewer.js";

const LABEL = "page";
const ROOMS = { draw: "brush", over: "layers", board: "grid", upscale: "enlarge", info: "info", history: "clock", settings: "gear" };

async function open() {
  document.documentElement.lang = language();
  document.getElementById("skip-link").textContent = t("skip_to_page");
  document.getElementById("opening").textContent = t("opening");
  const session = await enter();
  const admitted = staying(session);
  onUnauthorized(admitted);
  const [defaults, status, known] = await Promise.all([api.defaults(), api.status(), openCatalogue()]);
  const hub = openHub([LABEL, BOARD_LABEL, UPSCALE_LABEL]);
  const tabs = makeTabs(ROOMS);
  const form = openForm(defaults);
  if (!known.models.get().some((model) => model.name === form.get().model)) form.change({ model: known.standard() });
  const limits = status.limits;

  /** What the rooms share. Each is given this, and nothing is reached by another way. */
  const studio = {
    session, hub, tabs, form, known, limits,
    label: LABEL,
    last: watched(null), // the newest picture, for its seed
    changed: watched(null), // a picture that was pinned or removed
  };
  studio.changed.watch((picture) => { if (picture?.removed) hub.drop(picture.id); });
  const viewer = makeViewer(studio);
  const over = overBlock(studio);
  studio.draw = telling(async () => {
    const room = tabs.now.get();
    const source = room === "over" ? over.source() : null;
    if (room === "over" && source === null) return note(t("drop_first"), "bad");
    const request = source === null ? requestOf(form.get()) : withSource(form.get(), source);
    say(t("asked"));
    return hub.submit({ ...request, label: LABEL });
  });
  studio.view = viewer.view;
  studio.closeViewer = viewer.close;
  studio.toDraw = (request) => {
    form.change(formOf(request));
    tabs.go("draw");
  };
  studio.toOver = (send, picture) => {
    form.change({ width: null, height: null });
    tabs.go("over");
    over.take(address(picture.url), send);
  };
  studio.toBoard = (request) => {
    form.change(formOf(request));
    tabs.go("board");
  };
  const { rooms } = tabs;
  const upscale = upscaleRoom(rooms.upscale, studio);
  studio.toUpscale = (picture) => { tabs.go("upscale"); upscale.take(picture); };
  const board = boardRoom(rooms.board, studio);
  const info = infoRoom(rooms.info, studio);
  historyRoom(rooms.history, studio);
  preferencesRoom(rooms.settings, studio);

  // Text to picture and picture to picture are one desk: what is over it moves with the tab.
  const desk = el("div", { class: "desk" },
    el("div", { class: "desk-words" }, promptBlock(studio)),
    el("div", { class: "desk-go" }, generateBlock(studio)),
    el("div", { class: "desk-over" }, over.element),
    el("div", { class: "desk-settings" }, settingsBlock(studio)),
    el("div", { class: "desk-stage" }, makeStage(studio)));
  tabs.now.watch((name) => {
    if (name !== "draw" && name !== "over") return;
    rooms[name].append(desk);
    shown(desk.querySelector(".desk-over"), name === "over");
    shown(desk.querySelector("#hires"), name === "draw");
  });

  const model = choice(form, "model", known.choices(known.models, (each) => each.title || each.name));
  let before = form.get().model;
  model.addEventListener("change", () => {
    // What a model was made for, in place of what is still as the model before had it.
    const usual = (name) => known.models.get().find((each) => each.name === name)?.usual ?? {};
    const [old, now, values] = [usual(before), usual(form.get().model), form.get()];
    before = values.model;
    form.change(Object.fromEntries(Object.keys(now).filter((key) => values[key] === old[key]).map((key) => [key, now[key]])));
  });
  document.getElementById("bar").replaceChildren(
    el("div", { class: "bar-top" },
      el("a", { class: "brand", href: "#draw" }, el("img", { src: "static/icon.svg", alt: "", width: 28, height: 28 }), "Pochade"),
      el("div", { class: "bar-model" }, model), ...queueChip(studio)),
    el("nav", { "aria-label": t("rooms") }, tabs.list));
  document.getElementById("rooms").replaceChildren(...Object.values(rooms));
  document.body.append(viewer.dialog, generateBar(studio));

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (tabs.now.get() === "board") board.make();
      else if (["draw", "over"].includes(tabs.now.get())) studio.draw();
    } else if (event.key === "Escape" && !document.querySelector("dialog[open], :popover-open")) {
      telling(stop)(hub);
    }
  });

  const pasted = { over: over.takeFile, upscale: upscale.takeFile, info: info.take };
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    const take = pasted[tabs.now.get()];
    if (!file || !take) return;
    event.preventDefault();
    take(file);
  });

  // What was being drawn, or was drawn last, when the page was left.
  hub.connect(admitted);
  const { jobs } = await api.jobs({ label: LABEL, limit: 12 });
  for (const job of jobs.reverse()) hub.take(job);
  studio.last.set(hub.all().findLast((job) => job.pictures.length)?.pictures[0] ?? null);
  board.findAgain(); // however long it takes: the page can be used meanwhile
  document.documentElement.dataset.ready = "yes";
}

open().catch((error) => {
  document.getElementById("opening")?.remove();
  complain(error);
});
