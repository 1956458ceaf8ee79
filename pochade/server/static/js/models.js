// The models that have a short name: what each is and needs, and fetching one from the hub.

import { api } from "./api.js";
import { button, el, keyed, shown } from "./dom.js";
import { bytes, t } from "./i18n.js";
import { note, telling } from "./notes.js";
import { isPull, share } from "./progress.js";

export const LABEL = "models";

const link = (href, words) => el("a", { href, target: "_blank", rel: "noreferrer noopener" }, words);

/** Show what the hub says of a model, and resolve to whether its licence is accepted. */
function askLicence(model, offer) {
  return new Promise((resolve) => {
    let accepted = false;
    const close = (answer) => () => { accepted = answer; paper.close(); };
    const ended = () => { paper.remove(); resolve(accepted); };
    const size = t("fetches", { size: bytes(offer.bytes - offer.held), free: bytes(offer.free) });
    const paper = el("dialog", { class: "card stack", "aria-labelledby": "licence-name", onclose: ended },
      el("h2", { id: "licence-name" }, model.title),
      el("p", {}, t("licence_is"), " ", link(offer.licence_link, offer.licence || t("licence_none"))),
      el("p", { class: "hint" }, size),
      el("div", { class: "row" },
        button(t("accept_licence"), { class: "primary", onclick: close(true) }),
        button(t("not_now"), { class: "quiet", onclick: close(false) })));
    document.body.append(paper);
    paper.showModal();
  });
}

/** A card with all of them. */
export function modelsCard({ hub, known }) {
  let rows = [];
  let mayFetch = false;
  const list = el("ul", { class: "known-models" });

  const load = telling(async () => {
    const told = await api.knownModels();
    [rows, mayFetch] = [told.models, told.may_fetch];
    draw();
  });
  const fetchModel = telling(async (model) => {
    const offer = await api.lookUp(model.name);
    if (!(await askLicence(model, offer))) return note(t("licence_declined"));
    const job = await api.pull({ model: model.name, licence: offer.licence, commit: offer.commit, label: LABEL });
    hub.take(job);
    return load();
  });

  const place = keyed(list, (first) => {
    let model = first;
    const state = el("p", { class: "known-state", role: "status" });
    const fill = el("div", { class: "progress-fill" });
    const bar = el("div", { class: "progress", role: "progressbar", "aria-label": first.title, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
    const get = button(t("fetch_model"), { "aria-label": t("fetch_named", { name: first.title }), onclick: telling(async () => {
      get.disabled = true;
      try {
        await fetchModel(model);
      } finally {
        get.disabled = false;
      }
    }) });
    const stop = button(t("cancel"), { icon: "close", class: "quiet", onclick: telling(async () => {
      await hub.cancel(model.job, false);
      note(t("pull_kept"));
    }) });
    const facts = [
      t("about_size", { size: bytes(first.bytes) }),
      first.licence ?? t("licence_at_pull"),
      t("model_memory", { int8: bytes(first.memory.int8), bf16: bytes(first.memory.bf16) }),
      first.side ? `${first.side} × ${first.side}` : null,
    ].filter(Boolean).join(" · ");
    const element = el("li", { data: { name: first.name } },
      el("p", { class: "known-title" }, link(first.page, first.title), " ", el("code", {}, first.name)),
      el("p", { class: "hint" }, facts), bar, state, el("div", { class: "row" }, get, stop));
    const update = (now) => {
      model = now;
      const job = hub.jobs.get().get(now.job);
      const goesOn = now.state === "running" || now.state === "queued";
      const done = job ? share(job) : now.total_bytes ? now.fetched_bytes / now.total_bytes : 0;
      const percent = Math.round(100 * done);
      element.dataset.state = now.state;
      fill.style.setProperty("--share", `${percent}%`);
      bar.setAttribute("aria-valuenow", percent);
      shown(bar, goesOn);
      shown(get, now.state === "missing" && mayFetch);
      shown(stop, goesOn && now.job !== null);
      state.textContent = now.state === "here" ? t("model_here") : goesOn ? t("fetched_of", { n: percent }) : "";
    };
    return { element, update };
  }, (model) => model.name);
  const draw = () => place(rows);

  hub.jobs.watch(draw);
  hub.over(telling(async (job) => {
    if (!isPull(job)) return;
    if (job.state === "failed") note(job.error, "bad");
    if (job.state === "finished") known.models.set(await api.models());
    await load();
  }));
  const hint = el("p", { class: "hint" }, t("known_models_hint"));
  return { element: el("div", { class: "card stack" }, el("h2", {}, t("known_models")), hint, list), load };
}
