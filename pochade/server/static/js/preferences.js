// Settings of the page, and what the server says of itself.

import { api } from "./api.js";
import { button, el } from "./dom.js";
import { labelled, segments } from "./fields.js";
import { LANGUAGES, bytes, language, speak, t } from "./i18n.js";
import { modelsCard } from "./models.js";
import { note, telling } from "./notes.js";
import { keep, recalled } from "./state.js";

export function setTheme(name) {
  keep("theme", name === "system" ? null : name);
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

const KEYS = [
  ["Ctrl Enter", "generate"], ["Esc", "interrupt"], ["← →", "key_viewer"], ["Ctrl ↑ ↓", "key_weight"],
  ["[ ]", "key_brush"], ["← ↑ → ↓", "key_move_brush"], [t("key_space"), "key_paint"], [t("key_shift_space"), "key_erase"],
  ["Esc", "key_stop"], ["E", "key_tool"], ["Ctrl Z", "undo"],
];

export function preferencesPanel(panel, app) {
  const { session, known } = app;
  const theme = segments(t("theme"), ["system", "light", "dark"].map((value) => ({ value, label: t(`theme_${value}`) })), recalled("theme", null) ?? "system", setTheme);
  const tongue = el("select", { onchange: () => speak(tongue.value) }, Object.entries(LANGUAGES).map(([value, name]) => el("option", { value, lang: value }, name)));
  tongue.value = language();
  const page = el("div", { class: "card stack" },
    el("h2", {}, t("page_settings")),
    el("div", { class: "field" }, el("span", { class: "field-words" }, t("theme")), theme),
    labelled("language", tongue),
    button(t("look_again"), { icon: "recycle", onclick: telling(async () => { await known.refresh(); note(t("looked_again")); }) }),
    session.login_required ? button(t("log_out"), { class: "quiet", onclick: telling(async () => { await api.logout(); location.reload(); }) }) : null);

  const keys = el("div", { class: "card stack of-keys" }, el("h2", {}, t("keyboard")),
    el("dl", { class: "facts keys" }, KEYS.flatMap(([keysOf, what]) => [el("dt", {}, keysOf.split(" ").map((key) => el("kbd", {}, key))), el("dd", {}, t(what))])));

  const models = modelsCard(app);
  const facts = el("dl", { class: "facts" });
  const server = el("div", { class: "card stack" }, el("h2", {}, t("server")), facts);
  const load = telling(async () => {
    const status = await api.status();
    const rows = [
      [t("version"), `Pochade ${status.version}`],
      [t("user"), status.user],
      [t("queue"), `${status.queue.running} + ${status.queue.queued}`],
      [t("workers"), status.workers.map((each) => `${each.device}: ${t(`worker_${each.state}`)}`).join(", ")],
      [t("storage"), t("of", { n: bytes(status.storage.bytes), all: bytes(status.storage.budget_bytes) })],
      [t("largest"), `${Math.floor(Math.sqrt(status.limits.pixels))} × ${Math.floor(Math.sqrt(status.limits.pixels))}`],
    ];
    facts.replaceChildren(...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  });
  app.tabs.now.watch((name) => { if (name === "settings") { load(); models.load(); } });
  panel.append(el("div", { class: "columns" }, page, models.element, keys, server));
}
