// A mask as a list of strokes: it can be undone, redone, cleared, turned over and drawn at any size.

/**
 * A stroke: {erase, radius, points: [[x, y], ...]} in the picture's own pixels. "invert" is a stroke too.
 * repaint() is called where all is to be painted anew; grown(stroke, from) where a stroke only has points more than
 * `from`: a hand gives hundreds of them a second, and all strokes cannot be painted for each.
 */
export function makeStrokes({ repaint, grown }) {
  let done = [];
  let undone = [];
  const add = (stroke) => { done = [...done, stroke]; undone = []; };
  /** Extend this stroke, unless it was taken back while it was made. */
  const extend = (stroke, points) => {
    if (done.at(-1) !== stroke) return;
    const from = stroke.points.length;
    for (const point of points) {
      const [x, y] = stroke.points.at(-1);
      if (point[0] !== x || point[1] !== y) stroke.points.push(point); // a line without a length is not painted
    }
    if (stroke.points.length > from) grown(stroke, from);
  };
  return {
    list: () => done,
    /** Returns a function that extends the stroke by points. */
    begin: (stroke) => { add(stroke); grown(stroke, 0); return (points) => extend(stroke, points); },
    undo: () => { if (done.length) { undone.push(done.at(-1)); done = done.slice(0, -1); repaint(); } },
    redo: () => { if (undone.length) { done = [...done, undone.pop()]; repaint(); } },
    clear: () => { done = []; undone = []; repaint(); },
    invert: () => { add({ kind: "invert" }); repaint(); },
    canUndo: () => done.length > 0,
    canRedo: () => undone.length > 0,
  };
}

/** Paint a stroke, or its points from number `from` on, over what is there already. */
export function paintStroke(context, stroke, colour, from = 0) {
  const { width, height } = context.canvas;
  context.strokeStyle = context.fillStyle = colour;
  if (stroke.kind === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, width, height);
  } else {
    context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * stroke.radius;
    context.beginPath();
    const [first, ...rest] = stroke.points.slice(Math.max(0, from - 1)); // joined to the point before
    if (rest.length) {
      context.moveTo(...first);
      for (const point of rest) context.lineTo(...point);
      context.stroke();
    } else {
      context.arc(...first, stroke.radius, 0, 2 * Math.PI);
      context.fill();
    }
  }
  context.globalCompositeOperation = "source-over";
}

/** Paint strokes on a canvas context whose pixels are the picture's: opaque where something new is wanted. */
export function paint(context, strokes, colour = "#fff") {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  for (const stroke of strokes) paintStroke(context, stroke, colour);
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
