// Where the picture appears: live while it is drawn, then large, with all others of its job below it.

import { button, el, keyed, shown } from "./dom.js";
import { t } from "./i18n.js";
import { OVER } from "./jobs.js";
import { say } from "./notes.js";
import { image, keepButtons, sendButtons } from "./pictures.js";
import { EXAMPLES } from "./prompt.js";
import { progressLine, told } from "./progress.js";

const MOST_RECENT = 24;

/**
 * One stage for text to image and image to image: it shows the job that `label` marks as drawn here,
 * the one being drawn before the newest.
 */
export function makeStage(app) {
  const { form, hub, label, last, draw } = app;
  let chosen = null; // the picture that is shown large; null while there is only a drawing to see
  let shownJob = null;

  const welcome = el("div", { class: "welcome" },
    el("p", { class: "welcome-title" }, t("welcome")),
    el("p", {}, t("welcome_more")),
    button(t("first_picture"), { icon: "brush", class: "primary", onclick: draw }),
    el("div", { class: "chips", role: "group", "aria-label": t("examples") },
      EXAMPLES.map((words) => button(words, { class: "chip", onclick: () => form.change({ prompt: words }) }))));
  const large = el("div", { class: "large" });
  const strip = el("div", { class: "strip", role: "group", "aria-label": t("results") });
  const { line, show: showProgress } = progressLine();
  const keeping = keepButtons(app, () => chosen, (picture) => {
    app.changed.set(picture ?? { ...chosen, removed: true });
  });
  const actions = el("div", { class: "actions" }, sendButtons(app, () => chosen), keeping.row);
  const stage = el("section", { class: "stage card", "aria-label": t("stage") }, welcome, large, line, strip, actions);

  const mine = () => hub.all().filter((job) => job.label === label);
  const recent = () => mine().filter((job) => job.pictures.length).flatMap((job) => [...job.pictures].reverse()).slice(-MOST_RECENT).reverse();

  const showLarge = (picture) => {
    chosen = picture;
    keeping.show(picture);
    const open = el("button", {
      type: "button", class: "large-picture", "aria-label": t("open_picture", { prompt: picture.prompt, seed: String(picture.seed) }),
      onclick: () => app.view(recent(), picture.id),
    }, image(picture));
    open.style.setProperty("--across", picture.width);
    open.style.setProperty("--down", picture.height);
    if (large.dataset.shows !== picture.id) large.replaceChildren(open);
    large.dataset.shows = picture.id;
  };
  const showPreview = (job) => {
    large.dataset.shows = "preview";
    if (large.firstChild?.className !== "previews") large.replaceChildren(el("div", { class: "previews" }));
    const previews = large.firstChild;
    while (previews.children.length > job.preview.length) previews.lastChild.remove();
    job.preview.forEach((url, i) => {
      if (!previews.children[i]) previews.append(el("img", { alt: t("preview") }));
      previews.children[i].src = url;
    });
  };
  const place = keyed(strip, (picture) => ({
    element: el("button", {
      type: "button", class: "thumb", data: { id: picture.id }, "aria-label": t("show_picture", { seed: String(picture.seed) }),
      onclick: () => { showLarge(picture); show(); },
    }, image(picture, { thumbnail: true })),
  }));
  const showStrip = (pictures) => {
    place(pictures);
    for (const each of strip.children) each.setAttribute("aria-current", each.dataset.id === chosen?.id);
    shown(strip, pictures.length > 1);
  };

  /** What the large place shows: a picture that was chosen, the drawing that goes on, or the newest picture. */
  const show = () => {
    const jobs = mine();
    const job = jobs.find((each) => each.state === "running") ?? jobs.at(-1) ?? null;
    const busy = job !== null && !OVER.has(job.state);
    const pictures = recent();
    if (job?.id !== shownJob) {
      shownJob = job?.id ?? null;
      chosen = null;
    }
    if (chosen && !pictures.some((picture) => picture.id === chosen.id)) chosen = null;
    if (!chosen && !busy && pictures.length) showLarge(job.pictures[0] ?? pictures[0]);
    else if (!chosen && busy && job.preview.length) showPreview(job);
    else if (!chosen && busy && large.dataset.shows !== "wait" && large.dataset.shows !== "preview") {
      large.dataset.shows = "wait";
      large.replaceChildren(el("div", { class: "canvas-wait" }));
    } else if (!chosen && !busy) large.replaceChildren();
    stage.dataset.state = job?.state ?? "empty";
    showProgress(job);
    shown(welcome, job === null && !pictures.length);
    shown(large, large.children.length > 0);
    shown(actions, chosen !== null);
    showStrip(pictures);
  };
  hub.jobs.watch(show);
  hub.over((job) => {
    if (job.label !== label) return;
    say(told(job));
    if (!job.pictures.length) return;
    last.set(job.pictures[0]);
    showLarge(job.pictures[0]);
    show();
  });
  app.changed.watch((picture) => {
    if (picture && !picture.removed && picture.id === chosen?.id) showLarge(picture);
  });
  return stage;
}
