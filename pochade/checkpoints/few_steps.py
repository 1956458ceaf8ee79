"""Detects models that were distilled for few steps, and their settings.

The first criterion that applies decides:
1. the UNet takes the guidance scale as an input (`time_cond_proj_dim`): latent consistency distillation;
2. a pipeline or scheduler class in a diffusers folder that only such models have;
3. titles in metadata: those of `modelspec` or of a trainer in a safetensors file, `_name_or_path` of a
folder; 4. the name of the file or the folder.

Only whole words of a name count: "LCM" is found in "dreamshaper_8LCM" but not in "calcmap". For an
adapter, "lightning" or "turbo" alone is not enough, since adapters are often named for what they show.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from pochade.checkpoints.detect import XL, FileFormat
from pochade.request import Defaults

MAX_STEPS = 16
"""A larger number before "steps" in a name refers to training."""

TITLES = ("modelspec.title", "modelspec.architecture", "modelspec.tags", "ss_output_name")
"""Metadata that name the file. Descriptions are ignored, since they mention other models too."""

CLASSES: Mapping[str, str] = {
    "LCMScheduler": "LCM",
    "LatentConsistencyModelPipeline": "LCM",
    "LatentConsistencyModelImg2ImgPipeline": "LCM",
    "TCDScheduler": "TCD",
}
SAMPLERS: Mapping[str, str] = {
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
}
"""Scheduler classes that a folder may name instead of the sampler of its kind."""


@dataclass(frozen=True, kw_only=True)
class FewSteps:
    """Settings of a model for few steps.

    kind: its authors' name for it. reason: how it was detected, a clause.
    """

    kind: str
    reason: str
    defaults: Defaults

    def __str__(self) -> str:
        return f"{self.kind} ({self.reason}): {self.defaults}"


@dataclass(frozen=True)
class _Kind:
    """name_pattern: a regular expression for names. family: the only family with such models; empty: any.

    word: a regular expression for a word that also has an ordinary meaning ("lightning storm"). The name of
    an adapter must then also contain the model it was distilled from, or the number of steps.
    """

    name_pattern: str
    defaults: Defaults
    family: str = ""
    word: str = ""


# They were trained with the schedule "Turbo", "trailing" in diffusers. A guidance scale of 1 means off.
KINDS: Mapping[str, _Kind] = {
    "Hyper-SD": _Kind(
        r"\bhyper (sd|sdxl|xl)\b|\bhyper\b.*\b\d+ steps?\b",
        Defaults(steps=4, cfg_scale=1.0, sampler="DDIM", schedule="Turbo"),
        word="hyper",
    ),
    "TCD": _Kind(r"\btcd\b", Defaults(steps=4, cfg_scale=1.0, sampler="TCD")),
    "DMD2": _Kind(r"\bdmd\b", Defaults(steps=4, cfg_scale=1.0, sampler="LCM", schedule="Turbo")),
    "LCM": _Kind(r"\blcm\b", Defaults(steps=4, cfg_scale=1.0, sampler="LCM")),
    "Lightning": _Kind(
        r"\b(sd|sdxl|xl)?lightning\b",
        Defaults(steps=4, cfg_scale=1.0, sampler="Euler", schedule="Turbo"),
        family=XL.label,
        word="lightning",
    ),
    "Turbo": _Kind(
        r"\b(sd|sdxl|xl)?turbo\b",
        Defaults(steps=4, cfg_scale=1.0, sampler="Euler a", schedule="Turbo"),
        word="turbo",
    ),
}
LCM_DEFAULTS = Defaults(steps=4, cfg_scale=8.0, sampler="LCM")
"""Settings of an LCM whose UNet takes the guidance scale as an input (Luo et al. 2023)."""
HYPER_CFG_SCALE = 5.0
"""The guidance scale of Hyper-SD's adapters with "CFG" in their names."""


def find_few_steps(
    *,
    takes_guidance: bool = False,
    classes: tuple[object, ...] = (),
    titles: Mapping[str, object],
    name: str,
    family: FileFormat | None = None,
    is_adapter: bool = False,
) -> FewSteps | None:
    """Return the settings of a model for few steps, or None for other models.

    takes_guidance: whether the UNet takes the guidance scale. classes: those of pipeline and scheduler.
    titles: source -> title. name: of the file or folder. family: None if unknown. is_adapter:
    whether it is a LoRA, which may be named for what it shows.
    """
    known = next((each for each in classes if isinstance(each, str) and each in CLASSES), None)
    known_titles = {source: text for source, text in titles.items() if isinstance(text, str)}
    texts = [*known_titles.values(), name]
    label = None if family is None else family.label
    if takes_guidance:
        reason = "its UNet takes the guidance scale as an input"
        return FewSteps(kind="LCM", reason=reason, defaults=_with_steps(LCM_DEFAULTS, texts))
    if known is not None:
        kind = CLASSES[known]
        defaults = _with_steps(KINDS[kind].defaults, texts)
        return FewSteps(kind=kind, reason=f"its configuration names {known}", defaults=defaults)
    for source, text in [*known_titles.items(), ("", name)]:
        words = _words(text)
        for kind, spec in KINDS.items():
            if re.search(spec.name_pattern, words) is None or (
                spec.family and label not in (spec.family, None)
            ):
                continue
            if is_adapter and spec.word and re.search(_strict_pattern(spec.word), words) is None:
                continue
            reason = f"its {source} is '{text[:80]}'" if source else f"its name is '{name[:80]}'"
            defaults = _with_steps(spec.defaults, [text, *texts])
            if kind == "Hyper-SD" and re.search(r"\bcfg\b", words) is not None:
                defaults = replace(defaults, cfg_scale=HYPER_CFG_SCALE)
            sampler_name = next(
                (SAMPLERS[each] for each in classes if isinstance(each, str) and each in SAMPLERS), ""
            )
            if kind in ("Lightning", "Turbo") and sampler_name:
                defaults = replace(defaults, sampler=sampler_name)
            return FewSteps(kind=kind, reason=reason, defaults=defaults)
    return None


def few_steps_of_folder(
    name: str,
    index: Mapping[str, Any],
    unet: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    family: FileFormat | None = None,
) -> FewSteps | None:
    """Apply `find_few_steps` to the configuration files of a diffusers folder."""
    origins = {
        f"_name_or_path in {file}": "/".join(PurePath(str(table.get("_name_or_path", ""))).parts[-2:])
        for file, table in (("model_index.json", index), ("unet/config.json", unet))
    }
    return find_few_steps(
        takes_guidance=unet.get("time_cond_proj_dim") is not None,
        classes=(index.get("_class_name"), scheduler.get("_class_name")),
        titles=origins,
        name=name,
        family=family,
    )


def titles_of(metadata: Mapping[str, str]) -> dict[str, object]:
    """Return the titles in the metadata of a safetensors file."""
    return {key: metadata[key] for key in TITLES if key in metadata}


def _strict_pattern(word: str) -> str:
    """Return a pattern for a word next to a model's name or a number of steps: "sdxl lightning 8 step"."""
    return rf"\b(sd|sdxl|xl) ?{word}\b|\b{word} (sd|sdxl|xl)\b|\b{word} (lora )?\d+ steps?\b"


def _with_steps(defaults: Defaults, texts: list[str]) -> Defaults:
    """Replace the number of steps by the one in a name, if there is any: "sdxl_lightning_8step"."""
    for text in texts:
        found = re.search(r"\b(\d+) steps?\b", _words(text))
        if found is not None and 1 <= int(found[1][:4]) <= MAX_STEPS:
            return replace(defaults, steps=int(found[1]))
    return defaults


def _words(text: str) -> str:
    """Split a name into words: "SDXL-Lightning_4step" -> "sdxl lightning 4 step"."""
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text[:500]))
    return " ".join(re.findall(r"[a-z]+|\d+", spaced.lower()))
