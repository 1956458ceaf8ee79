"""An adapter and an embedding for the starter, with random weights."""

from pathlib import Path

import numpy as np

import pochade
from pochade.checkpoints import safetensors


def write_adapter(path: Path) -> None:
    """Write a LoRA of one layer of the starter's UNet."""
    tensors = pochade.load().checkpoint.unet.tensors
    rng = np.random.default_rng(0)
    key = next(name for name in tensors if name.endswith("attn2.to_v.weight"))
    outputs, inputs = tensors[key].shape
    layer = f"unet.{key.removesuffix('.weight')}"
    safetensors.write(
        path,
        {
            f"{layer}.lora_B.weight": rng.standard_normal((outputs, 2), np.float32),
            f"{layer}.lora_A.weight": rng.standard_normal((2, inputs), np.float32),
        },
    )


def write_embedding(path: Path) -> None:
    """Write an embedding with two vectors."""
    tensors = pochade.load().checkpoint.text_encoder.tensors
    width = tensors["embeddings.token_embedding.weight"].shape[1]
    vectors = np.random.default_rng(1).standard_normal((2, width), np.float32)
    safetensors.write(path, {"emb_params": vectors})
