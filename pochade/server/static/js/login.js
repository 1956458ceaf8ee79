// The key, if the server asks for one: when the page is opened, and again when a session is over.

import { api } from "./api.js";
import { el } from "./dom.js";
import { t } from "./i18n.js";
import { reason } from "./refusals.js";

/** Ask for the key until it is right; the user whose it is. why: a sentence above the field, or null. */
function askForKey(why) {
  return new Promise((resolve) => {
    let user = null;
    const wrong = el("p", { class: "wrong", role: "alert" });
    const key = el("input", { type: "password", id: "key", autocomplete: "current-password", required: true });
    const open = async (event) => {
      event.preventDefault();
      try {
        ({ user } = await api.login(key.value));
        paper.close();
      } catch (error) {
        wrong.textContent = error.status === 401 ? t("wrong_key") : reason(error);
        key.select();
      }
    };
    // A browser closes a dialog at the second Escape, whatever the page says to that.
    const closed = () => {
      if (user === null) return paper.showModal();
      paper.remove();
      return resolve(user);
    };
    const form = el("form", { class: "stack", onsubmit: open },
      el("h1", { id: "login-name" }, "Pochade"), why && el("p", {}, why), el("label", { htmlFor: "key" }, t("key")), key, wrong,
      el("button", { type: "submit", class: "primary" }, t("enter")));
    const paper = el("dialog", { class: "login card", "aria-labelledby": "login-name", oncancel: (event) => event.preventDefault(), onclose: closed }, form);
    document.body.append(paper);
    paper.showModal();
  });
}

/** The session, once there is one: at once if no key is needed. */
export async function enter() {
  const session = await api.session();
  if (session.user !== null || !session.login_required) return session;
  return { ...session, user: await askForKey(null) };
}

/**
 * A function that asks for the key again if this session is over, and resolves once there is one. However often it
 * is called meanwhile, one question is asked. Another user gets a page of their own.
 */
export function staying(session) {
  let asking = null;
  const again = async () => {
    const now = await api.session();
    const user = now.user === null && now.login_required ? await askForKey(t("session_over")) : now.user;
    if (user === session.user) return;
    location.reload();
    await new Promise(() => {}); // nothing of one user is asked again as another
  };
  return () => (asking ??= again().finally(() => { asking = null; }));
}
