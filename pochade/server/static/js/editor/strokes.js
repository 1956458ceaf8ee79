// A mask as a list of strokes: it can be undone, redone, cleared, turned over and drawn at any size.

/** A stroke: {erase, radius, points: [[x, y], ...]} in the picture's own pixels. "fill" and "invert" are strokes too. */
export function makeStrokes(changed) {
  let done = [];
  let undone = [];
  const tell = () => changed();
  return {
    list: () => done,
    begin: (stroke) => { done = [...done, stroke]; undone = []; tell(); },
    extend: (point) => { done.at(-1).points.push(point); tell(); },
    undo: () => { if (done.length) { undone.push(done.at(-1)); done = done.slice(0, -1); tell(); } },
    redo: () => { if (undone.length) { done = [...done, undone.pop()]; tell(); } },
    clear: () => { done = []; undone = []; tell(); },
    invert: () => { done = [...done, { kind: "invert" }]; undone = []; tell(); },
    canUndo: () => done.length > 0,
    canRedo: () => undone.length > 0,
  };
}

/** Paint strokes on a canvas context whose pixels are the picture's: opaque where something new is wanted. */
export function paint(context, strokes, colour = "#fff") {
  const { width, height } = context.canvas;
  context.clearRect(0, 0, width, height);
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const stroke of strokes) {
    if (stroke.kind === "invert") {
      context.globalCompositeOperation = "xor";
      context.fillStyle = colour;
      context.fillRect(0, 0, width, height);
      continue;
    }
    context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 2 * stroke.radius;
    context.beginPath();
    const [first, ...rest] = stroke.points;
    if (!rest.length) {
      context.arc(...first, stroke.radius, 0, 2 * Math.PI);
      context.fill();
      continue;
    }
    context.moveTo(...first);
    for (const point of rest) context.lineTo(...point);
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
}

/** The mask as a PNG's data URL, white on black; null if nothing is masked. */
export function maskUrl(strokes, width, height) {
  if (!strokes.length) return null;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  paint(context, strokes);
  const { data } = context.getImageData(0, 0, width, height);
  let any = false;
  for (let i = 3; i < data.length && !any; i += 4) any = data[i] > 127;
  if (!any) return null;
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  return canvas.toDataURL("image/png");
}
