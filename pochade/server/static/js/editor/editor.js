// The picture that is drawn over: a mask by brush and eraser, zoom, and a frame to draw further than its edges.

import { button, el, freshId, shown } from "../dom.js";
import { slider } from "../fields.js";
import { t } from "../i18n.js";
import { note } from "../notes.js";
import { watched } from "../state.js";
import { makeActs } from "./acts.js";
import { brushByKeys } from "./keyboard.js";
import { SIDES, outpaintFields } from "./outpaint.js";
import { makeStrokes, maskUrl, paint, paintStroke } from "./strokes.js";

const MASK_COLOUR = "#4f5bff"; // seldom in pictures, and seen on light and dark ones
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

/**
 * {element, load(url, send), source()}: load shows a picture and remembers what is sent for it ("picture:ID" or
 * a data URL); outpainting is watched: whether there are margins; source() is {image, mask, outpaint} for `withSource`, or null without a picture.
 */
export function makeEditor() {
  const tool = watched({ brush: 24, erase: false, zoom: 0 });
  const margins = watched(Object.fromEntries(SIDES.map((side) => [side, 0])));
  let picture = null; // {send, image}
  let stroke = null; // {pointer, extend} while a hand draws
  const strokes = makeStrokes({
    repaint: () => {
      if (!picture) return;
      paint(veil.getContext("2d"), strokes.list(), MASK_COLOUR);
      showTools();
    },
    grown: (one, from) => {
      paintStroke(veil.getContext("2d"), one, MASK_COLOUR, from);
      if (from === 0) showTools();
    },
  });

  const keysId = freshId("mask-keys");
  const base = el("canvas", { class: "editor-base", "aria-hidden": "true" });
  const veil = el("canvas", {
    class: "editor-veil", tabindex: "0", role: "application", "aria-label": t("mask_canvas"), "aria-describedby": keysId,
  });
  const ring = el("div", { class: "editor-ring", hidden: true });
  const frame = el("div", { class: "editor-frame" }, el("div", { class: "editor-sheet" }, base, veil, ring));
  const view = el("div", { class: "editor-view" }, frame);

  const outpainting = watched(false); // where margins are drawn, a mask is not used
  const showTools = () => {
    const off = outpainting.get();
    for (const each of [brush, eraser, invert, ...size.querySelectorAll("input")]) each.disabled = off;
    undo.disabled = off || !strokes.canUndo();
    redo.disabled = off || !strokes.canRedo();
    clear.disabled = off || !strokes.canUndo();
  };
  const layOut = () => {
    if (!picture) return;
    const { naturalWidth: width, naturalHeight: height } = picture.image;
    const { left, top, right, bottom } = margins.get();
    const across = width + left + right;
    const down = height + top + bottom;
    const fit = Math.min((view.clientWidth || 512) / across, (Math.min(640, innerHeight * 0.62)) / down, 4);
    const scale = fit * ZOOMS[tool.get().zoom];
    for (const [name, value] of Object.entries({ across, down, left, top, width, height })) {
      frame.style.setProperty(`--${name}`, `${value * scale}px`);
    }
    frame.dataset.scale = scale;
    frame.classList.toggle("further", left + top + right + bottom > 0);
    byKeys.refresh();
  };

  const place = (event) => {
    const box = veil.getBoundingClientRect();
    return [((event.clientX - box.left) * veil.width) / box.width, ((event.clientY - box.top) * veil.height) / box.height];
  };
  /** The brush at a place of the picture; null hides it. */
  const showRing = (where, down = false, erase = tool.get().erase) => {
    ring.hidden = where === null;
    if (where === null) return;
    const box = veil.getBoundingClientRect();
    const scale = box.width / veil.width;
    ring.style.setProperty("--size", `${2 * tool.get().brush * scale}px`);
    ring.style.setProperty("--x", `${where[0] * scale}px`);
    ring.style.setProperty("--y", `${where[1] * scale}px`);
    ring.classList.toggle("down", down);
    ring.classList.toggle("erase", erase);
  };
  /** Which tool is at work: that of the buttons, or the eraser while Shift and Space have put it down. */
  const showTool = (erase) => {
    brush.setAttribute("aria-pressed", !erase);
    eraser.setAttribute("aria-pressed", erase);
  };
  const byKeys = brushByKeys(veil, {
    tool: tool.get,
    begin: strokes.begin,
    show: (where, down, erase) => {
      showRing(where, down, erase);
      showTool(erase);
      if (where !== null) ring.scrollIntoView({ block: "nearest", inline: "nearest" });
    },
  });
  veil.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !picture || outpainting.get()) return;
    event.preventDefault();
    veil.focus({ preventScroll: true });
    veil.setPointerCapture(event.pointerId);
    byKeys.lift();
    const erase = tool.get().erase || event.shiftKey;
    stroke = { pointer: event.pointerId, extend: strokes.begin({ erase, radius: tool.get().brush, points: [place(event)] }) };
    byKeys.at(place(event));
  });
  veil.addEventListener("pointermove", (event) => {
    showRing(event.pointerType === "touch" ? null : place(event));
    if (stroke?.pointer !== event.pointerId) return;
    const samples = event.getCoalescedEvents?.() ?? [];
    stroke.extend((samples.length ? samples : [event]).map(place));
    byKeys.at(place(event));
  });
  const lift = () => { stroke = null; };
  veil.addEventListener("pointerup", lift);
  veil.addEventListener("pointercancel", lift);
  veil.addEventListener("pointerleave", () => { ring.hidden = true; });
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });

  const zoom = (step) => {
    const next = Math.min(ZOOMS.length - 1, Math.max(0, tool.get().zoom + step));
    const middle = [(view.scrollLeft + view.clientWidth / 2) / view.scrollWidth, (view.scrollTop + view.clientHeight / 2) / view.scrollHeight];
    tool.change({ zoom: next });
    layOut();
    view.scrollTo(middle[0] * view.scrollWidth - view.clientWidth / 2, middle[1] * view.scrollHeight - view.clientHeight / 2);
  };
  const acts = makeActs(tool, strokes);
  const brush = button(t("brush"), { icon: "brush", class: "tool", onclick: () => acts.takeUp(false) });
  const eraser = button(t("eraser"), { icon: "eraser", class: "tool", onclick: () => acts.takeUp(true) });
  const undo = button(t("undo"), { icon: "undo", bare: true, class: "tool", onclick: acts.undo });
  const redo = button(t("redo"), { icon: "redo", bare: true, class: "tool", onclick: acts.redo });
  const clear = button(t("clear_mask"), { icon: "bin", bare: true, class: "tool", onclick: strokes.clear });
  const invert = button(t("invert_mask"), { icon: "invert", bare: true, class: "tool", onclick: strokes.invert });
  const tools = el("div", { class: "tools", role: "toolbar", "aria-label": t("mask_tools") },
    brush, eraser, undo, redo, clear, invert,
    button(t("zoom_out"), { icon: "minus", bare: true, class: "tool", onclick: () => zoom(-1) }),
    button(t("zoom_in"), { icon: "plus", bare: true, class: "tool", onclick: () => zoom(1) }));
  const size = slider(tool, "brush", { min: 1, max: 128 });
  tool.watch(({ erase }) => {
    showTool(erase);
    byKeys.refresh();
  });

  const element = el("div", { class: "editor", hidden: true },
    tools, size, view,
    el("p", { class: "hint" }, t("mask_hint")), el("p", { class: "hint of-keys", id: keysId }, t("mask_keys")), outpaintFields(margins));
  element.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || outpainting.get()) return;
    const control = event.ctrlKey || event.metaKey;
    const act = {
      "[": () => acts.resize(1 / 1.25),
      "]": () => acts.resize(1.25),
      ...(control ? { z: event.shiftKey ? acts.redo : acts.undo, Z: acts.redo, y: acts.redo } : { e: () => acts.takeUp(!tool.get().erase) }),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  margins.watch((sides) => {
    outpainting.set(Object.values(sides).some((side) => side > 0));
    layOut();
  });
  outpainting.watch((now) => {
    if (now) byKeys.lift();
    showRing(null);
    veil.tabIndex = now ? -1 : 0;
    veil.setAttribute("aria-disabled", now);
    element.classList.toggle("outpainting", now);
    showTools();
  });
  new ResizeObserver(layOut).observe(view);

  const load = async (url, send = url) => {
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
    } catch {
      note(t("unreadable"), "bad");
      return false;
    }
    picture = { image, send };
    for (const canvas of [base, veil]) Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
    base.getContext("2d").drawImage(image, 0, 0);
    byKeys.lift();
    byKeys.at([image.naturalWidth / 2, image.naturalHeight / 2]);
    strokes.clear();
    tool.change({ zoom: 0, brush: Math.max(2, Math.round(Math.min(image.naturalWidth, image.naturalHeight) / 12)) });
    margins.set(Object.fromEntries(SIDES.map((side) => [side, 0])));
    shown(element, true);
    layOut();
    return true;
  };
  return {
    element,
    outpainting,
    load,
    forget: () => { picture = null; shown(element, false); },
    source: () => {
      if (!picture) return null;
      const any = outpainting.get();
      const mask = any ? null : maskUrl(strokes.list(), veil.width, veil.height);
      return { image: picture.send, mask, outpaint: any ? margins.get() : null };
    },
    masked: () => strokes.canUndo(),
  };
}
