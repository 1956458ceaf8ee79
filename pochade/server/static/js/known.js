// What the server has: models, samplers and the rest, each a watched list.

import { api } from "./api.js";
import { watched } from "./state.js";

const KINDS = ["models", "samplers", "schedules", "styles", "loras", "embeddings", "upscalers"];

export async function openCatalogue() {
  const lists = await Promise.all(KINDS.map((kind) => api[kind]()));
  const known = Object.fromEntries(KINDS.map((kind, i) => [kind, watched(lists[i])]));
  /** Options of a field. first: words of one more, which stands for no choice. */
  const choices = (list, label, first = null) => {
    const options = watched([]);
    const before = first === null ? [] : [{ value: "", label: first }];
    list.watch((items) => options.set([...before, ...items.map((item) => ({ value: item.name, label: label(item) }))]));
    return options;
  };
  const refresh = async () => {
    known.models.set(await api.refresh());
    for (const kind of KINDS.slice(3)) known[kind].set(await api[kind]());
  };
  const standard = () => (known.models.get().find((model) => model.default) ?? known.models.get()[0])?.name ?? null;
  return { ...known, choices, refresh, standard };
}
