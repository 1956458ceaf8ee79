// PNG info: what a picture says of how it was made, and the way from there to another drawing.

import { api } from "./api.js";
import { button, el } from "./dom.js";
import { t } from "./i18n.js";
import { note, telling } from "./notes.js";
import { acceptDrops, asDataUrl, dropPlace, noteLeftOut, textTable } from "./pictures.js";

export function infoPanel(panel, app) {
  const said = el("div", { class: "card stack info-said", "aria-live": "polite" }, el("p", { class: "hint" }, t("info_empty")));
  const shown = el("div", { class: "info-picture" });
  const take = telling(async (file) => {
    const url = await asDataUrl(file);
    const about = await api.info(url);
    shown.replaceChildren(el("img", { src: url, alt: about.prompt || t("picture") }));
    // Browsers lend the clipboard to pages of this computer and of secure connections only.
    const copy = navigator.clipboard && button(t("copy"), { icon: "copy", class: "quiet", onclick: async () => {
      await navigator.clipboard.writeText(about.text);
      note(t("copied"));
    } });
    if (about.request) noteLeftOut(about);
    const send = about.request && el("div", { class: "send", role: "group", "aria-label": t("send_to") },
      button(t("send_draw"), { icon: "brush", onclick: () => app.toDraw(about.request) }),
      button(t("send_over"), { icon: "layers", onclick: () => { app.form.change({ prompt: about.prompt }); app.toOver(url, { url }); } }),
      button(t("send_board"), { icon: "grid", onclick: () => app.toBoard(about.request) }));
    said.replaceChildren(
      el("h2", {}, t("info_title")),
      el("p", { class: "hint" }, `${about.width} × ${about.height}`),
      about.text ? textTable(about) : el("p", {}, t("no_parameters")),
      ...(about.text ? [el("div", { class: "row" }, send, copy)] : []));
  });
  const place = el("div", { class: "card stack" }, el("h2", {}, t("info_drop_title")), dropPlace(t("drop_info"), take), shown);
  acceptDrops(panel, take);
  panel.append(el("div", { class: "split" }, place, said));
  return { take };
}
