"""Finished pictures as a result, with their seeds and texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pochade.generation.infotext import ModelInfo, infotext
from pochade.generation.result import PromptSize, Result
from pochade.images.marks import EDITED, GENERATED
from pochade.request import Settled

if TYPE_CHECKING:
    from PIL import Image


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
