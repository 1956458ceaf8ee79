// Pictures that the server keeps, and what can be done with one.

import { address, api } from "./api.js";
import { button, el } from "./dom.js";
import { scaleOf } from "./form.js";
import { has, t } from "./i18n.js";
import { note, telling } from "./notes.js";

/** The picture itself, with words for those who do not see it. */
export function image(picture, { thumbnail = false } = {}) {
  return el("img", {
    src: address(thumbnail ? picture.thumbnail : picture.url),
    alt: picture.prompt || t("picture"),
    width: picture.width,
    height: picture.height,
    loading: thumbnail ? "lazy" : null,
    decoding: "async",
  });
}

/** A small picture that opens the viewer among `all()` of its neighbours: {element, update(picture)}. */
export function thumb(app, picture, all) {
  const mark = el("span", { class: "pin-mark" });
  const element = el("button", {
    type: "button", class: "thumb", data: { id: picture.id }, "aria-label": t("open_picture", { prompt: picture.prompt, seed: String(picture.seed) }),
    onclick: () => app.view(all(), picture.id),
  }, image(picture, { thumbnail: true }), mark);
  return { element, update: (now) => { mark.hidden = !now.pinned; } };
}

/** What the picture's own text asks for; null (and a note) if it has none that can be read. */
export async function requestIn(picture) {
  const about = await api.info(`picture:${picture.id}`);
  if (about.request === null) note(t("no_parameters"), "bad");
  else noteLeftOut(about);
  return about.request;
}

/** Says what a drawing after this text will lack: fields of a request, or settings by the name that the text gives them. */
export function noteLeftOut({ left_out, request }) {
  const hires = request?.hires;
  const names = [...left_out];
  // The form has a scale, and an empty prompt there is that of the first pass.
  if (hires?.size && scaleOf(request) === null) names.push("hires_size");
  if (hires && [hires.prompt, hires.negative_prompt].includes("")) names.push("hires_empty");
  if (names.length) note(t("left_out", { what: names.map((name) => (has(`left_out_${name}`) ? t(`left_out_${name}`) : name)).join(", ") }));
}

/** A1111's "send to": buttons that take a picture to the other panels. */
export function sendButtons(app, current) {
  const send = (act) => telling(async () => { await act(current()); app.closeViewer(); });
  const sendRequest = (act) => send(async (picture) => {
    const request = await requestIn(picture);
    if (request) act(request);
  });
  return el("div", { class: "send", role: "group", "aria-label": t("send_to") },
    el("span", { class: "send-words", "aria-hidden": "true" }, t("send_to")),
    button(t("send_draw"), { icon: "brush", onclick: sendRequest((request) => app.toDraw(request)) }),
    button(t("send_over"), { icon: "layers", onclick: send((picture) => app.toOver(`picture:${picture.id}`, picture)) }),
    button(t("send_board"), { icon: "grid", onclick: sendRequest((request) => app.toBoard(request)) }),
    button(t("send_upscale"), { icon: "enlarge", onclick: send((picture) => app.toUpscale(picture)) }));
}

/** Pin, use the seed, save, remove. `changed(picture or null)` hears what became of it. */
export function keepButtons(app, current, changed) {
  const pin = button(t("pin"), { icon: "pin", onclick: telling(async () => changed(await api.pin(current().id, !current().pinned))) });
  const seed = button(t("use_seed"), { icon: "dice", onclick: () => {
    app.form.change({ seed: current().seed });
    note(t("seed_used", { seed: String(current().seed) }));
  } });
  const save = el("a", { class: "button", download: "" }, t("save"));
  const remove = button(t("remove"), { icon: "bin", class: "danger", onclick: telling(async () => {
    if (!confirm(t("remove_sure"))) return;
    await api.remove(current().id);
    changed(null);
  }) });
  const show = (picture) => {
    pin.setAttribute("aria-pressed", picture.pinned);
    pin.lastChild.textContent = picture.pinned ? t("pinned") : t("pin");
    save.href = `${address(picture.url)}?download=1`;
  };
  return { row: el("div", { class: "keep" }, pin, seed, save, remove), show };
}

/** The parameters text as pairs to read; what is no pair is the prompt. */
export function textTable(about) {
  const rows = [[t("field_prompt"), about.prompt], [t("field_negative_prompt"), about.negative_prompt], ...Object.entries(about.values ?? {})];
  return el("dl", { class: "facts" }, rows.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** A file as a data URL, for sending. */
export function asDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** A place where a picture can be dropped, pasted or chosen. take(file) gets it. */
export function dropPlace(words, take) {
  const input = el("input", { type: "file", accept: "image/*", class: "unseen", "aria-label": words, onchange: () => {
    if (input.files[0]) take(input.files[0]);
    input.value = "";
  } });
  const place = el("label", { class: "drop" }, input, el("span", {}, words));
  acceptDrops(place, take);
  return place;
}

/** Let files be dropped on an element that is more than a place for them. */
export function acceptDrops(place, take) {
  place.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    place.classList.add("dropping");
  });
  place.addEventListener("dragleave", () => place.classList.remove("dropping"));
  place.addEventListener("drop", (event) => {
    place.classList.remove("dropping");
    const file = [...event.dataTransfer.files].find((each) => each.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    event.stopPropagation();
    take(file);
  });
}
