"""The UNet with guidance, as the `predict(x, timestep)` that samplers are built on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.guidance import guide
from pochade.diffusion.parametrization import Predict
from pochade.models.embedding import embed_guidance, embed_sizes, embed_timestep
from pochade.pipeline.conditioning import Conditioning
from pochade.pipeline.networks import Networks
from pochade.request import Request

Floats = NDArray[np.float32]


def predictor(
    networks: Networks, request: Request, conditionings: Sequence[Conditioning], extra: Floats | None = None
) -> Predict:
    """`predict(x, timestep)` for latents (B, 4, h, w).

    conditionings: the prompt's, then the negative prompt's if guidance is on.
    extra: (1, C, h, w), channels that inpainting models read beside the latent.

    Pictures are evaluated one at a time, each with both conditionings in one call: a processor gains nothing
    from larger batches, the graph is the same for any number of pictures, and so is each picture.
    """
    context = np.concatenate([each.context for each in conditionings])
    fixed = {"context": context, **_added(networks, request, conditionings)}

    def evaluate(x: Floats, timestep: float) -> Floats:
        """(B, 4, h, w) -> (B, conditionings, 4, h, w)."""
        time = embed_timestep(networks.unet_config, np.full(len(context), timestep, np.float32))
        parts = []
        for picture in x:
            latent = picture if extra is None else np.concatenate([picture, extra[0]])
            batch = np.repeat(latent[None], len(context), axis=0)
            parts.append(networks.predict(x=batch, time=time, **fixed))
        return np.stack(parts)

    def both(x: Floats, timestep: float) -> tuple[Floats, Floats]:
        result = evaluate(x, timestep)
        return result[:, 0], result[:, 1]

    if len(conditionings) == 1:
        return lambda x, timestep: evaluate(x, timestep)[:, 0]
    return guide(both, request.cfg_scale, request.guidance_rescale)


def _added(networks: Networks, request: Request, conditionings: Sequence[Conditioning]) -> dict[str, Floats]:
    """The further inputs of XL (pooled text and sizes) and of LCM (the guidance scale)."""
    config, rows = networks.unet_config, len(conditionings)
    inputs = {}
    if config.added_width is not None:
        assert request.height is not None and request.width is not None
        pooled = np.concatenate([each.pooled for each in conditionings])
        sizes = (request.height, request.width, 0, 0, request.height, request.width)
        inputs["added"] = embed_sizes(config, pooled, [sizes] * rows)
    if config.guidance_width is not None:
        inputs["guidance"] = embed_guidance(config, [request.cfg_scale] * rows)
    return inputs
