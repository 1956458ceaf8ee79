// The native API, docs/api.md: one function for each thing that the page asks.

// Relative to the page's own address, which a proxy may have put below a path.
const ROOT = "api/v1";

/** Where the server's address of a picture lies from this page. */
export const address = (url) => url.replace(/^\//, "");

/** An answer that is no. code and field are the server's; retryAfter in seconds or null. */
export class Refused extends Error {
  constructor(status, { code = "unknown", message = "", field = null } = {}, retryAfter = null) {
    super(message || `HTTP ${status}`);
    Object.assign(this, { status, code, field, retryAfter });
  }
}

const OPEN = new Set(["/session", "/login", "/logout"]); // what needs no key
let admit = null;

/** f() is called where the server wants a key; once it resolves, what was asked is asked again. */
export function onUnauthorized(f) {
  admit = f;
}

async function ask(method, path, body, admitted = false) {
  let reply;
  try {
    reply = await fetch(ROOT + path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new Refused(0, { code: "unreachable" });
  }
  if (reply.status === 204) return null;
  if (reply.status === 401 && admit !== null && !admitted && !OPEN.has(path)) {
    await admit();
    return ask(method, path, body, true);
  }
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) {
    const wait = Number(reply.headers.get("Retry-After"));
    throw new Refused(reply.status, answer.error, Number.isFinite(wait) && wait > 0 ? wait : null);
  }
  return answer;
}

const get = (path) => ask("GET", path);
const post = (path, body = {}) => ask("POST", path, body);
const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};
const one = encodeURIComponent;

export const api = {
  session: () => get("/session"),
  login: (key) => post("/login", { key }),
  logout: () => post("/logout"),

  status: () => get("/status"),
  defaults: () => get("/defaults"),
  models: async () => (await get("/models")).models,
  refresh: async () => (await post("/models/refresh")).models,
  samplers: async () => (await get("/samplers")).samplers,
  schedules: async () => (await get("/schedules")).schedules,
  styles: async () => (await get("/styles")).styles,
  loras: async () => (await get("/loras")).loras,
  embeddings: async () => (await get("/embeddings")).embeddings,
  knownModels: () => get("/known-models"),
  lookUp: (name) => post(`/known-models/${one(name)}/look-up`),
  pull: (request) => post("/pulls", request),
  upscalers: async () => (await get("/upscalers")).upscalers,

  submit: (request) => post("/jobs", request),
  job: (id) => get(`/jobs/${one(id)}`),
  jobs: (values = {}) => get(`/jobs${query(values)}`),
  cancel: (id, keep) => post(`/jobs/${one(id)}/cancel`, { keep }),
  cancelAll: () => post("/jobs/cancel"),
  skip: (id) => post(`/jobs/${one(id)}/skip`),

  pictures: (values = {}) => get(`/pictures${query(values)}`),
  about: (id) => get(`/pictures/${one(id)}/about`),
  pin: (id, pinned) => post(`/pictures/${one(id)}/pin`, { pinned }),
  remove: (id) => ask("DELETE", `/pictures/${one(id)}`),
  info: (image) => post("/info", { image }),

  events: () => new EventSource(`${ROOT}/events`),
};
