"""The pipeline: draws pictures with a loaded model, and gives access to its parts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.library import find
from pochade.checkpoints.read import read_checkpoint
from pochade.diffusion.parametrization import Parametrization
from pochade.diffusion.schedule import NoiseSchedule
from pochade.errors import InvalidRequest
from pochade.families.registry import family_of
from pochade.generation.conditioning import encode_prompts
from pochade.generation.decoding import decoded_images, from_image
from pochade.generation.generate import generate
from pochade.generation.prompt_plan import Prompts, parse_prompts, prompts_of_steps
from pochade.generation.result import Progress, Result
from pochade.generation.settle import GenerationContext, Prepared, check_size, network_load, settle
from pochade.images.decode import on_white
from pochade.images.fitting import widened
from pochade.loading.adapters import (
    NO_LIBRARY,
    NOTHING,
    Additions,
    Library,
    Lora,
    read_additions,
    stamps,
    with_additions,
    with_words,
)
from pochade.loading.engine_choice import EngineChoice
from pochade.loading.memory_plan import MemoryPlan, find_plan
from pochade.loading.model import Model, make_model
from pochade.loading.networks import Networks
from pochade.loading.process_memory import release
from pochade.models.embedding import embed_timestep
from pochade.prompts.parse import ParsedPrompt, parse_prompt
from pochade.prompts.tokenizer import Tokenizer
from pochade.request import EMPHASES, Defaults, Request, Settled
from pochade.request_options import Source

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]

LATEST = 4
"""How many pipelines with adapters and embeddings from prompts are kept."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pipeline:
    """A loaded model. Make one with `pochade.load`.

    roots: folders that are searched for other models.
    memory_budget: bytes that the process may use; None: unlimited. path: of the model.
    vae: the autoencoder that replaces the model's own, if one was given.
    fold_adapters: whether LoRAs are added to the weights even if they could be inputs of a graph.
    """

    model: Model
    choice: EngineChoice
    roots: tuple[Path, ...] = ()
    library: Library = NO_LIBRARY
    additions: Additions = NOTHING
    loaded: Model | None = None  # without additions; None: it is `model`
    memory_budget: int | None = None
    fold_adapters: bool = False
    path: Path | None = None
    vae: Path | None = None
    _latest: "dict[object, Pipeline]" = field(default_factory=dict, init=False, repr=False)
    _others: "dict[object, Pipeline]" = field(default_factory=dict, init=False, repr=False)
    _drawn: list[object] = field(default_factory=list, init=False, repr=False)  # how, within a budget

    @property
    def checkpoint(self) -> Checkpoint:
        return self.model.checkpoint

    @property
    def networks(self) -> Networks:
        return self.model.networks

    @property
    def tokenizers(self) -> Sequence[Tokenizer]:
        return self.model.tokenizers

    @property
    def schedule(self) -> NoiseSchedule:
        return self.model.schedule

    @property
    def parametrization(self) -> Parametrization:
        return self.model.parametrization

    @property
    def model_hash(self) -> str | None:
        """The first ten digits of the UNet file's SHA-256; None for sharded weights."""
        return self.model.hash

    # --- pictures -------------------------------------------------------------------------------------

    def txt2img(self, prompt: str, *, noise: Floats | None = None, **options: Any) -> Result:
        """Draw from a prompt. options: the fields of `pochade.request.Request`; noise: see `stream`.

        Raises InvalidRequest for an invalid request.
        """
        return finish(self.stream(Request(prompt=prompt, **options), noise=noise))

    def img2img(
        self, prompt: str, *, image: "Image.Image", noise: Floats | None = None, **options: Any
    ) -> Result:
        """Draw from a picture. options: the fields of `pochade.request_options.Source` and of `Request`.

        Raises InvalidRequest for an invalid request.
        """
        about = {field.name: options.pop(field.name) for field in fields(Source) if field.name in options}
        source = Source(image=image, **about)
        return finish(self.stream(Request(prompt=prompt, source=source, **options), noise=noise))

    def inpaint(self, prompt: str, *, image: "Image.Image", mask: "Image.Image", **options: Any) -> Result:
        """Redraw a picture where the mask is white. options: as in `img2img`."""
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
        """Extend a picture by these numbers of pixels on its sides. options: as in `img2img`."""
        larger, mask = widened(on_white(image), left, top, right, bottom)
        return self.inpaint(prompt, image=larger, mask=mask, **{"denoising_strength": 1.0, **options})

    def stream(self, request: Request, *, noise: Floats | None = None) -> Iterator[Progress]:
        """Draw, yielding after each step. Stop iterating, or close the iterator, to cancel.

        noise: the starting noise (B, C, h, w), unit normal, instead of the seeds' noise.
        """
        yield from self.draw(self.prepare(request), noise=noise)

    def prepare(self, request: Request) -> Prepared:
        """Parse the prompts, load the adapters that they name, and resolve all defaults of the request.

        Raises InvalidRequest or InvalidCheckpoint for errors that can be detected before drawing.
        """
        prepared = self._prepared(request)
        if self.memory_budget is None:
            return prepared
        return prepared.within(self._plan(prepared))

    def draw(self, prepared: Prepared, *, noise: Floats | None = None) -> Iterator[Progress]:
        """Draw what `prepare` returned, as `stream` does."""
        if prepared.context.plan is not None:
            self._make_room(prepared)
        yield from generate(prepared, noise)

    def _prepared(self, request: Request) -> Prepared:
        """Without a plan."""
        prompts = parse_prompts(request)
        drawing = self._with_prompts(*prompts.first_pass)
        settled, sampler = settle(drawing.networks, request, drawing.defaults, self.roots)
        later = self._for_second_pass(settled, drawing, prompts)
        context = drawing._context
        if later is not drawing:
            context = replace(context, second=later._context)
        return Prepared(
            request=settled, prompts=prompts, sampler=sampler, context=context, few_steps=drawing.few_steps
        )

    @property
    def _context(self) -> GenerationContext:
        return GenerationContext(model=self.model, additions=self.additions, roots=self.roots, vae=self.vae)

    def _plan(self, prepared: Prepared) -> MemoryPlan:
        load = network_load(prepared.context, prepared.request, prepared.prompts)
        return find_plan(prepared.context.model.networks, self.choice.precision, self.memory_budget, load)

    @cached_property
    def few_steps(self) -> FewSteps | None:
        """The settings of the model or its adapters, if they were distilled for few steps."""
        added = self.additions.few_steps if self.additions.adapters else None
        return self.checkpoint.few_steps if added is None else added

    def few_steps_for(self, *prompts: str) -> FewSteps | None:
        """Return the same, including adapters that prompts name."""
        return self._with_prompts(*prompts).few_steps

    def plan(self, request: Request) -> MemoryPlan:
        """Return how a request is drawn and the memory that it is predicted to need.

        Raises InvalidRequest, naming a size that would fit, if it does not fit into the memory budget.
        """
        return self._plan(self._prepared(request))

    @property
    def defaults(self) -> Defaults:
        """The settings that apply where a request does not set them."""
        return self.model.family.defaults if self.few_steps is None else self.few_steps.defaults

    # --- additions --------------------------------------------------------------------------------------

    def with_adapters(
        self, loras: Sequence[Lora | Path | str] = (), embeddings: Sequence[Path | str] = ()
    ) -> "Pipeline":
        """Return this model with these adapters and embeddings, replacing earlier ones.

        loras: files, names in the folders of models, or `Lora(file, weight)`. Their order does not matter.
        Unchanged networks and their compiled graphs are shared with this pipeline; changed weights are
        computed when they are first used. This pipeline is not modified.

        Raises InvalidCheckpoint for a file that is damaged or for other models.
        """
        given = [lora if isinstance(lora, Lora) else Lora(lora) for lora in loras]
        library = replace(self.library, roots=self.library.roots or self.roots)
        found = [_found(lora, library) for lora in given]
        words = [find(path, self.roots, "embedding") for path in embeddings]
        return self._with(read_additions(self.checkpoint, found, words))

    def with_library(
        self, loras: Path | str | None = None, embeddings: Path | str | None = None
    ) -> "Pipeline":
        """Return this model with folders for <lora:name:0.8> and names of embeddings in prompts.

        None: the folders of models are searched (`pochade.settings.model_roots`).
        """
        library = Library(
            loras=None if loras is None else Path(loras),
            embeddings=None if embeddings is None else Path(embeddings),
            roots=self.roots,
        )
        return replace(self, library=library)

    def _with(self, additions: Additions) -> "Pipeline":
        plain = self.model if self.loaded is None else self.loaded
        model = replace(
            plain,
            networks=with_additions(plain.networks, additions, fold=self.fold_adapters),
            tokenizers=with_words(plain.tokenizers, plain.networks, additions.embeddings),
        )
        return replace(self, model=model, additions=additions, loaded=plain)

    def _for_second_pass(self, request: Settled, drawing: "Pipeline", prompts: Prompts) -> "Pipeline":
        """The pipeline of the second pass, if there is one, with its own model and the adapters that its
        prompts name. drawing: the pipeline of the first pass."""
        if request.hires is None:
            return drawing
        own, model = prompts.second_pass, request.hires.model
        if model is None or (self.path is not None and Path(model).resolve() == self.path.resolve()):
            return drawing if own == prompts.first_pass else self._with_prompts(*own, keep=drawing)
        return self._with_model(Path(model))._with_prompts(*own)

    def _with_model(self, path: Path) -> "Pipeline":
        """The model at `path` on the same engine, with this pipeline's adapters and embeddings. The latest
        one is kept."""
        key = path.resolve(), stamps([path]) if path.is_file() else None
        if key not in self._others:
            self._others.clear()
            checkpoint = read_checkpoint(path, vae=self.vae)
            if self.vae is not None and family_of(checkpoint).latents != self.model.family.latents:
                checkpoint = read_checkpoint(path)  # the given autoencoder is not for its latents
            graphs = self.networks.graphs  # one budget for both models
            model = make_model(checkpoint, self.networks.text_encoder.engine, path, graphs=graphs)
            other = replace(self, model=model, additions=NOTHING, loaded=None, path=path)
            if self.additions != NOTHING:
                loras = [lora for lora, _ in self.additions.adapters]
                words = [each.path for each in self.additions.embeddings]
                other = other._with(read_additions(checkpoint, loras, words))
            self._others[key] = other
        return self._others[key]

    def _with_prompts(self, *prompts: str | ParsedPrompt, keep: "Pipeline | None" = None) -> "Pipeline":
        """This pipeline with the adapters and embeddings that prompts name. The latest ones are kept.

        On OpenVINO their compiled graphs count towards the graph budget; on engines without such a limit only
        one is kept. keep: another pipeline to keep, which draws the other pass of the same picture.
        """
        loras, embeddings = self.library.requested_by(*prompts)
        if not loras and not embeddings:
            return self
        key = (loras, embeddings, stamps([*(lora.path for lora in loras), *embeddings]))
        if key in self._latest:
            self._latest[key] = self._latest.pop(key)  # as the latest
        else:
            counted = self.choice.engine == "openvino" and self.memory_budget is None
            room = LATEST if counted else 1
            others = [other for other, made in self._latest.items() if made is not keep]
            for oldest in others[: max(0, len(others) + 1 - room)]:
                del self._latest[oldest]  # before the next one is made, which takes as much memory
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

    def _make_room(self, prepared: Prepared) -> None:
        """Release the graphs of earlier pictures with other pipelines, since the plan counts only one."""
        request, context = prepared.request, prepared.context
        # Later pictures may use the same texts, and the plan includes these text encoders anyway.
        wanted = [text for each in (context, context.last) for text in each.model.networks.text_encoders]
        how = request.width, request.height, request.speed, request.tiling
        models = [id(each.model) for each in (context, context.last)]
        work = context.plan, *how, *models
        if self._drawn not in ([], [work]):
            others = [each for other in self._others.values() for each in (other, *other._latest.values())]
            for each in (self, *self._latest.values(), *others):
                each.networks.release(keep=wanted)
            release()
        self._drawn[:] = [work]

    # --- single components, for research and tests ------------------------------------------------------

    def encode_prompt(
        self,
        prompt: str,
        *,
        clip_skip: int = 1,
        emphasis: str = EMPHASES[0],
        step: int = 1,
        steps: int = 20,
    ) -> Floats | tuple[Floats, Floats]:
        """Return the conditioning (1, 77 * chunks, D), and for XL also the pooled vector (1, P).

        A scheduled prompt is taken at `step` of `steps`, counted from 1. Raises InvalidRequest for prompts
        joined by AND, since each has its own conditioning.
        """
        if not 1 <= step <= steps:
            raise InvalidRequest(f"step is {step}; it must lie between 1 and steps, {steps}")
        parsed = parse_prompt(prompt)
        wording = prompts_of_steps(parsed, "", steps, guided=False)[step - 1]
        if len(wording.parts) > 1:
            raise InvalidRequest("the prompt joins several prompts by AND; encode each separately")
        asked = self._with_prompts(parsed)
        (result,) = encode_prompts(
            asked.networks, asked.tokenizers, [wording.parts[0].prompt], clip_skip, emphasis
        )
        return (result.context, result.pooled) if self.networks.traits.reads_pooled else result.context

    def unet(self, x: Floats, timestep: Floats, context: Floats, **inputs: Floats) -> Floats:
        """Return the UNet's raw output for x (B, C, h, w), timestep (B,), context (B, T, D).

        inputs: `added` (B, added_width) for XL, `guidance` (B, guidance_width) for LCM, both embedded.
        """
        time = embed_timestep(self.networks.unet_config, timestep)
        self.networks.graphs.begin_part()
        return self.networks.predict(x=x, time=time, context=context, **inputs)

    def encode_image(self, image: "Image.Image | Sequence[Image.Image]") -> Floats:
        """Encode pictures of one size to scaled latents (B, C, H / factor, W / factor), the posterior's
        mean."""
        images = list(image) if isinstance(image, Sequence) else [image]
        for each in images:
            check_size(self.networks, *each.size)
        self.networks.graphs.begin_part()
        return self.networks.encode(np.stack([from_image(each) for each in images]))

    def decode(self, latent: Floats) -> "list[Image.Image]":
        """Decode scaled latents (B, C, h, w) to pictures."""
        self.networks.graphs.begin_part()
        return decoded_images(self.networks, np.ascontiguousarray(latent, np.float32))


def _found(lora: Lora, library: Library) -> Lora:
    path, name = library.adapter(lora.path)
    return replace(lora, path=path, name=lora.name or name)


def finish(stream: Iterator[Progress]) -> Result:
    """Run a stream to its end and return the result."""
    result = None
    for progress in stream:
        result = progress.result
    assert result is not None, "a stream ends with a result"
    return result
