"""Parts of a request beyond prompt and seed: source picture, variation, blend, hires, refiner,
ControlNets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pochade.errors import InvalidRequest, expect

if TYPE_CHECKING:
    from PIL import Image

RESIZE_MODES = ("stretch", "crop", "fill")
RESIZE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "just resize": "stretch",
        "just resize (latent upscale)": "stretch",
        "crop and resize": "crop",
        "scale to fit (inner fit)": "crop",
        "inner fit (scale to fit)": "crop",
        "inner_fit": "crop",
        "resize": "stretch",
        "resize and fill": "fill",
        "envelope (outer fit)": "fill",
        "outer fit (shrink to fit)": "fill",
        "outer_fit": "fill",
    }
)
"""The names in A1111's web UI and its ControlNet extension, in all of their versions -> name of
RESIZE_MODES."""
RESIZE_NUMBERS = ("stretch", "crop", "fill", "stretch")
"""Their numbers in A1111's API; the last one resizes latents."""
FILLS = ("original", "surroundings", "noise", "nothing")
"""Initial content under the mask: the picture itself, the surrounding colours, latent noise, or latent zeros.
In A1111: original, fill, latent noise, latent nothing."""

PASSES = ("both", "first", "second")
"""The passes in which a ControlNet is used, if there is a second pass (hires)."""

MAX_PADDING = 1024
MAX_BLUR = 256.0


def find_resize_mode(given: object) -> str:
    """Return the name of RESIZE_MODES for its own name, or for a name or number that A1111 uses.

    Raises InvalidRequest, listing all, for anything else.
    """
    name = str(given).strip().lower().removeprefix("resizemode.")
    if name in RESIZE_MODES:
        return name
    if name in RESIZE_NAMES:
        return RESIZE_NAMES[name]
    if not isinstance(given, bool) and name in map(str, range(len(RESIZE_NUMBERS))):
        return RESIZE_NUMBERS[int(name)]
    raise InvalidRequest(
        f"resize_mode is '{str(given)[:100]}'; one of: {', '.join(RESIZE_MODES)}, or 0 (Just Resize), 1 (Crop"
        " and Resize), 2 (Resize and Fill)"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A source picture for image-to-image and inpainting (Meng et al. 2021, SDEdit).

    image: of any size and mode; transparency counts as white.
    denoising_strength: share of the steps that are run: 0 keeps nearly everything, 1 hardly anything.
    resize_mode: how the picture is resized to the drawn size; a name of RESIZE_MODES.
    mask: a picture of the same size, white where it is to be redrawn, or opaque there if it has transparency;
        None redraws all of it.
    mask_blur: standard deviation of the Gaussian that softens the mask's edge, px.
    fill: the initial content under the mask; a name of FILLS.
    only_masked: draw only the masked part, at full size, and paste it back into the picture.
    padding: px around the masked part that are included with `only_masked`.
    """

    image: "Image.Image"
    denoising_strength: float = 0.75
    resize_mode: str = "crop"
    mask: "Image.Image | None" = None
    mask_blur: float = 4.0
    fill: str = "original"
    only_masked: bool = False
    padding: int = 32

    def __post_init__(self) -> None:
        expect("denoising_strength", self.denoising_strength, 0.0, 1.0)
        expect("mask_blur", self.mask_blur, 0.0, MAX_BLUR)
        expect("padding", self.padding, 0, MAX_PADDING)
        for name, value, known in (
            ("resize_mode", self.resize_mode, RESIZE_MODES),
            ("fill", self.fill, FILLS),
        ):
            if value not in known:
                raise InvalidRequest(f"{name} is '{value}'; one of: {', '.join(known)}")
        if self.mask is None:
            if self.only_masked:
                raise InvalidRequest("only_masked needs a mask")
        elif self.mask.size != self.image.size:
            raise InvalidRequest(
                f"the mask has {self.mask.width} x {self.mask.height} px and the picture"
                f" {self.image.width} x {self.image.height}: make them the same size"
            )


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A variation: noise mixed with that of a second seed, or noise of another size.

    strength: 0 is the first seed's noise, 1 the second's; between them the variance of the noise is kept.
    seed: the second seed of the first picture; picture i has seed + i, and all share the first seed.
    size: draw the noise as for a picture of this (width, height), px, and place it in the centre.
    """

    seed: int = 0
    strength: float = 0.0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        expect("variation strength", self.strength, 0.0, 1.0)
        expect("variation seed", self.seed, 0, 2**63)
        for side in self.size or ():
            expect("size of the seed", side, 8, 8192)


@dataclass(frozen=True, kw_only=True)
class Blend:
    """A second prompt that is blended with the request's prompt.

    share: 0 is the request's prompt, 1 this one. The conditionings of both are interpolated linearly; the
    negative prompt is unchanged.
    """

    prompt: str
    share: float

    def __post_init__(self) -> None:
        expect("share of a blend", self.share, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Hires:
    """A second pass on a larger picture (hires. fix): the first decides the composition, the second adds
    detail.

    scale: factor of width and height. size: (width, height), px, instead of a scale; with another aspect
        ratio the second pass shows the centre of the first.
    steps: of the second pass; None means as many as in the first.
    denoising_strength: how much noise is added before it; at 0 no step is taken and the picture is only
        enlarged, as in A1111.
    upscaler: a name of `pochade.images.upscaling`, of pictures or of latents, or the file of an ESRGAN model.
    prompt, negative_prompt, sampler, schedule, cfg_scale: of the second pass; None means as in the first.
    model: the checkpoint (file, diffusers folder or name) of the second pass; None means that of the first.
    """

    scale: float = 2.0
    size: tuple[int, int] | None = None
    upscaler: str = "Latent"
    steps: int | None = None
    denoising_strength: float = 0.7
    prompt: str | None = None
    negative_prompt: str | None = None
    sampler: str | None = None
    schedule: str | None = None
    cfg_scale: float | None = None
    model: str | Path | None = None

    def __post_init__(self) -> None:
        expect("hires scale", self.scale, 1.0, 8.0)
        if self.cfg_scale is not None:
            expect("hires cfg_scale", self.cfg_scale, 0.0, 100.0)
        expect("denoising_strength of hires", self.denoising_strength, 0.0, 1.0)
        if self.steps is not None:
            expect("hires steps", self.steps, 1, 1000)
        for side in self.size or ():
            expect("hires size", side, 8, 8192)

    def with_texts(
        self, prompt: Callable[[str], str] | None, negative_prompt: Callable[[str], str] | None
    ) -> "Hires":
        """Return a copy with these functions applied to its own prompts, where both exist."""
        changed: dict[str, Any] = {
            name: change(text)
            for name, change, text in (
                ("prompt", prompt, self.prompt),
                ("negative_prompt", negative_prompt, self.negative_prompt),
            )
            if change is not None and text is not None
        }
        return replace(self, **changed)


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """A second model that takes over for the last steps (Podell et al. 2023, section 2.5).

    model: a checkpoint (file, diffusers folder or name): XL's refiner, or any model with the same latents.
    switch: the share of the training timesteps, from the noisiest, after which it takes over: 0.8 of 1000
        means the timesteps below 200, with any schedule. With a second pass (`Hires`) only that pass uses it.
    """

    model: str | Path
    switch: float = 0.8

    def __post_init__(self) -> None:
        expect("refiner switch", self.switch, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """A ControlNet with its control picture (Zhang et al. 2023).

    image: of any size and mode; transparency counts as white.
    model: a ControlNet (file or diffusers folder) of the same family as the model.
    strength: the scale of its residuals; 0 switches it off, 1 is that of training.
    start, end: the shares of the steps between which it is used; 0 and 1 mean all steps.
    preprocessor: applied to the picture first; a name of `pochade.images.preprocessors`.
    resize_mode: how the picture is resized to the drawn size; a name of RESIZE_MODES.
    passes: with a second pass (`Hires`), the passes that use it; a name of PASSES.
    resolution: px of the shorter side at which the preprocessor runs; None means the drawn size.
    thresholds: (low, high) of the preprocessor `canny`, 0 to 255 as in other tools; None means 100, 200.
    """

    image: "Image.Image"
    model: str | Path
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    preprocessor: str = "none"
    resize_mode: str = "crop"
    passes: str = "both"
    resolution: int | None = None
    thresholds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        expect("strength of a control", self.strength, 0.0, 2.0)
        expect("start of a control", self.start, 0.0, 1.0)
        expect("end of a control", self.end, self.start, 1.0)
        if self.resize_mode not in RESIZE_MODES:
            raise InvalidRequest(f"resize_mode is '{self.resize_mode}'; one of: {', '.join(RESIZE_MODES)}")
        if self.passes not in PASSES:
            raise InvalidRequest(f"passes of a control is '{self.passes}'; one of: {', '.join(PASSES)}")
        if self.resolution is not None:
            expect("resolution of a control", self.resolution, 64, 2048)
        for threshold in self.thresholds or ():
            expect("threshold of a control", threshold, 0.0, 255.0)
