// A picture, larger.

import { address } from "./api.js";
import { button, el, shown } from "./dom.js";
import { choice, slider } from "./fields.js";
import { t } from "./i18n.js";
import { note, telling } from "./notes.js";
import { acceptDrops, asDataUrl, dropPlace, image, keepButtons, sendButtons } from "./pictures.js";
import { progressLine } from "./progress.js";
import { keep, recalled, watched } from "./state.js";

export const LABEL = "page-upscale";

export function upscalePanel(panel, app) {
  const { hub, known } = app;
  const form = watched({ upscaler: "Lanczos", scale: 2, ...recalled("upscale", {}) });
  form.watch((values) => keep("upscale", values));
  let send = null;
  let job = null;
  let result = null;

  const before = el("div", { class: "upscale-before" });
  const take = (url, what = url, alt = t("picture")) => {
    send = what;
    before.replaceChildren(el("img", { src: url, alt }));
    go.disabled = false;
  };
  const takeFile = async (file) => take(await asDataUrl(file));
  const go = button(t("enlarge"), { icon: "enlarge", class: "primary", disabled: true, onclick: telling(async () => {
    if (!send) return note(t("drop_first"), "bad");
    const { upscaler, scale } = form.get();
    job = (await hub.submit({ kind: "upscale", label: LABEL, upscale: { image: send, scale, upscaler } })).id;
    return show();
  }) });
  const pictureUpscalers = watched([]);
  known.upscalers.watch((list) => pictureUpscalers.set(list.filter((each) => each.kind !== "latent")));

  const { line, show: showProgress } = progressLine();
  const after = el("div", { class: "upscale-after" });
  const nothing = el("p", { class: "hint" }, t("upscale_empty"));
  const keeping = keepButtons(app, () => result, (picture) => {
    app.changed.set(picture ?? { ...result, removed: true });
    result = picture;
    show();
  });
  const actions = el("div", { class: "actions", hidden: true }, sendButtons(app, () => result), keeping.row);
  const show = () => {
    const now = hub.jobs.get().get(job) ?? null;
    showProgress(now);
    if (now?.pictures.length && result?.id !== now.pictures[0].id) {
      result = now.pictures[0];
      const size = `${result.width} × ${result.height}`;
      after.replaceChildren(el("figure", {}, image(result), el("figcaption", {}, size)));
    }
    if (result) keeping.show(result);
    else after.replaceChildren();
    shown(actions, result !== null);
    shown(nothing, result === null && now === null);
  };
  hub.jobs.watch(show);

  const from = el("div", { class: "card stack" },
    el("h2", {}, t("upscale_title")), dropPlace(t("drop_upscale"), takeFile), before,
    choice(form, "upscaler", known.choices(pictureUpscalers, (each) => each.name)),
    slider(form, "scale", { min: 1, max: 8, step: 0.5 }), go);
  acceptDrops(from, takeFile);
  panel.append(el("div", { class: "split" }, from, el("div", { class: "card stack" }, nothing, line, after, actions)));
  return { takeFile, take: (picture) => take(address(picture.url), `picture:${picture.id}`, picture.prompt) };
}
