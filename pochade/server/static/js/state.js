// Values that others may watch, and values that the browser remembers.

/** {get, set, change, watch}: `watch` calls at once and after every change, and returns what ends it. */
export function watched(initial) {
  let value = initial;
  const watchers = new Set();
  const set = (next) => {
    if (Object.is(next, value)) return;
    value = next;
    for (const watcher of [...watchers]) watcher(value);
  };
  return {
    get: () => value,
    set,
    change: (part) => set({ ...value, ...part }),
    watch: (watcher) => {
      watchers.add(watcher);
      watcher(value);
      return () => watchers.delete(watcher);
    },
  };
}

/** What was kept under this name, or `fallback` if nothing was, or if storage is forbidden. */
export function recalled(name, fallback) {
  try {
    const text = localStorage.getItem(`pochade.${name}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

/** Keep a value for the next visit; null forgets it. Without storage the visit goes on without a memory. */
export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(`pochade.${name}`);
    else localStorage.setItem(`pochade.${name}`, JSON.stringify(value));
  } catch {
    // Private windows and full storage: nothing is kept.
  }
}
