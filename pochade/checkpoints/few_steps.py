"""Recognises models that were distilled for few steps, and their settings.

The criteria, strongest first; the first one that applies decides:
1. the UNet takes the guidance scale as an input (`time_cond_proj_dim`): latent consistency distillation;
2. the pipeline's or the scheduler's class in a diffusers folder, where only such models have it;
3. titles in metadata: those of `modelspec` or of a trainer in a safetensors file, `_name_or_path` of a
folder; 4. the name of the file or the folder.

Only whole words of a name count: "LCM" is found in "dreamshaper_8LCM" but not in "calcmap". The name of an
adapter must say more than "lightning" or "turbo", since adapters are named for what they show.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from pochade.checkpoints.detect import XL, FileFormat
from pochade.request import Defaults

MOST_STEPS = 16
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
    """Settings of a model for few steps. kind: its authors' name for it. reason: how it was recognised, a
    clause."""

    kind: str
    reason: str
    defaults: Defaults

    def __str__(self) -> str:
        return f"{self.kind}, for {self.reason}: {self.defaults}"


@dataclass(frozen=True)
class _Kind:
    """said: a regular expression for names. only: the label of the only family with such models; empty: any.

    word: a regular expression for a word that also has an ordinary meaning ("lightning storm"). The name of
    an adapter must then also contain the model it was distilled from, or the number of steps.
    """

    said: str
    defaults: Defaults
    only: str = ""
    word: str = ""


# "Turbo" is the schedule that these were trained with, "trailing" in diffusers. Guidance 1 means off.
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
        only=XL.label,
        word="lightning",
    ),
    "Turbo": _Kind(
        r"\b(sd|sdxl|xl)?turbo\b",
        Defaults(steps=4, cfg_scale=1.0, sampler="Euler a", schedule="Turbo"),
        word="turbo",
    ),
}
TOLD = Defaults(steps=4, cfg_scale=8.0, sampler="LCM")
"""Settings of an LCM whose UNet takes the guidance scale as an input (Luo et al. 2023)."""
KEEPS_GUIDANCE = 5.0
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

    takes_guidance: whether the UNet takes the guidance scale. classes: of pipeline and scheduler. titles: by
    their source. name: of the file or folder. family: None if unknown. is_adapter: whether it is a LoRA,
    which may be named for what it shows.
    """
    known = next((each for each in classes if isinstance(each, str) and each in CLASSES), None)
    said = {where: text for where, text in titles.items() if isinstance(text, str)}
    texts = [*said.values(), name]
    label = None if family is None else family.label
    if takes_guidance:
        reason = "its UNet takes the guidance scale as an input"
        return FewSteps(kind="LCM", reason=reason, defaults=_with_steps(TOLD, texts))
    if known is not None:
        kind = CLASSES[known]
        defaults = _with_steps(KINDS[kind].defaults, texts)
        return FewSteps(kind=kind, reason=f"its configuration names {known}", defaults=defaults)
    for where, text in [*said.items(), ("", name)]:
        words = _words(text)
        for kind, about in KINDS.items():
            if re.search(about.said, words) is None or (about.only and label not in (about.only, None)):
                continue
            if is_adapter and about.word and re.search(_firmly(about.word), words) is None:
                continue
            reason = f"its {where} is '{text[:80]}'" if where else f"its name, '{name[:80]}', says so"
            defaults = _with_steps(about.defaults, [text, *texts])
            if kind == "Hyper-SD" and re.search(r"\bcfg\b", words) is not None:
                defaults = replace(defaults, cfg_scale=KEEPS_GUIDANCE)
            own = next((SAMPLERS[each] for each in classes if isinstance(each, str) and each in SAMPLERS), "")
            if kind in ("Lightning", "Turbo") and own:
                defaults = replace(defaults, sampler=own)
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


def _firmly(word: str) -> str:
    """A pattern for a word next to the name of the distilled model or to its steps: "sdxl lightning 8
    step"."""
    return rf"\b(sd|sdxl|xl) ?{word}\b|\b{word} (sd|sdxl|xl)\b|\b{word} (lora )?\d+ steps?\b"


def _with_steps(defaults: Defaults, texts: list[str]) -> Defaults:
    """The defaults with the number of steps in a name, if there is one: "sdxl_lightning_8step"."""
    for text in texts:
        found = re.search(r"\b(\d+) steps?\b", _words(text))
        if found is not None and 1 <= int(found[1][:4]) <= MOST_STEPS:
            return replace(defaults, steps=int(found[1]))
    return defaults


def _words(text: str) -> str:
    """ "SDXL-Lightning_4step", "v2Turbo" -> "sdxl lightning 4 step", "v 2 turbo"."""
    parted = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text[:500]))
    return " ".join(re.findall(r"[a-z]+|\d+", parted.lower()))
