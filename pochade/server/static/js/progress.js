// How far a job is, in words and as a bar.

import { el } from "./dom.js";
import { counted, duration, t } from "./i18n.js";
import { OVER } from "./jobs.js";
import { sentence } from "./refusals.js";

/** Whether a job fetches a model. An event that comes before the job's answer tells its label only. */
export const isPull = (job) => job.kind === "pull" || job.label === "models";

/** 0 to 1 over all pictures of a job. */
export function share(job) {
  if (job.state === "finished") return 1;
  if (job.state !== "running" || !job.steps) return 0;
  return Math.min(1, (job.picture + job.step / job.steps) / Math.max(1, job.count));
}

/** What is going on, as one would say it: "Step 7 of 20, about 3 s left". */
export function told(job) {
  const left = job.left === null || job.left === undefined ? null : t("left", { time: duration(job.left) });
  const parts = [];
  if (job.state === "queued") {
    parts.push(job.position > 1 ? t("in_line", { n: job.position }) : t("next_in_line"));
  } else if (job.state === "running" && job.loading) {
    parts.push(t("loading", { model: job.model ?? "" }));
  } else if (job.state === "running") {
    if (job.count > 1) parts.push(t("picture_of", { n: job.picture + 1, all: job.count }));
    if (isPull(job)) parts.push(t("fetched_of", { n: Math.round(100 * share(job)) }));
    else if (job.steps) parts.push(t("step_of", { n: job.step, all: job.steps }));
    else parts.push(t("begins"));
  } else if (job.state === "finished") {
    parts.push(isPull(job) ? t("model_here") : job.pictures.length ? counted("drawn", job.pictures.length) : t("drawn_none"));
    if (job.seconds) parts.push(t("took", { time: duration(job.seconds) }));
  } else if (job.state === "failed") {
    parts.push(t("failed"), job.error ? sentence(job.error) : "");
  } else {
    parts.push(t("cancelled"));
  }
  if (!OVER.has(job.state) && left) parts.push(left);
  return parts.filter(Boolean).join(" · ");
}

/** A bar with words below it; `show(job)` keeps both true, `show(null)` hides them. */
export function progressLine() {
  const fill = el("div", { class: "progress-fill" });
  const bar = el("div", { class: "progress", role: "progressbar", "aria-label": t("progress"), "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const words = el("p", { class: "progress-words" });
  const line = el("div", { class: "progress-line" }, bar, words);
  const show = (job) => {
    line.hidden = job === null;
    if (job === null) return;
    const percent = Math.round(100 * share(job));
    fill.style.setProperty("--share", `${percent}%`);
    bar.setAttribute("aria-valuenow", percent);
    bar.classList.toggle("waiting", !OVER.has(job.state) && percent === 0);
    line.dataset.state = job.state;
    words.textContent = told(job);
  };
  show(null);
  return { line, show };
}
