"""Progress and results of a generation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pochade.images.files import encoded
from pochade.images.html_figures import figures
from pochade.images.marks import GENERATED
from pochade.images.sheet import COLUMNS, table
from pochade.ops import Tensor

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class PromptSize:
    """The length of the prompts. A scheduled prompt counts at its longest.

    chunks: the number of 75-token chunks of the longest text.
    """

    tokens: int = 0
    negative_tokens: int = 0
    chunks: int = 1

    def __str__(self) -> str:
        """Return such as 'prompt: 90 tokens, 2 chunks'."""
        parts = [f"prompt: {_counted(self.tokens, 'token')}"]
        if self.negative_tokens:
            parts.append(f"negative prompt: {_counted(self.negative_tokens, 'token')}")
        return ", ".join([*parts, _counted(self.chunks, "chunk")])


@dataclass(frozen=True)
class Result:
    """The result: picture i was drawn from seeds[i]; infotexts[i] is the parameters text for its file.

    mark: the digital source type for the files, a name of `pochade.images.marks`.
    """

    images: "list[Image.Image]"
    seeds: list[int]
    infotexts: list[str]
    prompt_size: PromptSize = PromptSize()
    mark: str = GENERATED

    def _repr_html_(self) -> str | None:
        """Show the pictures in a notebook, small, with their seeds."""
        return figures(self.images, [f"seed {seed}" for seed in self.seeds], self.infotexts, self.mark)

    def _repr_png_(self) -> bytes | None:
        """Show the picture where HTML is not supported; of several pictures the first eight on a sheet."""
        if len(self.images) == 1:
            return encoded(self.images[0], "PNG", self.infotexts[0], mark=self.mark)
        first = self.images[:COLUMNS]
        page = table(first, [f"seed {seed}" for seed in self.seeds[:COLUMNS]])
        return encoded(page, "PNG", mark=self.mark)


@dataclass(frozen=True)
class Progress:
    """Step `step` of `steps` is done, counted from 1. Only the last one has a `result`.

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
        """Return small previews of the pictures; this takes a small decode."""
        return self._preview(self.denoised)

    def now(self) -> Result:
        """Return the result as of now: the latest estimate, decoded at full size."""
        return self._now(self.denoised)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
