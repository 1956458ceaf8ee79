"""Converts the metadata of other programs' pictures to A1111's parameters text.

    SwarmUI    a JSON table as "parameters": {"sui_image_params": {...}}
    Fooocus    a JSON table as "parameters", its scheme as "fooocus_scheme"
    ComfyUI    the graph that was run, as "prompt"; in WebP files as "prompt:{...}" in an EXIF entry
    NovelAI    the prompt as "Description", the settings as a JSON table in "Comment"
    InvokeAI   a JSON table as "invokeai_metadata"; before, as "sd-metadata"

Other programs with a JSON table as "parameters" (RuinedFooocus) or with one text per value (Easy Diffusion)
are read if their names are the common ones. Prompt, seed, steps, sampler, guidance, size, model and LoRAs are
converted if they are present.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pochade.images.comfy_graph import sampled
from pochade.images.metadata import Value, parameters_line

Table = Mapping[str, Any]

SAMPLERS: Mapping[str, str] = {
    "euler": "Euler", "euler_ancestral": "Euler a", "euler_a": "Euler a", "heun": "Heun", "lms": "LMS",
    "dpm_2": "DPM2", "dpm_2_ancestral": "DPM2 a", "dpm_2_a": "DPM2 a", "dpm2": "DPM2", "dpm2_a": "DPM2 a",
    "dpm_fast": "DPM fast", "dpm_adaptive": "DPM adaptive", "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_2s": "DPM++ 2S a", "dpmpp_sde": "DPM++ SDE", "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_3m_sde": "DPM++ 3M SDE", "ddim": "DDIM", "ddim_v3": "DDIM",
    "lcm": "LCM", "tcd": "TCD", "uni_pc": "UniPC", "uni_pc_bh2": "UniPC", "unipc": "UniPC", "plms": "PLMS",
}  # fmt: skip
"""Names of k-diffusion's functions in these programs, without the prefix "k_" and the suffix "_gpu"."""

SCHEDULES: Mapping[str, str] = {
    "normal": "Normal", "karras": "Karras", "exponential": "Exponential", "sgm_uniform": "SGM Uniform",
    "simple": "Simple", "ddim_uniform": "DDIM", "beta": "Beta", "kl_optimal": "KL Optimal",
    "polyexponential": "Polyexponential", "turbo": "Turbo", "align_your_steps": "Align Your Steps",
    "ays": "Align Your Steps",
}  # fmt: skip

ANOTHER = "another program"
"""The program of a table with a prompt but without a name."""

NAI_EMPHASIS = 1.05


def program_of(info: Mapping[str, str]) -> str | None:
    """Return the program that wrote a picture's texts, if they have a format of their own."""
    if "invokeai_metadata" in info or "sd-metadata" in info or "invokeai_graph" in info or "Dream" in info:
        return "InvokeAI"
    if info.get("Software", "").startswith("NovelAI"):
        return "NovelAI"
    if _table(info.get("prompt")) is not None or _table(info.get("workflow")) is not None:
        return "ComfyUI"
    table = _table(info.get("parameters"))
    if table is not None and isinstance(table.get("sui_image_params"), dict):
        return "SwarmUI"
    if table is not None and (
        "fooocus_scheme" in info or str(table.get("version", "")).startswith("Fooocus")
    ):
        return "Fooocus"
    if table is not None and {"prompt", "positive prompt", "positive_prompt"} & set(map(str.lower, table)):
        name = table.get("software")
        named = isinstance(name, str) and re.fullmatch(r"[\w .\-]{1,40}", name)
        return str(name) if named else ANOTHER
    if "prompt" in info and info.keys() & {"num_inference_steps", "guidance_scale", "Guidance Scale"}:
        return "Easy Diffusion"
    return None


def to_infotext(info: Mapping[str, str]) -> str | None:
    """Return the equivalent parameters text; None if there is no metadata of another program, or it is empty.

    info: texts by name, as in the chunks of a PNG file; an EXIF comment is "parameters".
    """
    program = program_of(info)
    if program is None:
        return None
    found = READERS.get(program, _other)(info)
    return None if found is None else _written(found, program)


# --- each program -----------------------------------------------------------------------------------------


def _swarm(info: Mapping[str, str]) -> Table | None:
    table = _table(info["parameters"]) or {}
    data = table["sui_image_params"]
    weights, loras = _list(data.get("loraweights")), _list(data.get("loras"))
    pairs = list(zip(loras, [*weights, *[1] * len(loras)], strict=False))
    return {
        "prompt": data.get("prompt"),
        "negative": data.get("negativeprompt"),
        "steps": data.get("steps"),
        "sampler": data.get("sampler"),
        "schedule": data.get("scheduler"),
        "cfg": data.get("cfgscale"),
        "seed": data.get("seed"),
        "width": data.get("width"),
        "height": data.get("height"),
        "model": data.get("model"),
        "loras": pairs,
    }


def _fooocus(info: Mapping[str, str]) -> Table | None:
    table = _table(info["parameters"]) or {}
    data = {key.lower().replace(" ", "_"): value for key, value in table.items()}
    size = re.findall(r"\d+", str(data.get("resolution", "")))
    loras = []
    for value in _list(data.get("loras")):
        if isinstance(value, list) and len(value) >= 2:
            loras.append((re.sub(r"\.\w+$", "", str(value[0])), value[1]))
    return {
        "prompt": data.get("prompt"),
        "negative": data.get("negative_prompt"),
        "steps": data.get("steps"),
        "sampler": data.get("sampler"),
        "schedule": data.get("scheduler"),
        "cfg": data.get("guidance_scale"),
        "seed": data.get("seed"),
        "width": size[0] if len(size) == 2 else None,
        "height": size[1] if len(size) == 2 else None,
        "model": data.get("base_model"),
        "loras": loras,
        "extra": [("Clip skip", data.get("clip_skip"))],
    }


def _novel(info: Mapping[str, str]) -> Table | None:
    data = _table(info.get("Comment")) or {}
    prompt = data.get("prompt") or info.get("Description")
    return {
        "prompt": _nai_emphasis(str(prompt or "")),
        "negative": _nai_emphasis(str(data.get("uc") or "")),
        "steps": data.get("steps"),
        "sampler": data.get("sampler"),
        "schedule": data.get("noise_schedule"),
        "cfg": data.get("scale"),
        "seed": data.get("seed"),
        "width": data.get("width"),
        "height": data.get("height"),
        "model": info.get("Source"),
        "extra": [("CFG Rescale", data.get("cfg_rescale") or None)],
    }


def _invoke(info: Mapping[str, str]) -> Table | None:
    data = _table(info.get("invokeai_metadata"))
    if data is None:
        return _invoke_of_2022(_table(info.get("sd-metadata")))
    model = data.get("model")
    name = model.get("name", model.get("model_name")) if isinstance(model, dict) else model
    loras = []
    for each in _list(data.get("loras")):
        named = each.get("model", each.get("lora", {})) if isinstance(each, dict) else {}
        if isinstance(named, dict) and named:
            loras.append((named.get("name", named.get("model_name")), each.get("weight", 1)))
    return {
        "prompt": data.get("positive_prompt"),
        "negative": data.get("negative_prompt"),
        **{name: data.get(name) for name in ("steps", "seed", "width", "height")},
        "sampler": data.get("scheduler"),
        "cfg": data.get("cfg_scale"),
        "model": name,
        "loras": loras,
        "extra": [("CFG Rescale", data.get("cfg_rescale_multiplier") or None)],
    }


def _invoke_of_2022(data: Table | None) -> Table | None:
    image = None if data is None else data.get("image")
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    if isinstance(prompt, list):
        prompt = " ".join(str(each.get("prompt", "")) for each in prompt if isinstance(each, dict))
    negative = re.findall(r"\[([^\[\]]*)\]", str(prompt or ""))
    return {
        "prompt": re.sub(r"\s*\[[^\[\]]*\]", "", str(prompt or "")),
        "negative": ", ".join(negative),
        **{name: image.get(name) for name in ("steps", "seed", "width", "height", "sampler")},
        "cfg": image.get("cfg_scale"),
        "model": (data or {}).get("model_weights"),
    }


def _comfy(info: Mapping[str, str]) -> Table | None:
    graph = _table(info.get("prompt"))
    return None if graph is None else sampled(graph)


def _other(info: Mapping[str, str]) -> Table | None:
    """A table with common names, in any case, or texts with these names."""
    table = _table(info.get("parameters")) or info
    data = {re.sub(r"\W+", "_", key.strip().lower()): value for key, value in table.items()}

    def one(*names: str) -> Any:
        return next((data[name] for name in names if data.get(name) not in (None, "")), None)

    return {
        "prompt": one("prompt", "positive_prompt"),
        "negative": one("negative_prompt", "negative", "uc"),
        "steps": one("steps", "num_inference_steps"),
        "sampler": one("sampler_name", "sampler"),
        "schedule": one("scheduler", "schedule"),
        "cfg": one("cfg_scale", "cfg", "guidance_scale", "scale"),
        **{name: one(name) for name in ("seed", "width", "height")},
        "model": one("base_model_name", "base_model", "use_stable_diffusion_model", "model_name", "model"),
        "extra": [("Clip skip", one("clip_skip"))],
    }


READERS = {
    "SwarmUI": _swarm,
    "Fooocus": _fooocus,
    "NovelAI": _novel,
    "InvokeAI": _invoke,
    "ComfyUI": _comfy,
}
"""Any other program: `_other`."""


# --- inside -----------------------------------------------------------------------------------------------


def _table(text: object) -> Table | None:
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _written(found: Table, program: str) -> str | None:
    """The parameters text; None if the program's format holds neither a prompt nor settings."""
    prompt, negative = (found.get(name) for name in ("prompt", "negative"))
    sampler, schedule = _sampler(found.get("sampler"), found.get("schedule"))
    size = _plain(found.get("width")), _plain(found.get("height"))
    model = found.get("model")
    # ComfyUI on Windows writes backslashes; names here are the same on all systems.
    name = (
        None if model is None else re.sub(r"\.(safetensors|ckpt|pt|gguf)$", "", str(model).replace("\\", "/"))
    )
    pairs: list[tuple[str, Value]] = [
        ("Steps", _plain(found.get("steps"))),
        ("Sampler", sampler),
        ("Schedule type", schedule),
        ("CFG scale", _plain(found.get("cfg"))),
        ("Seed", _plain(found.get("seed"))),
        ("Size", None if None in size else f"{size[0]}x{size[1]}"),
        ("Model", None if name is None else re.sub(r"[,:\r\n]", "_", name)),
        *((key, _plain(value)) for key, value in found.get("extra", ())),
    ]
    pairs = [(key, value) for key, value in pairs if value is not None]
    if not isinstance(prompt, str) and not pairs:
        return None
    tags = [
        f"<lora:{lora.replace(chr(92), '/')}:{_plain(weight)}>"
        for lora, weight in found.get("loras", ())
        if isinstance(lora, str) and not re.search(r"[<>:]", lora) and _plain(weight) is not None
    ]
    return parameters_line(
        " ".join([prompt if isinstance(prompt, str) else "", *tags]).strip(),
        negative if isinstance(negative, str) else "",
        [*pairs, ("Version", program)],
    )


def _plain(value: object) -> Value:
    """A number, or a text that contains one, since several programs write numbers as texts; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if value == value and abs(value) < 2**53 and value == int(value) else value
    found = re.fullmatch(r"\s*-?[0-9]{1,20}(\.[0-9]{1,20})?\s*", value) if isinstance(value, str) else None
    if found is None or not isinstance(value, str):
        return None
    return _plain(float(value)) if "." in value else int(value)


def _sampler(sampler: object, schedule: object) -> tuple[str | None, str | None]:
    """Return A1111's labels; an unknown name is kept, and reported when it is used."""
    if not isinstance(sampler, str) or not sampler.strip():
        return None, None
    name = re.sub(r"^k_|_gpu$", "", sampler.strip().lower())
    karras = name not in SAMPLERS and name.endswith("_k")  # InvokeAI's suffix
    label = SAMPLERS.get(name.removesuffix("_k") if karras else name, sampler.strip())
    if karras:
        return label, "Karras"
    known = schedule.strip().lower() if isinstance(schedule, str) else ""
    if known in ("", "native"):
        return label, None
    return label, SCHEDULES.get(known, str(schedule).strip())


def _nai_emphasis(text: str) -> str:
    """Convert NovelAI's {more} and [less], factors of 1.05, to weights; its round brackets are plain text.

    Unbalanced brackets are kept.
    """
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for i, sign in enumerate(text):
        if sign in "{[":
            opened.append(i)
        elif sign in "}]" and opened and text[opened[-1]] == {"}": "{", "]": "["}[sign]:
            pairs[opened[-1]] = i
            pairs[i] = opened.pop()
    pieces = []
    for i, sign in enumerate(text):
        if sign in "()":
            pieces.append(f"\\{sign}")
        elif i in pairs and sign in "{[":
            pieces.append("(")
        elif i in pairs:
            weight = NAI_EMPHASIS if sign == "}" else 1 / NAI_EMPHASIS
            pieces.append(f":{weight:.4g})")
        else:
            pieces.append(sign)
    return "".join(pieces)
