"""What a pipeline gives back: progress while it draws, and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pochade.generation.infotext import ModelInfo, infotext
from pochade.images.files import encoded
from pochade.images.html_figures import figures
from pochade.images.marks import EDITED, GENERATED
from pochade.images.sheet import COLUMNS, table
from pochade.ops import Tensor
from pochade.request import Settled

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


def result_of(
    images: "list[Image.Image]", requests: Sequence[Settled], maker: ModelInfo, prompt_size: PromptSize
) -> Result:
    """requests: one for each picture, which draws it alone."""
    texts = [infotext(request, maker) for request in requests]
    mark = GENERATED if requests[0].source is None else EDITED
    return Result(images, [request.seed for request in requests], texts, prompt_size, mark)


def joined(results: Sequence[Result]) -> Result:
    """The pictures of several as one; all were drawn alike."""
    return Result(
        [image for result in results for image in result.images],
        [seed for result in results for seed in result.seeds],
        [text for result in results for text in result.infotexts],
        results[0].prompt_size,
        results[0].mark,
    )
