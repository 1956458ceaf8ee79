"""What a pipeline gives back: progress while it draws, and pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pochade.images.files import encoded
from pochade.images.inline import figures
from pochade.images.marks import GENERATED
from pochade.images.sheet import COLUMNS, table
from pochade.ops import Tensor

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class PromptSize:
    """How long the prompts are. A scheduled prompt counts at its longest.

    chunks: of 75 tokens, that the longest of all texts fills.
    """

    tokens: int = 0
    negative_tokens: int = 0
    chunks: int = 1


@dataclass(frozen=True)
class Result:
    """Picture i was drawn from seeds[i]; infotexts[i] is the parameters text that belongs into its file.

    mark: what the files should say of where the pictures come from, a name of `pochade.images.marks`.
    """

    images: "list[Image.Image]"
    seeds: list[int]
    infotexts: list[str]
    prompt_size: PromptSize = PromptSize()
    mark: str = GENERATED

    def _repr_html_(self) -> str | None:
        """How a notebook shows it: the pictures, small, with their seeds."""
        return figures(self.images, [f"seed {seed}" for seed in self.seeds], self.infotexts, self.mark)

    def _repr_png_(self) -> bytes | None:
        """How what cannot show HTML shows it: the picture; of several the first eight on a sheet."""
        if len(self.images) == 1:
            return encoded(self.images[0], "PNG", self.infotexts[0], mark=self.mark)
        first = self.images[:COLUMNS]
        page = table(first, [f"seed {seed}" for seed in self.seeds[:COLUMNS]])
        return encoded(page, "PNG", mark=self.mark)


@dataclass(frozen=True)
class Progress:
    """Step `step` of `steps` is done (from 1). `result` is there with the last one only.

    denoised: the latest estimate of the finished latents, (B, C, h, w), scaled.
    """

    step: int
    steps: int
    denoised: Tensor
    _preview: "Callable[[Tensor], list[Image.Image]]"
    _now: "Callable[[Tensor], Result]"
    result: Result | None = None
    prompt_size: PromptSize = PromptSize()

    def preview(self) -> "list[Image.Image]":
        """What the pictures look like now, small and fast. Costs a small decode."""
        return self._preview(self.denoised)

    def now(self) -> Result:
        """What would come out if it ended here: the latest estimate, decoded in full size."""
        return self._now(self.denoised)
