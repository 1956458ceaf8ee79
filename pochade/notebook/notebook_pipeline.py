"""`NotebookPipeline`: a pipeline whose drawings are shown in the notebook cell as they progress."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pochade.errors import InvalidRequest, expect
from pochade.generation.result import Progress, Result
from pochade.images.html_figures import figures, placeholder
from pochade.notebook.display import DisplayHandle, Frame, bar
from pochade.pipeline.pipeline import Pipeline
from pochade.request import MAX_BATCH, Request
from pochade.request_options import Source, Variation

if TYPE_CHECKING:
    from PIL import Image

BETWEEN_FRAMES_S = 0.15
DRAFT_STEPS = 8


@dataclass(frozen=True, repr=False)
class DisplayedResult(Result):
    """A result that the cell already shows, so it is not displayed again. `show()` displays it again."""

    def _repr_html_(self) -> None:
        return None

    def _repr_png_(self) -> None:
        return None

    def __repr__(self) -> str:
        pictures = "1 picture" if len(self.images) == 1 else f"{len(self.images)} pictures"
        return f"<{pictures}, seed {', '.join(map(str, self.seeds))}>"

    def show(self) -> Result:
        """The pictures, for front ends that display the last line of a cell."""
        return Result(**{field.name: getattr(self, field.name) for field in fields(Result)})


@dataclass(frozen=True, repr=False)
class Sheet:
    """Drafts of one prompt, numbered from 1 as displayed. Slices and indices count from 0, as in any
    sequence."""

    pipeline: "NotebookPipeline"
    requests: Sequence[Request]
    results: Sequence[Result]

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, number: int) -> Result:
        return self.results[number]

    def __repr__(self) -> str:
        prompt = self.requests[0].prompt
        return f"<{len(self)} drafts of '{prompt}'; .refine(1) draws the first one with more steps>"

    def refine(self, number: int, **changes: Any) -> DisplayedResult:
        """Draw draft `number` (from 1) again with more steps or other changes to its request."""
        if not 1 <= number <= len(self):
            raise InvalidRequest(f"draft {number} is not on the sheet; it has 1 to {len(self)}")
        changed: dict[str, Any] = {"steps": None, **changes}
        return self.pipeline.draw(replace(self.requests[number - 1], **changed))

    def near(self, number: int, *, count: int = 4, strength: float = 0.3) -> "Sheet":
        """Draw variations of draft `number` (from 1): its noise, slightly changed."""
        if not 1 <= number <= len(self):
            raise InvalidRequest(f"draft {number} is not on the sheet; it has 1 to {len(self)}")
        like = self.requests[number - 1]
        varied = (Variation(seed=secrets.randbelow(2**32), strength=strength) for _ in range(count))
        return self.pipeline.sheet([replace(like, variation=each) for each in varied])


@dataclass(frozen=True)
class NotebookPipeline:
    """A pipeline in a notebook. clock: seconds, as `time.monotonic` gives them."""

    pipeline: Pipeline
    clock: Callable[[], float] = time.monotonic

    def txt2img(self, prompt: str, **options: Any) -> DisplayedResult:
        """`Pipeline.txt2img`, with its progress shown."""
        return self.draw(Request(prompt=prompt, **options))

    def img2img(self, prompt: str, *, image: "Image.Image", **options: Any) -> DisplayedResult:
        """`Pipeline.img2img`, with its progress shown; with `mask`, only its white area is redrawn."""
        about = {each.name: options.pop(each.name) for each in fields(Source) if each.name in options}
        return self.draw(Request(prompt=prompt, source=Source(image=image, **about), **options))

    def draw(self, request: Request) -> DisplayedResult:
        """Draw in this cell: shows the preview and the time left, then the picture.

        Interrupting the kernel stops the drawing; what is displayed stays.
        """
        place = DisplayHandle(Frame(bar(0, 1, "starting"), "starting"))
        began, shown, result = self.clock(), 0.0, None
        for progress in self.pipeline.stream(request):
            result = progress.result
            if result is None and self.clock() - shown >= BETWEEN_FRAMES_S:
                shown = self.clock()
                place.show(_progress_frame(progress, shown - began))
        assert result is not None, "a stream ends with a result"
        captions = [f"seed {seed}" for seed in result.seeds]
        html = figures(result.images, captions, result.infotexts, result.mark)
        drawn = DisplayedResult(**{field.name: getattr(result, field.name) for field in fields(Result)})
        place.show(Frame(html + bar(1, 1, f"{self.clock() - began:.1f} s"), repr(drawn)))
        return drawn

    def drafts(self, prompt: str, *, count: int = 8, steps: int = DRAFT_STEPS, **options: Any) -> Sheet:
        """Draw a sheet of quick drafts of one prompt, each from another seed; it is filled as they are drawn.

        seed: of the first draft; the others are random. options: fields of `Request`.
        """
        expect("count", count, 1, MAX_BATCH)
        first = Request(prompt=prompt, steps=steps, **options)
        seeds = [first.seed] + [None] * (count - 1)
        chosen = [secrets.randbelow(2**32) if seed is None else seed for seed in seeds]
        return self.sheet([replace(first, seed=seed) for seed in chosen])

    def sheet(self, requests: Sequence[Request]) -> Sheet:
        """Draw requests of one picture each on one sheet."""
        place = DisplayHandle(Frame(bar(0, 1, "starting"), "starting"))
        results: list[Result] = []
        shown = 0.0
        for request in requests:
            for progress in self.pipeline.stream(request):
                if progress.result is not None:
                    results.append(progress.result)
                elif self.clock() - shown < BETWEEN_FRAMES_S:
                    continue
                shown = self.clock()
                place.show(_sheet_frame(requests, results, progress))
        return Sheet(self, list(requests), results)


def _progress_frame(progress: Progress, seconds: float) -> Frame:
    left = seconds / progress.step * (progress.steps - progress.step)
    words = f"step {progress.step} of {progress.steps}, about {max(1, round(left))} s left"
    images = progress.preview()
    html = figures(images, [""] * len(images))
    return Frame(html + bar(progress.step, progress.steps, words), words)


def _sheet_frame(requests: Sequence[Request], results: Sequence[Result], progress: Progress) -> Frame:
    """The finished drafts, the current one, and placeholders for the rest."""
    pictures = [result.images[0] for result in results]
    if progress.result is None:
        pictures.append(progress.preview()[0])
    size = pictures[0].size
    pictures += [placeholder(*size) for _ in range(len(requests) - len(pictures))]
    captions = [f"{i + 1}: seed {request.seed}" for i, request in enumerate(requests)]
    texts = [result.infotexts[0] for result in results] + [""] * (len(requests) - len(results))
    mark = results[0].mark if results else None
    words = f"{len(results)} of {len(requests)}"
    html = figures(pictures, captions, texts, mark)
    done = len(results) == len(requests)
    return Frame(html + ("" if done else bar(len(results), len(requests), words)), words)
