// The mask by keys: arrows move the brush, Space puts it down and lifts it again.

import { t } from "../i18n.js";
import { say } from "../notes.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * tool(): {brush, erase}, the brush's radius in the picture's pixels. begin(stroke) begins one and returns a function
 * that extends it by points. show(place, down, erase): let the brush or the eraser be seen there, or nowhere (null). Returns {lift, at,
 * refresh}: lift what is down; at(place): a hand has put the brush there; refresh: its size has changed.
 */
export function brushByKeys(veil, { tool, begin, show }) {
  let place = [0, 0];
  let extend = null; // while the brush is down
  let erases = false; // whether what is down is the eraser
  let seen = false; // whether the brush is where the keys have put it

  const look = () => {
    seen = true;
    show(place, extend !== null, extend === null ? tool().erase : erases);
  };
  const lift = () => {
    if (extend === null) return;
    extend = null;
    say(t("brush_up"));
    if (seen) look();
  };
  const put = (erase) => {
    erases = erase;
    extend = begin({ erase, radius: tool().brush, points: [[...place]] });
    say(erase ? t("eraser_down") : t("brush_down"));
    look();
  };
  const move = ([across, down], fine) => {
    const step = fine ? 1 : Math.max(1, Math.round(tool().brush / 2));
    const within = (value, most) => Math.min(most, Math.max(0, value));
    place = [within(place[0] + across * step, veil.width), within(place[1] + down * step, veil.height)];
    extend?.([[...place]]);
    look();
    say(t("brush_at", { x: Math.round((100 * place[0]) / veil.width), y: Math.round((100 * place[1]) / veil.height) }));
  };

  veil.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (MOVES[event.key]) move(MOVES[event.key], event.shiftKey);
    else if (event.key === "Escape" && extend !== null) lift();
    else if (event.key !== " ") return;
    else if (!event.repeat && extend !== null) lift();
    else if (!event.repeat) put(tool().erase || event.shiftKey);
    event.preventDefault();
    event.stopPropagation(); // Escape means the brush here, and no drawing
  });
  veil.addEventListener("focus", () => { if (veil.matches(":focus-visible")) look(); });
  veil.addEventListener("blur", () => {
    lift();
    seen = false;
    show(null, false, tool().erase);
  });
  return {
    lift,
    at: (where) => { place = [...where]; seen = false; },
    refresh: () => { if (seen) look(); },
  };
}
