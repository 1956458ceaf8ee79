"""What a pipeline gives back: progress while it draws, and pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pochade.ops import Tensor

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Result:
    """Picture i was drawn from seeds[i]; infotexts[i] is the parameters text that belongs into its file."""

    images: "list[Image.Image]"
    seeds: list[int]
    infotexts: list[str]


@dataclass(frozen=True)
class Progress:
    """Step `step` of `steps` is done (from 1). `result` is there with the last one only.

    denoised: the latest estimate of the finished latents, (B, C, h, w), scaled.
    """

    step: int
    steps: int
    denoised: Tensor
    _preview: "Callable[[Tensor], list[Image.Image]]"
    result: Result | None = None

    def preview(self) -> "list[Image.Image]":
        """What the pictures look like now, small and fast. Costs a small decode."""
        return self._preview(self.denoised)
