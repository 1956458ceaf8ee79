"""Draws an order step by step: what a worker does between taking a job and ending it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.errors import InvalidRequest
from pochade.images.marks import GENERATED
from pochade.jobs.catalogue import Catalogue, Folders, ListedModel, scan_folders
from pochade.jobs.limits import Limits, check_second, check_sides
from pochade.jobs.log import log
from pochade.jobs.orders import UPSCALE, Fetch, Order, batches, request_of

if TYPE_CHECKING:
    from PIL import Image

    from pochade.images.files import Sign
    from pochade.pipeline import Pipeline, Result
    from pochade.request import Request

CANCEL, KEEP, SKIP = "cancel", "keep", "skip"
StopSignal = Callable[[], str | None]
"""Returns the owner's request for a running job: None to continue; CANCEL; KEEP: finish with the pictures so
far; SKIP: finish this batch and continue with the next. SKIP is returned once."""

Read = Callable[[int], bytes]
"""Reads the picture file with this number that came with an order."""


@dataclass(frozen=True)
class Loading:
    model: str


@dataclass(frozen=True)
class Loaded:
    """The model is loaded. width, height: its native size, px."""

    model: str
    width: int
    height: int


@dataclass(frozen=True)
class StepDone:
    """A finished step. number: of the batch's first picture."""

    step: int
    steps: int
    number: int
    preview: "Callable[[], list[Image.Image]]"
    now: "Callable[[], Result]"


@dataclass(frozen=True)
class Batch:
    """Finished pictures with their seeds, texts, and how their files are marked and signed."""

    images: "list[Image.Image]"
    seeds: list[int]
    texts: list[str]
    prompt: str
    mark: str | None = GENERATED
    sign: "Sign | None" = None


@dataclass(frozen=True)
class Fetched:
    """Progress of a model download: received and total bytes."""

    bytes: int
    total: int


Event = Loading | Loaded | StepDone | Batch | Fetched


class JobRunner:
    """Draws orders on one device. The most recent model stays loaded.

    marks: "no" omits the mark of generated pictures. sign: file of a key to sign with, or "". pixels, side:
    limits of a picture, or ""; checked again with the model's native size. memory_budget: bytes, or ""; for
    models, not for upscalers, which always work in tiles. graph_budget: the same, for compiled graphs kept in
    memory. fold_adapters: "yes": see `pochade.load`. threads: number of CPU threads, or "". options: device,
    precision and engine for `pochade.load` and `load_upscaler`.
    """

    def __init__(
        self,
        folders: Folders,
        *,
        marks: str = "yes",
        sign: str = "",
        memory_budget: str = "",
        threads: str = "",
        graph_budget: str = "",
        fold_adapters: str = "no",
        pixels: str = "",
        side: str = "",
        **options: Any,
    ) -> None:
        self._folders = folders
        self._marks = marks == "yes"
        self._sign = None
        if sign:
            import pochade
            from pochade.images.signing import signer_in

            self._sign = signer_in(Path(sign), datetime.now(UTC), pochade.__version__)
        known = {"pixels": pixels, "side": side}
        self._limits = replace(Limits(), **{name: int(value) for name, value in known.items() if value})
        self._limited = bool(pixels or side)
        self._options = {**options, "threads": int(threads) if threads else None}
        self._fold = fold_adapters == "yes"
        budgets = {"memory_budget": memory_budget, "graph_budget": graph_budget}
        self._budgets: dict[str, Any] = {name: int(size) for name, size in budgets.items() if size}
        self._catalogue: Catalogue | None = None
        self._loaded: tuple[ListedModel, Pipeline] | None = None

    def prepare(self, model: str | None) -> Iterator[Loading | Loaded]:
        """Load a model before the first job. Raises as `draw` does."""
        yield from self._load(self._found(model))

    def draw(self, order: Order, read: Read, stop_signal: StopSignal) -> Iterator[Event]:
        """Draw an order. `stop_signal` can end it early, possibly without a Batch. Raises PochadeError."""
        from pochade.images.decode import read_picture

        if order.kind == UPSCALE:
            yield self._marked(self._upscaled(order, read))
            return
        model = self._found(order.model)
        fetch: Fetch = lambda number: read_picture(read(number))  # noqa: E731
        try:
            request = request_of(order, fetch, self._names())
        except InvalidRequest:  # perhaps a ControlNet or an upscaler was added since
            self.forget()
            request = request_of(order, fetch, self._names())
        names = self._names()
        yield from self._load(model)
        assert self._loaded is not None
        pipeline = self._loaded[1]
        if self._limited:
            _check_size(pipeline, request, self._limits)
        for number, batch in enumerate(batches(order, request, names)):
            for event in _batch(pipeline, batch, number * batch.batch_size, stop_signal):
                yield self._marked(event) if isinstance(event, Batch) else event
                if isinstance(event, Batch) and stop_signal() in (CANCEL, KEEP):
                    return
            if stop_signal() == CANCEL:
                return

    def _marked(self, batch: Batch) -> Batch:
        """Remove mark and signature of pictures that were not made by a model."""
        sign = None if batch.mark is None else self._sign
        return replace(batch, mark=batch.mark if self._marks else None, sign=sign)

    def _load(self, model: ListedModel) -> Iterator[Loading | Loaded]:
        if self._loaded is not None and self._loaded[0] == model:
            return
        import pochade

        yield Loading(model.name)
        self._loaded = None  # frees its memory before the next one is loaded
        loaded = pochade.load(model.path, **self._budgets, **self._options)
        folders = self._folders
        pipeline = replace(loaded, roots=folders.roots, fold_adapters=self._fold).with_library(
            folders.loras, folders.embeddings
        )
        self._loaded = model, pipeline
        _say_plan(pipeline)
        side = pipeline.networks.traits.side
        yield Loaded(model.name, side, side)

    def forget(self) -> None:
        """Scan the folders again before the next job."""
        self._catalogue = None

    def _names(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = scan_folders(self._folders)
        return self._catalogue

    def _found(self, name: str | None) -> ListedModel:
        """Look up a model, including one added since the last scan."""
        try:
            return self._names().model(name)
        except InvalidRequest:
            self.forget()
            return self._names().model(name)

    def _upscaler(self, name: str) -> str:
        try:
            return self._names().upscaler(name)
        except InvalidRequest:
            self.forget()
            return self._names().upscaler(name)

    def _upscaled(self, order: Order, read: Read) -> Batch:
        from pochade.generation.upscale import resize_with
        from pochade.images.decode import read_picture
        from pochade.images.embedded_text import enlarged_mark, enlarged_text
        from pochade.images.metadata import read_parameters
        from pochade.images.upscaling import LATENT_UPSCALERS, is_model_file, upscaled
        from pochade.loading.auxiliary import load_upscaler

        upscale = order.upscale
        assert upscale is not None
        content = read(upscale.image)
        image = read_picture(content)
        name = self._upscaler(upscale.upscaler)
        if name in LATENT_UPSCALERS:
            raise InvalidRequest(
                f"upscaler '{name}' is for latents; a picture needs another, such as Lanczos"
            )
        width, height = upscale.sides(*image.size)
        if is_model_file(name):
            larger = resize_with(load_upscaler(name, **self._options), image, width, height)
        else:
            larger = upscaled(image, width, height, name)
        if upscale.size is not None and upscale.crop:
            left, top = (width - upscale.size[0]) // 2, (height - upscale.size[1]) // 2
            larger = larger.crop((left, top, left + upscale.size[0], top + upscale.size[1]))
        text = enlarged_text(content, larger.width / image.width, upscale.upscaler)
        mark = enlarged_mark(content, by_model=is_model_file(name))
        return Batch([larger], [0], [text], read_parameters(text).prompt, mark)


def _check_size(pipeline: "Pipeline", request: "Request", limits: Limits) -> None:
    """Check the size of a drawing and of its second pass. Raises InvalidRequest if a limit is exceeded."""
    from pochade.generation.settle import size_of

    (width, height), _ = size_of(pipeline.networks, request)
    check_sides(width, height, limits)
    if request.hires is not None:
        check_second(width, height, request.hires.size, request.hires.scale, limits)


def _batch(pipeline: "Pipeline", request: "Request", number: int, stop_signal: StopSignal) -> Iterator[Event]:
    for progress in pipeline.stream(request):
        if progress.result is not None:
            yield _finished(progress.result, request)
            return
        yield StepDone(progress.step, progress.steps, number, progress.preview, progress.now)
        wanted = stop_signal()
        if wanted == CANCEL:
            return
        if wanted in (KEEP, SKIP):
            yield _finished(progress.now(), request)
            return


def _finished(result: "Result", request: "Request") -> Batch:
    return Batch(result.images, result.seeds, result.infotexts, request.prompt, result.mark)


def _say_plan(pipeline: "Pipeline") -> None:
    """Log the memory plan of a picture of the native size. Larger pictures may be refused."""
    from pochade.request import Request

    if pipeline.memory_budget is None:
        return
    try:
        log(f"{pipeline.checkpoint.name}: {pipeline.plan(Request(prompt=''))}")
    except InvalidRequest as too_much:  # each job will report it to its owner
        log(f"{pipeline.checkpoint.name}: {too_much}")
