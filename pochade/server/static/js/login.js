// The key, if the server asks for one.

import { api } from "./api.js";
import { el } from "./dom.js";
import { t } from "./i18n.js";
import { reason } from "./refusals.js";

/** The session, once there is one: at once if no key is needed. */
export async function enter() {
  const session = await api.session();
  if (session.user !== null || !session.login_required) return session;
  return new Promise((resolve) => {
    const wrong = el("p", { class: "wrong", role: "alert" });
    const key = el("input", { type: "password", id: "key", autocomplete: "current-password", required: true });
    const open = async (event) => {
      event.preventDefault();
      try {
        const { user } = await api.login(key.value);
        paper.close();
        paper.remove();
        resolve({ ...session, user });
      } catch (error) {
        wrong.textContent = error.status === 401 ? t("wrong_key") : reason(error);
        key.select();
      }
    };
    const form = el("form", { class: "stack", onsubmit: open },
      el("h1", {}, "Pochade"), el("label", { htmlFor: "key" }, t("key")), key, wrong,
      el("button", { type: "submit", class: "primary" }, t("enter")));
    const paper = el("dialog", { class: "login card", oncancel: (event) => event.preventDefault() }, form);
    document.body.append(paper);
    paper.showModal();
  });
}
