// The panels of the page and the tabs that lead to them (ARIA's pattern "tabs").

import { el, icon } from "./dom.js";
import { t } from "./i18n.js";
import { keep, watched } from "./state.js";

/**
 * names: of the panels, with their icons. A panel is named in the address (#draw), so that it can be kept and
 * reached with the browser's own "back". Returns {list, panels, now, go}.
 */
export function makeTabs(drawings) {
  const names = Object.keys(drawings);
  const fromAddress = () => (names.includes(location.hash.slice(1)) ? location.hash.slice(1) : names[0]);
  const now = watched(fromAddress());

  const list = el("div", { class: "tabs", role: "tablist", "aria-label": t("panels") });
  const panels = {};
  for (const name of names) {
    list.append(
      el(
        "button",
        { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => go(name) },
        icon(drawings[name]),
        el("span", {}, t(`panel_${name}`)),
      ),
    );
    panels[name] = el("section", { class: `panel panel-${name}`, id: `panel-${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}` });
  }

  const go = (name) => {
    if (fromAddress() !== name) history.pushState(null, "", `#${name}`);
    now.set(name);
  };
  window.addEventListener("popstate", () => now.set(fromAddress()));
  window.addEventListener("hashchange", () => now.set(fromAddress()));
  now.watch((name) => {
    for (const each of names) {
      const tab = list.querySelector(`#tab-${each}`);
      tab.setAttribute("aria-selected", each === name);
      tab.tabIndex = each === name ? 0 : -1;
      panels[each].hidden = each !== name;
      if (each === name) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    keep("room", name);
  });
  list.addEventListener("keydown", (event) => {
    const here = names.indexOf(now.get());
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(names[(to + names.length) % names.length]);
    list.querySelector(`#tab-${now.get()}`).focus();
  });
  return { list, panels, now, go };
}
