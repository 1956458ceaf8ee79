"""The pipeline: one denoise loop, and the parts that it is made of."""

import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.hashes import remembered_hash
from pochade.checkpoints.library import find, size_of
from pochade.diffusion.parametrization import Parametrization
from pochade.diffusion.samplers import Sampler, find_sampler
from pochade.diffusion.schedule import AUTOMATIC, NoiseSchedule, find_schedule, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.images.fitting import widened
from pochade.images.marks import EDITED, GENERATED
from pochade.images.opening import on_white
from pochade.models.embedding import embed_timestep
from pochade.pipeline.drawing import hires
from pochade.pipeline.drawing.canvas import Canvas, blank, over
from pochade.pipeline.drawing.conditioning import Told, condition, condition_wordings, prompt_size
from pochade.pipeline.drawing.denoising import is_told_a_score
from pochade.pipeline.drawing.one_pass import Pass, check_noise, denoise, latent_shape, levels_of, pictures
from pochade.pipeline.drawing.pictures import from_image, rough_images, to_images
from pochade.pipeline.drawing.refining import Refining, open_refiner, refining, zeros_for_no_text
from pochade.pipeline.drawing.upscale import named_upscaler
from pochade.pipeline.drawing.wording import Wording, wordings
from pochade.pipeline.loading.adapting import (
    NO_LIBRARY,
    NOTHING,
    Additions,
    Library,
    Lora,
    hashes,
    read_additions,
    stamps,
    tags,
    with_additions,
    with_words,
)
from pochade.pipeline.loading.budget import Load, Plan, find_plan, release
from pochade.pipeline.loading.choice import Choice
from pochade.pipeline.loading.model import Model
from pochade.pipeline.loading.networks import Network, Networks
from pochade.pipeline.results.infotext import Maker, infotext
from pochade.pipeline.results.result import Progress, PromptSize, Result
from pochade.prompts.tokenizer import Tokenizer
from pochade.request import USUAL, Request, Settled, Usual, settled
from pochade.settings import cache_dir
from pochade.ways import Source

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]

MUCH_LARGER = 2.25
"""Of pixels: up to here, models of this family draw larger than they were trained to."""

PREVIEW_SIDE = 16
"""Latent pixels along the longer side of a preview: a decode of 128 pixels costs a sixteenth of 512."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pipeline:
    """A loaded model. Make one with `pochade.load`.

    roots: folders in which other models are looked for by name.
    memory_budget: bytes that the process may take for itself; None: any.
    """

    checkpoint: Checkpoint
    choice: Choice
    networks: Networks
    tokenizers: Sequence[Tokenizer]
    schedule: NoiseSchedule
    parametrization: Parametrization
    roots: tuple[Path, ...] = ()
    library: Library = NO_LIBRARY
    additions: Additions = NOTHING
    loaded: tuple[Networks, Sequence[Tokenizer]] | None = None  # without additions; None: those above
    memory_budget: int | None = None
    _latest: "dict[object, Pipeline]" = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def model_hash(self) -> str | None:
        """The first ten digits of the UNet file's SHA-256; sharded weights have no such name."""
        return _hash(self.checkpoint)

    # --- pictures -------------------------------------------------------------------------------------

    def txt2img(self, prompt: str, *, noise: Floats | None = None, **options: Any) -> Result:
        """Draw. options: the fields of `pochade.request.Request`; noise: see `stream`.

        Raises InvalidRequest for what cannot be drawn.
        """
        return finish(self.stream(Request(prompt=prompt, **options), noise=noise))

    def img2img(
        self, prompt: str, *, image: "Image.Image", noise: Floats | None = None, **options: Any
    ) -> Result:
        """Draw over a picture. options: the fields of `pochade.ways.Source` and of `Request`.

        Raises InvalidRequest for what cannot be drawn.
        """
        about = {field.name: options.pop(field.name) for field in fields(Source) if field.name in options}
        source = Source(image=image, **about)
        return finish(self.stream(Request(prompt=prompt, source=source, **options), noise=noise))

    def inpaint(self, prompt: str, *, image: "Image.Image", mask: "Image.Image", **options: Any) -> Result:
        """Draw anew where the mask is white. options: as in `img2img`."""
        return self.img2img(prompt, image=image, mask=mask, **options)

    def outpaint(
        self,
        prompt: str,
        *,
        image: "Image.Image",
        left: int = 0,
        top: int = 0,
        right: int = 0,
        bottom: int = 0,
        **options: Any,
    ) -> Result:
        """Draw a picture further, by these many pixels on its sides. options: as in `img2img`."""
        larger, mask = widened(on_white(image), left, top, right, bottom)
        return self.inpaint(prompt, image=larger, mask=mask, **{"denoising_strength": 1.0, **options})

    def stream(self, request: Request, *, noise: Floats | None = None) -> Iterator[Progress]:
        """Draw, yielding after each step. Stop iterating, or close the iterator, to cancel.

        noise: the starting noise (B, C, h, w), unit normal, in place of the seeds'.
        """
        settled, sampler = self._resolve(request)
        drawing = self._asked_for(*_prompts(request))
        if drawing.few_steps != self.few_steps:
            settled, sampler = drawing._resolve(replace(request, seed=settled.seed))
        yield from drawing._draw(settled, sampler, noise)

    @cached_property
    def few_steps(self) -> FewSteps | None:
        """What the model was made for, if it was distilled to draw in a few steps; so do some adapters."""
        added = self.additions.few_steps
        return self.checkpoint.few_steps if added is None else added

    def few_steps_for(self, *prompts: str) -> FewSteps | None:
        """The same with the adapters that prompts ask for by name."""
        return self._asked_for(*prompts).few_steps

    def plan(self, request: Request) -> Plan:
        """How a request is drawn, and what it takes of memory, as measurements predict it.

        Raises InvalidRequest, saying what would fit, for what does not fit into the memory budget.
        """
        drawing = self._asked_for(*_prompts(request))
        return drawing._plan(drawing._resolve(request)[0])

    @property
    def usual(self) -> Usual:
        """What a request is drawn with where it leaves it open."""
        return USUAL if self.few_steps is None else self.few_steps.usual

    # --- additions --------------------------------------------------------------------------------------

    def with_adapters(
        self, loras: Sequence[Lora | Path | str] = (), embeddings: Sequence[Path | str] = ()
    ) -> "Pipeline":
        """This model with these adapters and new words, and none that it may have had before.

        loras: files, or names in the folders of models, or `Lora(file, weight)`. Their order makes no
        difference. What is not changed is shared
        with this pipeline, compiled graphs too; what is changed is computed when it is first used. This
        pipeline stays as it is.

        Raises InvalidCheckpoint for a file that is damaged or that was made for other models.
        """
        given = [lora if isinstance(lora, Lora) else Lora(lora) for lora in loras]
        found = [replace(lora, path=find(lora.path, self.roots, "lora")) for lora in given]
        words = [find(path, self.roots, "embedding") for path in embeddings]
        return self._with(read_additions(self.checkpoint, found, words))

    def with_library(
        self, loras: Path | str | None = None, embeddings: Path | str | None = None
    ) -> "Pipeline":
        """This model with folders in which prompts find <lora:name:0.8> and the names of embeddings.

        None: the folders of models are looked through for theirs (`pochade.settings.model_roots`).
        """
        library = Library(
            loras=None if loras is None else Path(loras),
            embeddings=None if embeddings is None else Path(embeddings),
            roots=self.roots,
        )
        return replace(self, library=library)

    def _with(self, additions: Additions) -> "Pipeline":
        networks, tokenizers = self.loaded or (self.networks, self.tokenizers)
        return replace(
            self,
            networks=with_additions(networks, additions),
            tokenizers=with_words(tokenizers, networks, additions.embeddings),
            additions=additions,
            loaded=(networks, tokenizers),
        )

    def _asked_for(self, *prompts: str) -> "Pipeline":
        """This pipeline with what prompts ask for by name. The latest one is kept for the next picture."""
        loras, embeddings = self.library.asked(*prompts)
        if not loras and not embeddings:
            return self
        key = (loras, embeddings, stamps([*(lora.path for lora in loras), *embeddings]))
        if key not in self._latest:
            self._latest.clear()  # before the next one is made, which takes as much memory
            self._latest[key] = self._with(
                self.additions
                + read_additions(
                    self.checkpoint,
                    loras,
                    embeddings,
                    skip_other_families=self.library.embeddings is None,
                )
            )
        return self._latest[key]

    def _draw(self, request: Settled, sampler: Sampler, noise: Floats | None) -> Iterator[Progress]:
        """`stream`, for a settled request whose prompts ask for nothing that is not there."""
        plan = None if self.memory_budget is None else self._plan(request)
        sparing = plan is not None and plan.one_by_one
        if sampler.alone and request.batch_size > 1:
            yield from self._one_by_one(request, sampler, noise)
            return
        networks = replace(self.networks, tiling=request.tiling)
        if plan is not None and plan.tile is not None:
            networks = replace(networks, whole=plan.tile**2, tile=plan.tile)

        def let_go(*done: Network | None) -> None:
            """Of networks that are not needed soon, if memory is short."""
            if sparing:
                for each in done:
                    if each is not None:
                        each.let_go()
                release()

        canvas = self._canvas(networks, request)
        let_go(networks.autoencoder)
        told, told_later = self._told(request)
        let_go(networks.text_encoder, networks.text_encoder_2)
        last_part = self._refining(request, [*told.steps, *told_later.steps])
        first = Pass(
            request=request,
            canvas=canvas,
            told=told,
            levels=levels_of(self.schedule, networks, sampler, request, canvas),
            noise=noise,
            refining=last_part if request.hires is None else None,
        )
        second = hires.second_pass(first, told_later, self.schedule, sampler, networks, last_part)
        decoded = latent_shape(networks, (second or first).request)
        parts = networks, self.schedule, self.parametrization, sampler
        steps = denoise(*parts, first)
        if second is not None:

            def enlarge(latent: Floats) -> Canvas:
                let_go(networks.unet)
                larger = hires.enlarged(networks, second.request, latent)
                let_go(networks.autoencoder)
                return larger

            ahead = len(second.levels) - 1
            steps = hires.both(
                steps, lambda latent: denoise(*parts, replace(second, canvas=enlarge(latent))), ahead
            )
        size = prompt_size(told.conditionings)

        def result(latent: Floats) -> Result:
            let_go(networks.unet)
            made = self._result(networks, request, canvas, latent, size)
            let_go(networks.autoencoder)
            return made

        preview = rough_images if sparing else self._preview
        with ThreadPoolExecutor(1) as beside:
            # The decoder is compiled while the first step compiles the UNet; a fault in it shows then.
            ready = None if sparing else beside.submit(networks.prepare_decode, decoded)
            for step in steps:
                if ready is not None:
                    ready.result()
                end = result(step.x) if step.index == step.steps - 1 else None
                yield Progress(step.index + 1, step.steps, step.denoised, preview, result, end, size)

    # --- the parts, for researchers and tests -----------------------------------------------------------

    def encode_prompt(
        self, prompt: str, *, clip_skip: int = 1, step: int = 1, steps: int = 20
    ) -> Floats | tuple[Floats, Floats]:
        """The conditioning (1, 77 * chunks, D), and for XL with it the pooled vector (1, P).

        A prompt that changes is read as it stands at `step` of `steps`, from 1. Raises InvalidRequest for
        prompts joined by AND: each has a conditioning of its own.
        """
        if not 1 <= step <= steps:
            raise InvalidRequest(f"step is {step}; it must lie between 1 and steps, {steps}")
        wording = wordings(prompt, "", steps, guided=False)[step - 1]
        if len(wording.parts) > 1:
            raise InvalidRequest("the prompt joins several by AND; encode each by itself")
        asked = self._asked_for(prompt)
        (result,) = condition(asked.networks, asked.tokenizers, [wording.parts[0].prompt], clip_skip)
        wide = self.networks.unet_config.added_width is not None
        return (result.context, result.pooled) if wide else result.context

    def unet(self, x: Floats, timestep: Floats, context: Floats, **inputs: Floats) -> Floats:
        """The UNet's raw output for x (B, C, h, w), timestep (B,), context (B, T, D).

        inputs: `added` (B, added_width) for XL, `guidance` (B, guidance_width) for LCM, both embedded.
        """
        time = embed_timestep(self.networks.unet_config, timestep)
        return self.networks.predict(x=x, time=time, context=context, **inputs)

    def encode_image(self, image: "Image.Image | Sequence[Image.Image]") -> Floats:
        """Pictures of one size to scaled latents (B, C, H / factor, W / factor), the posterior's mean."""
        images = list(image) if isinstance(image, Sequence) else [image]
        for each in images:
            self._check_size(*each.size)
        return self.networks.encode(np.stack([from_image(each) for each in images]))

    def decode(self, latent: Floats) -> "list[Image.Image]":
        """Scaled latents (B, C, h, w) to pictures."""
        return to_images(self.networks.decode(np.ascontiguousarray(latent, np.float32)))

    # --- inside -----------------------------------------------------------------------------------------

    def _resolve(self, request: Request) -> tuple[Settled, Sampler]:
        """Everything that was left to us, settled: size, seed, labels of sampler and schedule."""
        asked = settled(request, self.usual)
        name, fused = split_sampler_name(asked.sampler)
        sampler = find_sampler(name)
        schedule = find_schedule(asked.schedule)
        if fused is not None and (schedule == AUTOMATIC or request.schedule is None):
            schedule = fused
        width, height = self._size(request)
        self._check_size(width, height)
        seed = secrets.randbelow(2**32) if request.seed is None else request.seed
        resolved = replace(
            asked,
            sampler=sampler.label,
            schedule=schedule,
            eta=request.eta if "eta" in sampler.options else None,
            width=width,
            height=height,
            seed=seed,
            controls=tuple(
                replace(each, model=find(each.model, self.roots, "controlnet")) for each in request.controls
            ),
            hires=None
            if request.hires is None
            else replace(request.hires, upscaler=named_upscaler(request.hires.upscaler, self.roots)),
        )
        return resolved, sampler

    def _one_by_one(self, request: Settled, sampler: Sampler, noise: Floats | None) -> Iterator[Progress]:
        """A batch in which each picture takes steps of its own: one after another, as if asked for alone.

        `Progress.denoised` is then that of the picture which is being drawn.
        """
        check_noise(noise, (request.batch_size, *latent_shape(self.networks, request)))
        results: list[Result] = []
        before = 0
        for i, alone in enumerate(pictures(request)):
            for progress in self._draw(alone, sampler, None if noise is None else noise[i : i + 1]):
                if progress.result is not None:
                    results.append(progress.result)
                yield replace(
                    progress,
                    step=before + progress.step,
                    steps=before + progress.steps * (request.batch_size - i),
                    result=_joined(results) if len(results) == request.batch_size else None,
                )
            before += progress.step

    def _size(self, request: Request) -> tuple[int, int]:
        """Width and height, px. What is left open is the model's own size, in the shape of a source picture.

        A whole source picture that is not much larger keeps its size.
        """
        factor = self.networks.autoencoder_config.factor
        width = height = self.networks.unet_config.sample_size * factor
        source = request.source
        if source is not None and not source.only_masked:
            pixels, room = source.image.width * source.image.height, width * height
            scale = 1.0 if room / 4 <= pixels <= MUCH_LARGER * room else (room / pixels) ** 0.5
            sides = (max(factor, round(scale * side / factor) * factor) for side in source.image.size)
            width, height = sides
        width = width if request.width is None else request.width
        return width, height if request.height is None else request.height

    def _check_size(self, width: int, height: int) -> None:
        factor = self.networks.autoencoder_config.factor
        for name, side in (("width", width), ("height", height)):
            if side % factor:
                low = side // factor * factor
                near = f"{low} or {low + factor}" if low else f"{factor}"
                raise InvalidRequest(f"{name} is {side}; this model draws multiples of {factor}: try {near}")

    def _plan(self, request: Settled) -> Plan:
        """As `plan`, for a settled request that asks for no further additions."""
        assert request.width is not None and request.height is not None
        width, height = request.width, request.height
        if request.hires is not None:
            width, height = hires.size_of(request, request.hires, self.networks.autoencoder_config.factor)
        beside = [each.model for each in request.controls]
        if self._refines(request) and request.refiner is not None:
            beside.append(find(request.refiner.model, self.roots))
        told = wordings(
            request.prompt, request.negative_prompt, 1, guided=self._guided(request), blend=request.blend
        )
        rows = max(len(each.parts) + (each.negative is not None) for each in told)
        encodes = request.source is not None or request.hires is not None
        load = Load(
            width=width,
            height=height,
            rows=rows,
            encodes=encodes,
            adapted=bool(self.additions.adapters),
            beside=float(sum(size_of(Path(each)) for each in beside)),
        )
        return find_plan(self.networks, self.choice.precision, self.memory_budget, load)

    def _guided(self, request: Settled) -> bool:
        return request.cfg_scale != 1 and self.networks.unet_config.guidance_width is None

    def _refines(self, request: Settled) -> bool:
        return request.refiner is not None and request.refiner.switch != 1

    def _told(self, request: Settled) -> tuple[Told, Told]:
        """What the UNet is told in the first pass and in the second, if there is one."""
        prompts, steps = (request.prompt, request.negative_prompt), request.steps
        guided = self._guided(request)
        first = wordings(*prompts, steps, guided=guided, blend=request.blend)
        second = []
        if request.hires is not None:
            more = steps if request.hires.steps is None else request.hires.steps
            second = wordings(*prompts, more, guided=guided, first_pass_steps=steps, blend=request.blend)
        conditionings = condition_wordings(
            self.networks,
            self.tokenizers,
            [*first, *second],
            request.clip_skip,
            zeros_for_no_text=zeros_for_no_text(self.checkpoint),
        )
        return Told(first, conditionings), Told(second, conditionings)

    def _canvas(self, networks: Networks, request: Request) -> Canvas:
        assert request.width is not None and request.height is not None
        if request.source is None:
            if is_told_a_score(networks):
                raise InvalidRequest(
                    f"'{self.checkpoint.name}' is SDXL's refiner, which has seen little noise and draws over"
                    " pictures only; give it a picture (--init), or name it beside the base model (--refiner)"
                )
            return blank(networks, request.width, request.height)
        return over(networks, request.source, request.width, request.height)

    def _refiner(self, request: Settled) -> Model | None:
        """The model that takes over, if one is asked for. Raises InvalidCheckpoint and InvalidRequest."""
        asked = request.refiner
        if asked is None or not self._refines(request):
            return None
        return open_refiner(self.networks, self.checkpoint, find(asked.model, self.roots))

    def _refining(self, request: Settled, wordings: Sequence[Wording]) -> Refining | None:
        model = self._refiner(request)
        return None if model is None else refining(model, request, wordings, tiling=request.tiling)

    def _result(
        self, networks: Networks, request: Settled, canvas: Canvas, latent: Floats, size: PromptSize
    ) -> Result:
        images = [canvas.finish(image) for image in to_images(networks.decode(latent))]
        refiner = self._refiner(request)
        maker = Maker(
            model=self.checkpoint.name,
            hash=self.model_hash,
            additions=hashes(self.additions, *_prompts(request)),
            tags=tags(self.additions, request.prompt),
            refiner=None if refiner is None else _title(refiner.checkpoint),
        )
        each = pictures(request)
        texts = [infotext(one, maker) for one in each]
        mark = GENERATED if request.source is None else EDITED
        return Result(images, [one.seed or 0 for one in each], texts, size, mark)

    def _preview(self, latent: Floats) -> "list[Image.Image]":
        """Decode every n-th latent pixel: a small picture for any family, without a table of colours."""
        step = -(-max(latent.shape[2:]) // PREVIEW_SIDE)
        return self.decode(latent[:, :, ::step, ::step])


def _prompts(request: Request) -> list[str]:
    """All that may name adapters and new words."""
    second = [] if request.blend is None else [request.blend.prompt]
    return [request.prompt, request.negative_prompt, *second]


def _hash(checkpoint: Checkpoint) -> str | None:
    files = checkpoint.unet.files
    return remembered_hash(files[0], cache_dir() / "hashes.json") if len(files) == 1 else None


def _title(checkpoint: Checkpoint) -> str:
    """ "name [hash]", as A1111 shows models."""
    hash = _hash(checkpoint)
    return checkpoint.name if hash is None else f"{checkpoint.name} [{hash}]"


def _joined(results: Sequence[Result]) -> Result:
    return Result(
        [image for result in results for image in result.images],
        [seed for result in results for seed in result.seeds],
        [text for result in results for text in result.infotexts],
        results[0].prompt_size,
        results[0].mark,
    )


def finish(stream: Iterator[Progress]) -> Result:
    """Run a stream to its end and take the result."""
    result = None
    for progress in stream:
        result = progress.result
    assert result is not None, "a stream ends with a result"
    return result
