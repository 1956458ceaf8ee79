"""Requests for pictures, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pochade.errors import InvalidRequest, expect
from pochade.request_options import Blend, Control, Hires, Refiner, Source, Variation
from pochade.speed import EXACT, find_speed

RNG_NV, RNG_CPU = RNGS = ("NV", "CPU")
"""Sources of noise, by A1111's names: the random numbers of a CUDA device, or those of torch on a CPU, which
ComfyUI uses too."""

EMPHASES = ("Original", "No norm", "Ignore", "None")
"""What emphasis in a prompt does, by A1111's names. Original: multiply the tokens' vectors, then restore
their mean; No norm: multiply them only; Ignore: nothing; None: brackets are ordinary text."""

MAX_STEPS = 1000
MAX_BATCH = 64
MAX_SIDE = 8192
MAX_CONTROLS = 8
MAX_PROMPT_CHARACTERS = 200_000
FITTED, FILLED, SET_BACK = FRAMINGS = ("fitted", "filled", "set back")
"""How a source picture is fitted. fitted: resized to the drawn size in its resize mode; the result has
that size. filled: padded to whole latent pixels and cropped again, so that its own size is kept. set back:
resized to the drawn size; the masked part of the result is pasted into the picture at its own size."""
TEXTS = ("prompt", "negative_prompt", "template", "negative_template")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The settings of a model that apply where a request does not set them."""

    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "DPM++ 2M"
    schedule: str = "Automatic"

    def __str__(self) -> str:
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        guidance = "no guidance" if self.cfg_scale == 1 else f"guidance {self.cfg_scale:g}"
        schedule = "" if self.schedule == "Automatic" else f", schedule {self.schedule}"
        return f"{steps}, {guidance}, sampler {self.sampler}{schedule}"


DEFAULTS = Defaults()
"""The defaults of every model that was not distilled for few steps (`checkpoints.few_steps`)."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for pictures. Sizes are in pixels; None means the model's default.

    steps, cfg_scale, sampler, schedule: None means the model's own values, usually DEFAULTS.
    prompt, negative_prompt: in the grammar of docs/guide/prompts.md, except templates and styles.
    seed: the first picture's; picture i of the batch has seed + i. None draws one at random.
    cfg_scale: classifier-free guidance, 1 switches it off (Ho and Salimans 2022).
    guidance_rescale: 0..1, how far the guided prediction's standard deviation is rescaled towards
        the conditional one's (Lin et al. 2023, section 3.4).
    eta: share of fresh noise, 0..1 (Song et al. 2020, equation 16), in samplers that have one; None means
        the sampler's default: 0 in DDIM, 0.3 in TCD, 1 in ancestral samplers such as 'Euler a'.
    clip_skip: the layer of the text encoder whose output is used, counted from the end: 1 is the last, 2
        the one before. Families that always use the last but one (XL, SD 2.x) treat 1 as 2.
    template, negative_template: the templates from which the prompts were expanded, if any
        (`pochade.prompts.dynamic`). They are only stored in the picture's metadata.
    speed: 'exact', 'balanced' or 'fast': how much computation may be skipped (`pochade.speed`).
    tiling: make opposite edges of the picture fit together.
    rng: the source of noise, a name of RNGS.
    emphasis: what emphasis in a prompt does, a name of EMPHASES.
    source, blend, variation, hires, refiner, controls: see `pochade.request_options`.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    guidance_rescale: float = 0.0
    width: int | None = None
    height: int | None = None
    sampler: str | None = None
    schedule: str | None = None
    eta: float | None = None
    clip_skip: int = 1
    batch_size: int = 1
    template: str = ""
    negative_template: str = ""
    speed: str = EXACT
    tiling: bool = False
    rng: str = RNG_NV
    emphasis: str = EMPHASES[0]
    source: Source | None = None
    blend: Blend | None = None
    variation: Variation | None = None
    hires: Hires | None = None
    refiner: Refiner | None = None
    controls: tuple[Control, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is not None:
            expect("steps", self.steps, 1, MAX_STEPS)
        expect("batch_size", self.batch_size, 1, MAX_BATCH)
        if self.cfg_scale is not None:
            expect("cfg_scale", self.cfg_scale, 0.0, 100.0)
        expect("guidance_rescale", self.guidance_rescale, 0.0, 1.0)
        if self.eta is not None:
            expect("eta", self.eta, 0.0, 1.0)
        if self.speed != EXACT:
            find_speed(self.speed)
        for name, value, known in (("rng", self.rng, RNGS), ("emphasis", self.emphasis, EMPHASES)):
            if value not in known:
                raise InvalidRequest(f"{name} is '{value}'; one of: {', '.join(known)}")
        expect("clip_skip", self.clip_skip, 1, 12)
        if self.seed is not None:
            expect("seed", self.seed, 0, 2**64 - 1 - MAX_BATCH)
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None:
                expect(name, side, 8, MAX_SIDE)
        for name, text in self.texts().items():
            if len(text) > MAX_PROMPT_CHARACTERS:
                raise InvalidRequest(
                    f"{name} has {len(text):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are allowed"
                )
        if len(self.controls) > MAX_CONTROLS:
            raise InvalidRequest(
                f"{len(self.controls)} controls were given; at most {MAX_CONTROLS} are allowed"
            )
        if self.source is not None and self.hires is not None:
            raise InvalidRequest("hires cannot be combined with a source picture; leave out one of the two")
        if self.blend is not None and self.hires is not None and self.hires.prompt is not None:
            raise InvalidRequest("a blend applies to both passes; leave out the prompt of hires")

    def texts(self) -> dict[str, str]:
        """Return all prompts and templates by their names in messages."""
        texts = {name: getattr(self, name) for name in TEXTS}
        if self.blend is not None:
            texts["prompt of a blend"] = self.blend.prompt
        if self.hires is not None:
            texts["prompt of hires"] = self.hires.prompt or ""
            texts["negative_prompt of hires"] = self.hires.negative_prompt or ""
        return texts


@dataclass(frozen=True, kw_only=True)
class Settled(Request):
    """A request with all defaults resolved (`generation.settle.settle`).

    width, height: the drawn size, in whole latent pixels.
    framing: how a source picture is fitted to that size, and the result set back; one of FRAMINGS.
    """

    seed: int
    steps: int
    cfg_scale: float
    width: int
    height: int
    sampler: str
    schedule: str
    framing: str = FITTED


def find_rng(name: str) -> str:
    """Return the name of RNGS that matches in any case. Raises InvalidRequest, listing all, for other names.

    A1111's "GPU" means "NV": the random numbers of its device, which is usually a CUDA device.
    """
    return RNG_NV if name.strip().lower() == "gpu" else _named("rng", name, RNGS)


def find_emphasis(name: str) -> str:
    """Return the name of EMPHASES that matches in any case. Raises InvalidRequest, listing all, for other
    names."""
    return _named("emphasis", name, EMPHASES)


def _named(what: str, name: str, known: tuple[str, ...]) -> str:
    plain = name.strip().lower().replace("_", " ").replace("-", " ")
    for each in known:
        if each.lower() == plain:
            return each
    raise InvalidRequest(f"{what} is '{name}'; one of: {', '.join(known)}")


def missing_fields(values: Mapping[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Return the fields of `defaults`, by name, that are None or missing in `values`."""
    return {name: value for name, value in vars(defaults).items() if values.get(name) is None}
