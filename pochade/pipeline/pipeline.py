"""The pipeline: one denoise loop, and the parts that it is made of."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import pochade
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.hashes import remembered_hash
from pochade.diffusion.noise import batch_noise
from pochade.diffusion.parametrization import Parametrization, denoiser
from pochade.diffusion.samplers import Sampler, find_sampler
from pochade.diffusion.schedule import AUTOMATIC, NoiseSchedule, find_schedule, sigmas, split_sampler_name
from pochade.errors import InvalidRequest
from pochade.images.metadata import parameters_text
from pochade.models.embedding import embed_timestep
from pochade.pipeline.choice import Choice
from pochade.pipeline.conditioning import condition, without_text
from pochade.pipeline.denoising import predictor
from pochade.pipeline.networks import Networks
from pochade.pipeline.pictures import from_image, to_images
from pochade.pipeline.result import Progress, Result
from pochade.prompts.tokenizer import Tokenizer
from pochade.request import Request
from pochade.settings import cache_dir

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]

PREVIEW_SIDE = 16
"""Latent pixels along the longer side of a preview: a decode of 128 pixels costs a sixteenth of 512."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pipeline:
    """A loaded model. Make one with `pochade.load`."""

    checkpoint: Checkpoint
    choice: Choice
    networks: Networks
    tokenizers: Sequence[Tokenizer]
    schedule: NoiseSchedule
    parametrization: Parametrization

    @cached_property
    def model_hash(self) -> str | None:
        """The first ten digits of the UNet file's SHA-256; sharded weights have no such name."""
        files = self.checkpoint.unet.files
        return remembered_hash(files[0], cache_dir() / "hashes.json") if len(files) == 1 else None

    # --- pictures -------------------------------------------------------------------------------------

    def txt2img(self, prompt: str, *, noise: Floats | None = None, **options: Any) -> Result:
        """Draw. options: the fields of `pochade.request.Request`; noise: see `stream`.

        Raises InvalidRequest for what cannot be drawn.
        """
        return finish(self.stream(Request(prompt=prompt, **options), noise=noise))

    def stream(self, request: Request, *, noise: Floats | None = None) -> Iterator[Progress]:
        """Draw, yielding after each step. Stop iterating, or close the iterator, to cancel.

        noise: the starting noise (B, C, h, w), unit normal, in place of the seeds'.
        """
        request, sampler = self._resolve(request)
        assert request.width is not None and request.height is not None and request.seed is not None
        shape = self._latent_shape(request)
        if noise is not None and noise.shape != (request.batch_size, *shape):
            raise InvalidRequest(f"noise has shape {noise.shape}; {(request.batch_size, *shape)} is needed")
        if sampler.alone and request.batch_size > 1:
            yield from self._one_by_one(request, noise)
            return
        seeds = [request.seed + i for i in range(request.batch_size)]
        levels = sigmas(
            self.schedule,
            request.schedule,
            request.steps,
            automatic=sampler.schedule,
            discard_penultimate=sampler.discard_penultimate,
            xl=len(self.tokenizers) > 1,
        )
        draw_noise = batch_noise(seeds, shape)
        start = draw_noise()  # drawn even if it is given: later draws are the same then
        if noise is not None:
            start = np.ascontiguousarray(noise, np.float32)
        guided = request.cfg_scale != 1 and self.networks.unet_config.guidance_width is None
        prompts = [request.prompt, request.negative_prompt] if guided else [request.prompt]
        conditionings = condition(self.networks, self.tokenizers, prompts, request.clip_skip)
        if guided and not request.negative_prompt and self._zeros_for_no_text():
            conditionings[1] = without_text(conditionings[1])
        self.networks.prepare_decode(shape)
        predict = predictor(self.networks, request, conditionings, self._blank_picture(request))
        denoise = denoiser(predict, self.parametrization, self.schedule)
        # Unit variance where the model was trained: data and noise together, not the noise alone.
        x = start * np.float32((1 + levels[0] ** 2) ** 0.5)
        given = {name: getattr(request, name) for name in sampler.options}
        options = {name: value for name, value in given.items() if value is not None}
        for done in sampler.function(denoise, x, levels, draw_noise, **options):
            last = done.index == done.steps - 1
            result = self._result(request, sampler, seeds, done.x) if last else None
            yield Progress(done.index + 1, done.steps, done.denoised, self._preview, result)

    # --- the parts, for researchers and tests -----------------------------------------------------------

    def encode_prompt(self, prompt: str, *, clip_skip: int = 1) -> Floats | tuple[Floats, Floats]:
        """The conditioning (1, 77 * chunks, D), and for XL with it the pooled vector (1, P)."""
        (result,) = condition(self.networks, self.tokenizers, [prompt], clip_skip)
        return result.context if len(self.tokenizers) == 1 else (result.context, result.pooled)

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

    def _resolve(self, request: Request) -> tuple[Request, Sampler]:
        """Everything that was left to us, settled: size, seed, labels of sampler and schedule."""
        name, fused = split_sampler_name(request.sampler)
        sampler = find_sampler(name)
        schedule = find_schedule(request.schedule)
        if schedule == AUTOMATIC and fused is not None:
            schedule = fused
        side = self.networks.unet_config.sample_size * self.networks.autoencoder_config.factor
        width = side if request.width is None else request.width
        height = side if request.height is None else request.height
        self._check_size(width, height)
        seed = secrets.randbelow(2**32) if request.seed is None else request.seed
        settled = replace(
            request,
            sampler=sampler.label,
            schedule=schedule,
            eta=request.eta if "eta" in sampler.options else None,
            width=width,
            height=height,
            seed=seed,
        )
        return settled, sampler

    def _one_by_one(self, request: Request, noise: Floats | None) -> Iterator[Progress]:
        """A batch in which each picture takes steps of its own: one after another, as if asked for alone.

        `Progress.denoised` is then that of the picture which is being drawn.
        """
        assert request.seed is not None
        results: list[Result] = []
        before = 0
        for i in range(request.batch_size):
            alone = replace(request, batch_size=1, seed=request.seed + i)
            for progress in self.stream(alone, noise=None if noise is None else noise[i : i + 1]):
                if progress.result is not None:
                    results.append(progress.result)
                yield replace(
                    progress,
                    step=before + progress.step,
                    steps=before + progress.steps * (request.batch_size - i),
                    result=_joined(results) if len(results) == request.batch_size else None,
                )
            before += progress.step

    def _check_size(self, width: int, height: int) -> None:
        factor = self.networks.autoencoder_config.factor
        for name, side in (("width", width), ("height", height)):
            if side % factor:
                low = side // factor * factor
                near = f"{low} or {low + factor}" if low else f"{factor}"
                raise InvalidRequest(f"{name} is {side}; this model draws multiples of {factor}: try {near}")

    def _latent_shape(self, request: Request) -> tuple[int, int, int]:
        assert request.width is not None and request.height is not None
        config = self.networks.autoencoder_config
        return config.latent_channels, request.height // config.factor, request.width // config.factor

    def _zeros_for_no_text(self) -> bool:
        """Whether an empty negative prompt is no text at all, rather than the text ""; so in SDXL."""
        return len(self.tokenizers) > 1 and bool(
            self.checkpoint.model_index.get("force_zeros_for_empty_prompt", True)
        )

    def _blank_picture(self, request: Request) -> Floats | None:
        """What an inpainting model is told when there is no picture: a mask of ones over a gray one."""
        channels, rows, columns = self._latent_shape(request)
        if self.networks.unet_config.in_channels != 2 * channels + 1:
            return None
        gray = np.zeros((1, 3, request.height or 0, request.width or 0), np.float32)
        mask = np.ones((1, 1, rows, columns), np.float32)
        return np.concatenate([mask, self.networks.encode(gray)], axis=1)

    def _result(self, request: Request, sampler: Sampler, seeds: list[int], latent: Floats) -> Result:
        infotexts = [self._infotext(replace(request, seed=seed)) for seed in seeds]
        return Result(self.decode(latent), seeds, infotexts)

    def _infotext(self, request: Request) -> str:
        extra = [("RNG", "NV")]
        if request.clip_skip > 1:
            extra.insert(0, ("Clip skip", str(request.clip_skip)))
        if request.eta is not None:
            extra.append(("Eta DDIM" if request.sampler == "DDIM" else "Eta", f"{request.eta:g}"))
        return parameters_text(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            steps=request.steps,
            sampler=request.sampler,
            schedule=request.schedule,
            cfg_scale=request.cfg_scale,
            seed=request.seed or 0,
            width=request.width or 0,
            height=request.height or 0,
            model_hash=self.model_hash,
            model=self.checkpoint.name,
            extra=extra,
            version=f"pochade {pochade.__version__}",
        )

    def _preview(self, latent: Floats) -> "list[Image.Image]":
        """Decode every n-th latent pixel: a small picture for any family, without a table of colours."""
        step = -(-max(latent.shape[2:]) // PREVIEW_SIDE)
        return self.decode(latent[:, :, ::step, ::step])


def _joined(results: Sequence[Result]) -> Result:
    return Result(
        [image for result in results for image in result.images],
        [seed for result in results for seed in result.seeds],
        [text for result in results for text in result.infotexts],
    )


def finish(stream: Iterator[Progress]) -> Result:
    """Run a stream to its end and take the result."""
    result = None
    for progress in stream:
        result = progress.result
    assert result is not None, "a stream ends with a result"
    return result
