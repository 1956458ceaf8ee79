// The jobs that this page knows of, kept true by the server's events.

import { api } from "./api.js";
import { watched } from "./state.js";

const NOW = "9"; // later than any time of this millennium
const AGAIN_MS = 3000;
const UNSEEN_MS = 30_000; // a browser has six connections to a server: a page that nobody sees gives its own back

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
    preview: before.preview ?? [],
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
  finished: (event) => ({ state: "finished", pictures: event.pictures, seconds: event.seconds, left: null }),
  failed: (event) => ({ state: "failed", error: event.error, left: null }),
  cancelled: () => ({ state: "cancelled", left: null }),
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

/**
 * hub.jobs: a watched Map of id to job. hub.connected: whether events come.
 * hub.over(listener): called with each job that ends.
 */
export function openHub() {
  const jobs = watched(new Map());
  const connected = watched(true);
  const enders = new Set();

  const put = (job) => {
    const before = jobs.get().get(job.id);
    jobs.set(new Map(jobs.get()).set(job.id, job));
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
  // The oldest first. After a reload, events may tell of a job before its answer has come: it is a new one.
  const all = () => [...jobs.get().values()].sort((a, b) => (a.created ?? NOW).localeCompare(b.created ?? NOW));
  const hear = (type) => (message) => {
    const event = JSON.parse(message.data);
    const before = jobs.get().get(event.job) ?? {
      ...seen({ id: event.job, label: event.label, state: "queued" }),
    };
    if (OVER.has(before.state)) return;
    put({ ...before, ...CHANGES[type](event) });
  };
  const again = async () => {
    const open = [...jobs.get().values()].filter((job) => !OVER.has(job.state));
    for (const job of open) await api.job(job.id).then(take, () => forget(job.id));
  };
  const forget = (id) => {
    const rest = new Map(jobs.get());
    rest.delete(id);
    jobs.set(rest);
  };

  let source = null;
  let leaving = null;
  const seeOrNot = () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(() => source.close(), UNSEEN_MS);
    else if (source.readyState === EventSource.CLOSED) connect();
  };
  document.addEventListener("visibilitychange", seeOrNot);
  const connect = () => {
    source = api.events();
    for (const type of Object.keys(CHANGES)) source.addEventListener(type, hear(type));
    source.addEventListener("removed", (message) => jobs.set(without(jobs.get(), JSON.parse(message.data).pictures)));
    source.addEventListener("open", () => {
      connected.set(true);
      again();
    });
    source.addEventListener("error", () => {
      connected.set(false);
      // The browser connects again by itself unless the server answered with an error.
      if (source.readyState === EventSource.CLOSED && !document.hidden) setTimeout(connect, AGAIN_MS);
    });
  };

  return {
    jobs,
    connected,
    connect,
    take,
    drop: (picture) => jobs.set(without(jobs.get(), [picture])),
    over: (listener) => {
      enders.add(listener);
      return () => enders.delete(listener);
    },
    submit: async (request) => take(await api.submit(request)),
    cancel: async (id, keeping) => take(await api.cancel(id, keeping)),
    skip: async (id) => take(await api.skip(id)),
    all,
    active: () => all().filter((job) => !OVER.has(job.state)),
  };
}
