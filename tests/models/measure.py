"""One model on one engine against diffusers or transformers: the relative error of what it returns."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.engines.numpy import NumpyEngine
from pochade.engines.openvino import OpenVinoEngine
from pochade.engines.torch import TorchEngine
from pochade.models.autoencoder import decode, encode
from pochade.models.embedding import embed_sizes, embed_timestep
from pochade.models.text_encoder import text_encoder
from pochade.models.unet import unet as our_unet
from tests.reference import evaluate, relative_error, stored

ENGINES: Mapping[tuple[str, str], Callable[[], Any]] = {
    ("numpy", "f32"): NumpyEngine,
    ("openvino", "f32"): partial(OpenVinoEngine, threads=1),
    ("torch", "f32"): TorchEngine,
    ("openvino", "bf16"): partial(OpenVinoEngine, precision="bf16", threads=1),
    ("torch", "bf16"): partial(TorchEngine, precision="bf16"),
}
"""(engine, precision) -> how to make it."""


def unet_reference(unet: UNet2DConditionModel, inputs: Mapping[str, Any]) -> Any:
    """Return diffusers' output for `tests.reference.unet_inputs`."""

    def narrowed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: narrowed(part) for name, part in value.items()}
        return value.to(unet.dtype) if value.is_floating_point() else value

    with torch.inference_mode():
        return unet(**narrowed(dict(inputs))).sample.float().numpy()


def unet_output(
    engine: Any, json: Mapping[str, Any], tensors: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """Return Pochade's output for the same arguments. json: the UNet's `config.json`."""
    config = unet_config(json)
    arrays = {
        "x": given["sample"].numpy(),
        "time": embed_timestep(config, given["timestep"].numpy()),
        "context": given["encoder_hidden_states"].numpy(),
    }
    if "added_cond_kwargs" in given:
        added = given["added_cond_kwargs"]
        arrays["added"] = embed_sizes(config, added["text_embeds"].numpy(), added["time_ids"].numpy())
    if "timestep_cond" in given:
        arrays["guidance"] = given["timestep_cond"].numpy()
    return evaluate(engine, our_unet, config, tensors, **arrays)


def text_reference(model: CLIPTextModel, ids: Any, *, skip: int, final_norm: bool) -> tuple[Any, Any]:
    """Return (conditioning, pooled vector) of transformers, as in `models.text_encoder`."""
    with torch.inference_mode():
        returned = model(torch.from_numpy(ids), output_hidden_states=True)
        conditioning = returned.hidden_states[-1 - skip]
        if final_norm:
            conditioning = getattr(model, "text_model", model).final_layer_norm(conditioning)
        pooled = returned.text_embeds if hasattr(returned, "text_embeds") else returned.pooler_output
        return conditioning.float().numpy(), pooled.float().numpy()


def text_output(
    engine: Any, json: Mapping[str, Any], tensors: Mapping[str, Any], ids: Any, *, skip: int, final_norm: bool
) -> tuple[Any, Any]:
    """Return Pochade's output for the same ids; a row ends at the first end token of the configuration."""
    config = text_encoder_config(json)
    end = (ids == config.end_token).argmax(axis=1)
    function = partial(text_encoder, skip=skip, final_norm=final_norm)
    conditioning, pooled = evaluate(engine, function, config, tensors, ids=ids, end=end)
    return conditioning, pooled


def prompt_ids(vocabulary: int, end: int, length: int = 77, seed: int = 0) -> Any:
    """Return two rows of tokens: one that ends early and is padded with end tokens, and a full one."""
    ids = np.random.default_rng(seed).integers(0, vocabulary - 2, (2, length))
    ids[0, length // 3 :] = end
    ids[1, -1] = end
    return ids


def encode_reference(model: AutoencoderKL, picture: Any) -> Any:
    """Return the posterior's mean and log-variance for a picture (B, 3, H, W)."""
    with torch.inference_mode():
        moments = model.encode(torch.from_numpy(picture).to(model.dtype)).latent_dist.parameters
        return moments.float().numpy()


def decode_reference(model: AutoencoderKL, latent: Any) -> Any:
    """Return the picture for an unscaled latent (B, C, h, w)."""
    with torch.inference_mode():
        return model.decode(torch.from_numpy(latent).to(model.dtype)).sample.float().numpy()


def encode_error(engine: Any, model: AutoencoderKL, picture: Any) -> float:
    config = autoencoder_config(dict(model.config))
    ours = evaluate(engine, encode, config, stored(model), picture=picture)
    return relative_error(ours, encode_reference(model, picture))


def decode_error(engine: Any, model: AutoencoderKL, latent: Any) -> float:
    config = autoencoder_config(dict(model.config))
    ours = evaluate(engine, decode, config, stored(model), latent=latent)
    return relative_error(ours, decode_reference(model, latent))


def unet_error(engine: Any, unet: UNet2DConditionModel, inputs: Mapping[str, Any]) -> float:
    ours = unet_output(engine, dict(unet.config), stored(unet), inputs)
    return relative_error(ours, unet_reference(unet, inputs))


def text_errors(
    engine: Any, model: CLIPTextModel, *, skip: int = 0, final_norm: bool = True, length: int = 77
) -> tuple[float, float]:
    """(of the conditioning, of the pooled vector)."""
    ids = prompt_ids(model.config.vocab_size, model.config.eos_token_id, length)
    form = {"skip": skip, "final_norm": final_norm}
    ours = text_output(engine, text_json(model), stored(model), ids, **form)
    theirs = text_reference(model, ids, **form)
    return relative_error(ours[0], theirs[0]), relative_error(ours[1], theirs[1])


def text_json(model: CLIPTextModel) -> dict[str, Any]:
    """The `config.json` that transformers would write."""
    return {**model.config.to_dict(), "architectures": [type(model).__name__]}


def own_bf16_error(model: Any, reference: Callable[[Any], Any]) -> float:
    """Return the error of `reference(model)` when diffusers or transformers compute it in bf16."""
    return relative_error(reference(deepcopy(model).to(torch.bfloat16)), reference(model))
