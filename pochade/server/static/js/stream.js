// The server's events: one stream at a time, and none for a page that nobody sees.

import { api } from "./api.js";

const AGAIN_MS = 3000;
const UNSEEN_MS = 30_000; // a browser has six connections to a server: a page that nobody sees gives its own back

/**
 * Connects, and stays connected while the page is seen. heard: {type: listener of the message}. opened() and away()
 * are called when a stream is there, and when it is not. admitted() resolves once the server lets the page in:
 * a browser does not say why a stream was refused.
 */
export function openStream({ heard, opened, away, admitted }) {
  let source = null;
  let timer = null; // to connect again, or to close what nobody sees: never both

  const later = (act, wait) => {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  };
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const connect = () => {
    close();
    const mine = api.events();
    source = mine;
    for (const [type, listener] of Object.entries(heard)) mine.addEventListener(type, listener);
    mine.addEventListener("open", opened);
    mine.addEventListener("error", () => {
      away();
      // The browser connects again by itself unless the server answered with an error.
      if (mine.readyState === EventSource.CLOSED && source === mine) refused();
    });
    if (document.hidden) later(close, UNSEEN_MS);
  };
  const refused = async () => {
    close();
    await admitted().catch(() => null); // the server may be away
    if (source === null && !document.hidden) later(connect, AGAIN_MS);
  };
  const seeOrNot = () => {
    if (!document.hidden) {
      clearTimeout(timer);
      if (source === null) connect();
    } else if (source !== null) {
      later(close, UNSEEN_MS);
    } else {
      clearTimeout(timer);
    }
  };
  document.addEventListener("visibilitychange", seeOrNot);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) seeOrNot(); });
  connect();
}
