"""Reads the graph that ComfyUI writes into its pictures, from the picture's first sampler backwards.

    {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "positive": ["6", 0], ...}}, ...}

An input is a value, or a link: [node, number of its output]. A graph is a program; settings that cannot be
found are omitted.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Table = Mapping[str, Any]

MAX_NODES = 2000
MAX_LINKS = 100
"""The most links that are followed from a node."""

ROLES = ("positive", "negative")
"""Inputs and, in the same order, outputs of nodes that take both prompts, such as those of ControlNets."""
PARTS = ("guider", "sampler", "sigmas", "noise")
"""Inputs of a SamplerCustom whose nodes hold its settings."""
TEXTS = ("text", "text_g", "string", "value", "prompt")


def sampled(graph: Table) -> Table | None:
    """Return prompt, negative prompt and settings of the first sampler that starts from an empty latent, or
    of the first sampler; None without a sampler."""
    nodes = [(key, node) for key, node in graph.items() if isinstance(node, dict)][:MAX_NODES]
    kinds = {key: str(node.get("class_type", "")) for key, node in nodes}
    inputs = {key: node["inputs"] for key, node in nodes if isinstance(node.get("inputs"), dict)}
    walk = _Walk(inputs, kinds)
    samplers = [given for given in map(walk.settings, inputs) if given is not None]
    if not samplers:
        return None
    given = next(filter(_starts_from_empty_latent, samplers), samplers[0])
    model = list(walk.follow(given.get("model"), "model"))
    size = next(
        (node for _, node in walk.follow(given.get("latent_image"), "samples") if "width" in node), {}
    )
    return {
        "prompt": walk.text(given.get("positive", given.get("conditioning")), "positive"),
        "negative": walk.text(given.get("negative"), "negative"),
        "steps": walk.number(given, "steps"),
        "sampler": given.get("sampler_name"),
        "schedule": given.get("scheduler"),
        "cfg": walk.number(given, "cfg"),
        "seed": walk.number(given, "seed" if "seed" in given else "noise_seed"),
        "width": size.get("width"),
        "height": size.get("height"),
        "model": next((node["ckpt_name"] for _, node in model if "ckpt_name" in node), None),
        "loras": [
            (re.sub(r"\.\w+$", "", str(node["lora_name"])), node.get("strength_model", 1))
            for _, node in model
            if "lora_name" in node
        ],
    }


# --- inside -----------------------------------------------------------------------------------------------


def _starts_from_empty_latent(given: Table) -> bool:
    begin, noise = given.get("start_at_step", 0), given.get("add_noise", "enable")
    return given.get("denoise", 1) == 1 and begin == 0 and noise not in ("disable", False)


class _Walk:
    """Follows links. inputs: the inputs of each node. kinds: the class of each node."""

    def __init__(self, inputs: Mapping[str, Table], kinds: Mapping[str, str]) -> None:
        self._inputs, self._kinds = inputs, kinds

    def follow(self, link: object, name: str) -> Iterator[tuple[str, Table]]:
        """Yield the nodes that a link leads to, following their inputs of this name or their first link."""
        for _ in range(MAX_LINKS):
            key = _node_of(link)
            node = None if key is None else self._inputs.get(key)
            if key is None or node is None:
                return
            yield key, node
            link = node.get(name, next((each for each in node.values() if isinstance(each, list)), None))

    def settings(self, key: str) -> Table | None:
        """Return the inputs of a sampler, with those of its parts if it has any; None for other nodes."""
        own = self._inputs[key]
        found = dict(own)
        for part in PARTS:
            for _, node in self.follow(own.get(part), part):
                found.update({name: value for name, value in node.items() if name not in found})
        seeded, stepped = {"seed", "noise_seed"} & found.keys(), "steps" in found
        takes_noise = own.keys() & {"seed", "noise_seed", "noise"}
        return found if seeded and stepped and takes_noise else None

    def text(self, link: object, role: str) -> str | None:
        """Return the prompt that a link leads to. role: one of ROLES."""
        for _ in range(MAX_LINKS):
            key = _node_of(link)
            node = None if key is None else self._inputs.get(key)
            if key is None or node is None:
                return None
            if self._kinds[key] == "ConditioningZeroOut":
                return ""
            if all(isinstance(node.get(each), list) for each in ROLES):
                role = _role_of(link, role)
                link = node[role]
                continue
            for name in (*TEXTS, role):
                value = node.get(name)
                if isinstance(value, list):
                    return self._linked_text(value)
                if isinstance(value, str):
                    return value
            first = next((each for each in node.values() if isinstance(each, list)), None)
            link = node.get("conditioning", first)
        return None

    def number(self, given: Table, name: str) -> object:
        value = given.get(name)
        if not isinstance(value, list):
            return value
        values = (value for _, node in self.follow(value, name) for value in node.values())
        return next((value for value in values if isinstance(value, int | float)), None)

    def _linked_text(self, link: object) -> str | None:
        for _, node in self.follow(link, "text"):
            value = next((value for value in node.values() if isinstance(value, str)), None)
            if value is not None:
                return value
        return None


def _node_of(link: object) -> str | None:
    return str(link[0]) if isinstance(link, list) and link else None


def _role_of(link: object, role: str) -> str:
    """Return which of the two prompts a node's output is; `role` if its number does not decide."""
    output = link[1] if isinstance(link, list) and len(link) > 1 else None
    return ROLES[output] if isinstance(output, int) and 0 <= output < len(ROLES) else role
