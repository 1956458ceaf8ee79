// Generate, Interrupt, Skip, and the queue of what this user has asked for.

import { api } from "./api.js";
import { button, el, keyed, shown } from "./dom.js";
import { duration, t } from "./i18n.js";
import { note, telling } from "./notes.js";
import { isPull, told } from "./progress.js";

/** The job that Interrupt and Skip mean: the one that is drawn, else the newest that waits. */
export function meant(hub) {
  const active = hub.active().filter((job) => !isPull(job));
  return active.find((job) => job.state === "running") ?? active.at(-1) ?? null;
}

export function generateBlock({ hub, draw }) {
  const generate = button(t("generate"), { icon: "brush", class: "primary generate", title: "Ctrl+Enter", onclick: draw });
  generate.id = "generate";
  const interrupt = button(t("interrupt"), { icon: "stop", class: "interrupt", title: "Esc", onclick: telling(() => stop(hub)) });
  const skip = button(t("skip"), { icon: "skip", class: "skip", onclick: telling(() => hub.skip(meant(hub).id)) });
  hub.jobs.watch(() => {
    const job = meant(hub);
    interrupt.disabled = job === null;
    skip.disabled = job === null || job.state !== "running" || job.count < 2;
  });
  return el("div", { class: "generate-block" }, generate, el("div", { class: "stoppers" }, interrupt, skip));
}

/** End what is being drawn and keep it as it is now; what only waits is taken back. */
export async function stop(hub) {
  const job = meant(hub);
  if (job) await hub.cancel(job.id, true);
}

/** A chip in the page's head that says what is going on, with the list of all that waits behind it. */
export function queueChip(app) {
  const { hub } = app;
  const words = el("span", { class: "queue-words" });
  const list = el("ul", { class: "queue-list" });
  const none = el("p", { class: "hint" }, t("queue_empty"));
  const all = button(t("cancel_all"), { class: "quiet", onclick: telling(async () => {
    const { cancelled } = await api.cancelAll();
    note(t("cancelled_n", { n: cancelled }));
  }) });
  const paper = el("div", { class: "queue-paper card", id: "queue-paper", popover: "auto", tabindex: "-1", "aria-label": t("queue") },
    el("h2", {}, t("queue")), list, none, all);
  const dot = el("span", { class: "dot" });
  const chip = el("button", { type: "button", class: "queue-chip", popovertarget: "queue-paper", title: t("queue") }, dot, words);

  const place = keyed(list, ({ id }) => {
    const prompt = el("span", { class: "queue-prompt" });
    const state = el("span", { class: "queue-told" });
    const cancel = button(t("cancel"), { icon: "close", bare: true, class: "quiet", onclick: telling(() => hub.cancel(id, true)) });
    const update = (job) => {
      prompt.textContent = isPull(job) ? `${t("kind_pull")} ${job.model ?? ""}` : job.request?.prompt || t(`kind_${job.kind ?? "txt2img"}`);
      state.textContent = told(job);
    };
    return { element: el("li", {}, prompt, state, cancel), update };
  });
  const show = () => {
    const active = hub.active();
    const left = active.reduce((most, job) => Math.max(most, job.left ?? 0), 0);
    dot.dataset.state = !hub.connected.get() ? "away" : active.length ? "busy" : "idle";
    words.textContent = !hub.connected.get() ? t("away")
      : active.length ? t("queue_now", { n: active.length, time: duration(left) }) : t("ready");
    all.hidden = active.length < 2;
    place(active);
    shown(none, !active.length);
  };
  hub.jobs.watch(show);
  hub.connected.watch(show);
  return [chip, paper];
}

/** For a phone: the same button at the foot of the screen, always within reach of a thumb. */
export function generateBar({ hub, draw, tabs }) {
  const generate = button(t("generate"), { icon: "brush", class: "primary", onclick: draw });
  const interrupt = button(t("interrupt"), { icon: "stop", bare: true, class: "interrupt", onclick: telling(() => stop(hub)) });
  hub.jobs.watch(() => { interrupt.disabled = meant(hub) === null; });
  const bar = el("div", { class: "generate-bar" }, generate, interrupt);
  tabs.now.watch((panel) => { bar.hidden = !["draw", "over"].includes(panel); });
  return bar;
}

