// The drafts of a board: kept between visits, true to the jobs that draw them.

import { api } from "../api.js";
import { OVER } from "../jobs.js";
import { telling } from "../notes.js";
import { keep, recalled, watched } from "../state.js";

export const LABEL = "page-board";

/** For `catch`: what these statuses say is as good as done; anything else goes on up. */
const unless = (...statuses) => (error) => {
  if (!statuses.includes(error.status)) throw error;
};

/** A draft: {id, request, note, job, picture, pinned, refined, failed}. picture is null until it is drawn. */
export function openSheet(hub) {
  const cells = watched(recalled("board", []));
  cells.watch((now) => keep("board", now.filter((cell) => cell.job)));
  const change = (id, part) => cells.set(cells.get().map((cell) => (cell.id === id ? { ...cell, ...part } : cell)));
  const has = (id) => cells.get().some((cell) => cell.id === id);
  const drop = (ids) => cells.set(cells.get().filter((cell) => !ids.includes(cell.id)));

  const settle = (job) => {
    const cell = cells.get().find((each) => each.job === job.id);
    if (!cell || cell.picture || !OVER.has(job.state)) return;
    const [picture] = job.pictures;
    if (picture) change(cell.id, { picture, request: { ...cell.request, seed: picture.seed } });
    else change(cell.id, { failed: job.error ?? job.state });
  };
  hub.over(settle);
  const findAgain = async () => {
    const open = cells.get().filter((cell) => !cell.picture && cell.job && !cell.failed);
    await Promise.all(open.map(async (cell) => {
      const job = await hub.find(cell.job);
      if (job === null) drop([cell.id]);
      else settle(job);
    }));
  };

  /** Ask for drafts; they stand on the board at once. after: the id of the draft that they come from. */
  const add = telling(async (plans, { after = null, refinement = false } = {}) => {
    const made = plans.map(({ request, note }) => ({
      id: crypto.randomUUID?.() ?? String(Math.random()), request, note, job: null, picture: null, pinned: false, refined: refinement, failed: null,
    }));
    const now = cells.get();
    const at = after === null ? 0 : now.findIndex((cell) => cell.id === after) + 1;
    cells.set([...now.slice(0, at), ...made, ...now.slice(at)]);
    for (const cell of made) {
      if (!has(cell.id)) continue; // taken off the board meanwhile
      try {
        const job = await hub.submit({ ...cell.request, label: LABEL });
        change(cell.id, { job: job.id });
        settle(hub.jobs.get().get(job.id));
      } catch (error) {
        drop(made.filter((each) => !cells.get().find((one) => one.id === each.id)?.job).map((each) => each.id));
        throw error;
      }
    }
  });
  const pin = telling(async (cell) => {
    const picture = await api.pin(cell.picture.id, !cell.pinned);
    change(cell.id, { pinned: picture.pinned, picture });
  });
  /** Take drafts off the board and, unless they are pinned, out of the history too. */
  const remove = telling(async (some) => {
    for (const cell of some) {
      const job = hub.jobs.get().get(cell.job);
      if (job && !OVER.has(job.state)) await hub.cancel(cell.job, false).catch(unless(404, 409));
      else if (cell.picture && !cell.pinned) await api.remove(cell.picture.id).catch(unless(404));
      drop([cell.id]);
    }
  });
  return { cells, add, pin, remove, findAgain, change, drop };
}
