// The jobs that this page knows of, kept true by the server's events.

import { Refused, api } from "./api.js";
import { watched } from "./state.js";
import { openStream } from "./stream.js";

const NOW = "9"; // later than any time of this millennium
const AGAIN_MS = 3000;
const LONGEST_MS = 60_000;
const MOST_OVER = 48; // jobs of each panel that are kept when they are over

export const OVER = new Set(["finished", "failed", "cancelled"]);

/** A job as the page sees it, from the server's answer. */
function seen(job, before = {}) {
  return {
    ...before,
    id: job.id,
    kind: job.kind,
    label: job.label,
    state: job.state,
    model: job.model,
    created: job.created,
    position: job.position,
    left: job.seconds_left,
    step: job.progress?.step ?? 0,
    steps: job.progress?.steps ?? 0,
    picture: job.progress?.picture ?? 0,
    count: job.progress?.pictures ?? 1,
    request: job.request,
    pictures: job.pictures ?? [],
    error: job.error,
    loading: false,
    preview: OVER.has(job.state) ? [] : before.preview ?? [],
  };
}

/** What an event changes. */
const CHANGES = {
  queued: (event) => ({ state: "queued", position: event.position, left: event.seconds_left }),
  started: (event) => ({ state: "running", position: null, left: event.seconds_left, preview: [] }),
  loading: () => ({ state: "running", loading: true }),
  progress: (event) => ({
    state: "running",
    loading: false,
    step: event.step,
    steps: event.steps,
    picture: event.picture,
    count: event.pictures,
    left: event.seconds_left,
  }),
  preview: (event) => ({ preview: event.images, previewOf: event.picture }),
  finished: (event) => ({ state: "finished", pictures: event.pictures, seconds: event.seconds, left: null, preview: [] }),
  failed: (event) => ({ state: "failed", error: event.error, left: null, preview: [] }),
  cancelled: () => ({ state: "cancelled", left: null, preview: [] }),
};

/** Jobs without these pictures, and without the jobs that had no others. */
function without(jobs, gone) {
  const rest = new Map();
  for (const [id, job] of jobs) {
    const pictures = job.pictures.filter((picture) => !gone.includes(picture.id));
    if (pictures.length || !job.pictures.length) rest.set(id, pictures.length === job.pictures.length ? job : { ...job, pictures });
  }
  return rest;
}

// The oldest first. After a reload, events may tell of a job before its answer has come: it is a new one.
const byAge = (a, b) => (a.created ?? NOW).localeCompare(b.created ?? NOW);

/** Jobs without the oldest of those that are over, each panel's and all others' counted by themselves. */
export function pruned(jobs, labels) {
  const counts = new Map();
  const gone = new Set();
  for (const job of [...jobs.values()].filter((each) => OVER.has(each.state)).sort(byAge).reverse()) {
    const panel = labels.includes(job.label) ? job.label : null;
    const count = (counts.get(panel) ?? 0) + 1;
    counts.set(panel, count);
    if (count > MOST_OVER) gone.add(job.id);
  }
  return gone.size ? new Map([...jobs].filter(([id]) => !gone.has(id))) : jobs;
}

/**
 * hub.jobs: a watched Map of id to job. hub.connected: whether events come.
 * hub.over(listener): called with each job that ends. hub.find(id): the job, asked for until there is an answer;
 * null if the server has none. labels: of the page's panels.
 */
export function openHub(labels) {
  const jobs = watched(new Map());
  const connected = watched(true);
  const enders = new Set();
  const asked = new Map(); // id to the answer that is awaited

  const put = (job) => {
    const before = jobs.get().get(job.id);
    const all = new Map(jobs.get()).set(job.id, job);
    jobs.set(OVER.has(job.state) ? pruned(all, labels) : all);
    if (OVER.has(job.state) && before && !OVER.has(before.state)) for (const ender of [...enders]) ender(job);
  };
  const take = (answer) => {
    const before = jobs.get().get(answer.id);
    // An event may have told the end before the answer to an earlier question arrives.
    if (before && OVER.has(before.state) && !OVER.has(answer.state)) return before;
    const job = seen(answer, before);
    put(job);
    return job;
  };
  const all = () => [...jobs.get().values()].sort(byAge);
  const hear = (type) => (message) => {
    const event = JSON.parse(message.data);
    const before = jobs.get().get(event.job) ?? {
      ...seen({ id: event.job, label: event.label, state: "queued" }),
    };
    if (OVER.has(before.state)) return;
    put({ ...before, ...CHANGES[type](event) });
  };
  const forget = (id) => {
    const rest = new Map(jobs.get());
    rest.delete(id);
    jobs.set(rest);
  };
  const seek = async (id) => {
    for (let wait = AGAIN_MS; ; wait = Math.min(2 * wait, LONGEST_MS)) {
      try {
        return take(await api.job(id));
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (error.status === 404) {
          forget(id);
          return null;
        }
        // A server that is away, or busy, has the job nonetheless.
        await new Promise((go) => setTimeout(go, error.retryAfter ? 1000 * error.retryAfter : wait));
      }
    }
  };
  const find = (id) => {
    if (!asked.has(id)) asked.set(id, seek(id).finally(() => asked.delete(id)));
    return asked.get(id);
  };
  const active = () => all().filter((job) => !OVER.has(job.state));
  /** What the server answers to an act; if it says that the job is not there, or over, the page knows it then too. */
  const acted = async (id, answer) => {
    try {
      return take(await answer);
    } catch (error) {
      if (error.status === 404 || error.status === 409) find(id);
      throw error;
    }
  };
  const connect = (admitted) => {
    const heard = Object.fromEntries(Object.keys(CHANGES).map((type) => [type, hear(type)]));
    heard.removed = (message) => jobs.set(without(jobs.get(), JSON.parse(message.data).pictures));
    openStream({
      heard,
      admitted,
      opened: () => {
        connected.set(true);
        for (const job of active()) find(job.id);
      },
      away: () => connected.set(false),
    });
  };

  return {
    jobs,
    connected,
    connect,
    take,
    find,
    drop: (picture) => jobs.set(without(jobs.get(), [picture])),
    over: (listener) => {
      enders.add(listener);
      return () => enders.delete(listener);
    },
    submit: async (request) => take(await api.submit(request)),
    cancel: (id, keeping) => acted(id, api.cancel(id, keeping)),
    skip: (id) => acted(id, api.skip(id)),
    all,
    active,
  };
}
