// One draft on the board.

import { button, el, icon } from "../dom.js";
import { t } from "../i18n.js";
import { image } from "../pictures.js";
import { share, told } from "../progress.js";

/** What is a draft's own, in a few words. */
export function noteWords({ note, request }) {
  const words = {
    seeds: () => t("note_seed", { seed: String(request.seed ?? "") }),
    near: () => t("note_near", { n: note.strength }),
    words: () => note.words || t("note_idea"),
    guidance: () => t("note_guidance", { n: note.cfg_scale }),
    mixed: () => t("note_mixed", { n: Math.round(note.share * 100) }),
    refined: () => t("note_refined"),
  };
  return words[note.kind]();
}

/** {element, update(cell, job, chosen)} */
export function makeCell(id, acts) {
  const pick = el("input", { type: "checkbox", onchange: () => acts.choose(id, pick.checked) });
  const picker = el("label", { class: "draft-pick" }, pick, el("span", { class: "unseen" }, t("choose_draft")));
  const picture = el("button", { type: "button", class: "draft-picture", onclick: () => acts.open(id) });
  const bar = el("div", { class: "draft-bar" });
  const words = el("p", { class: "draft-words" });
  const pin = button(t("pin"), { icon: "pin", bare: true, class: "quiet", onclick: () => acts.pin(id) });
  const near = button(t("more_like_this"), { icon: "spread", bare: true, class: "quiet", onclick: () => acts.near(id) });
  const refine = button(t("refine"), { icon: "spark", bare: true, class: "quiet", onclick: () => acts.refine(id) });
  const foot = el("div", { class: "draft-foot" }, words, el("div", { class: "draft-acts" }, pin, near, refine));
  const element = el("li", { class: "draft", data: { id } }, picture, picker, bar, foot);
  let shows = null;

  const update = (cell, job, chosen) => {
    pick.checked = chosen;
    element.classList.toggle("chosen", chosen);
    element.classList.toggle("pinned", cell.pinned);
    element.classList.toggle("refined", cell.refined);
    element.dataset.state = cell.picture ? "finished" : cell.failed ? "failed" : job?.state ?? "queued";
    for (const each of [pin, near, refine, pick, picture]) each.disabled = !cell.picture;
    pin.setAttribute("aria-pressed", cell.pinned);
    words.textContent = cell.picture || !job ? noteWords(cell) : told(job);
    if (cell.failed) words.textContent = t("failed");
    bar.hidden = Boolean(cell.picture || cell.failed);
    bar.style.setProperty("--share", `${Math.round(100 * (job ? share(job) : 0))}%`);
    const preview = job?.preview[0];
    const next = cell.picture?.id ?? preview ?? "wait";
    if (next === shows) return;
    shows = next;
    if (cell.picture) picture.replaceChildren(image(cell.picture));
    else if (preview) picture.replaceChildren(el("img", { src: preview, alt: t("preview") }));
    else picture.replaceChildren(icon("brush"));
    picture.setAttribute("aria-label", t("open_picture", { prompt: cell.request.prompt, seed: String(cell.request.seed) }));
  };
  return { element, update };
}
