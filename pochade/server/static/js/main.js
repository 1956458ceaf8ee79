// Puts the page together: what there is, the panels, and the keys.

import { address, api, onUnauthorized } from "./api.js";
import { boardPanel } from "./board/board.js";
import { LABEL as BOARD_LABEL } from "./board/sheet.js";
import { el, shown } from "./dom.js";
import { choice } from "./fields.js";
import { formOf, openForm, withSource, requestOf } from "./form.js";
import { generateBar, generateBlock, queueChip, stop } from "./generate.js";
import { historyPanel } from "./history.js";
import { language, t } from "./i18n.js";
import { infoPanel } from "./info.js";
import { openHub } from "./jobs.js";
import { openCatalogue } from "./known.js";
import { enter, staying } from "./login.js";
import { complain, note, say, telling } from "./notes.js";
import { overBlock } from "./over.js";
import { preferencesPanel } from "./preferences.js";
import { promptBlock } from "./prompt.js";
import { settingsBlock } from "./settings.js";
import { makeStage } from "./stage.js";
import { watched } from "./state.js";
import { makeTabs } from "./tabs.js";
import { LABEL as UPSCALE_LABEL, upscalePanel } from "./upscale.js";
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

  /** What the panels share. Each is given this, and nothing is reached by another way. */
  const app = {
    session, hub, tabs, form, known, limits,
    label: LABEL,
    last: watched(null), // the newest picture, for its seed
    changed: watched(null), // a picture that was pinned or removed
  };
  app.changed.watch((picture) => { if (picture?.removed) hub.drop(picture.id); });
  const viewer = makeViewer(app);
  const over = overBlock(app);
  app.draw = telling(async () => {
    const panel = tabs.now.get();
    const source = panel === "over" ? over.source() : null;
    if (panel === "over" && source === null) return note(t("drop_first"), "bad");
    const request = source === null ? requestOf(form.get()) : withSource(form.get(), source);
    say(t("asked"));
    return hub.submit({ ...request, label: LABEL });
  });
  app.view = viewer.view;
  app.closeViewer = viewer.close;
  app.toDraw = (request) => {
    form.change(formOf(request));
    tabs.go("draw");
  };
  app.toOver = (send, picture) => {
    form.change({ width: null, height: null });
    tabs.go("over");
    over.take(address(picture.url), send);
  };
  app.toBoard = (request) => {
    form.change(formOf(request));
    tabs.go("board");
  };
  const { panels } = tabs;
  const upscale = upscalePanel(panels.upscale, app);
  app.toUpscale = (picture) => { tabs.go("upscale"); upscale.take(picture); };
  const board = boardPanel(panels.board, app);
  const info = infoPanel(panels.info, app);
  historyPanel(panels.history, app);
  preferencesPanel(panels.settings, app);

  // Text to image and image to image share one workspace, which moves to the active tab.
  const workspace = el("div", { class: "workspace" },
    el("div", { class: "workspace-words" }, promptBlock(app)),
    el("div", { class: "workspace-go" }, generateBlock(app)),
    el("div", { class: "workspace-over" }, over.element),
    el("div", { class: "workspace-settings" }, settingsBlock(app)),
    el("div", { class: "workspace-stage" }, makeStage(app)));
  tabs.now.watch((name) => {
    if (name !== "draw" && name !== "over") return;
    panels[name].append(workspace);
    shown(workspace.querySelector(".workspace-over"), name === "over");
    shown(workspace.querySelector("#hires"), name === "draw");
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
      el("div", { class: "bar-model" }, model), ...queueChip(app)),
    el("nav", { "aria-label": t("panels") }, tabs.list));
  document.getElementById("panels").replaceChildren(...Object.values(panels));
  document.body.append(viewer.dialog, generateBar(app));

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (tabs.now.get() === "board") board.make();
      else if (["draw", "over"].includes(tabs.now.get())) app.draw();
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
  app.last.set(hub.all().findLast((job) => job.pictures.length)?.pictures[0] ?? null);
  board.findAgain(); // however long it takes: the page can be used meanwhile
  document.documentElement.dataset.ready = "yes";
}

open().catch((error) => {
  document.getElementById("opening")?.remove();
  complain(error);
});
