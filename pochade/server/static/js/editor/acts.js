// What the mask's tools do, by hand or by keys, each said aloud.

import { t } from "../i18n.js";
import { say } from "../notes.js";

const LARGEST = 256; // radius of the brush, in the picture's pixels

export function makeActs(tool, strokes) {
  return {
    resize: (factor) => {
      const radius = tool.get().brush * factor;
      tool.change({ brush: Math.min(LARGEST, Math.max(1, factor > 1 ? Math.ceil(radius) : Math.floor(radius))) });
      say(t("brush_now", { n: tool.get().brush }));
    },
    takeUp: (erase) => {
      tool.change({ erase });
      say(t(erase ? "eraser" : "brush"));
    },
    undo: () => {
      say(strokes.canUndo() ? t("undone") : t("nothing_to_undo"));
      strokes.undo();
    },
    redo: () => {
      say(strokes.canRedo() ? t("redone") : t("nothing_to_redo"));
      strokes.redo();
    },
  };
}
