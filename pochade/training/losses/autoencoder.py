"""Training the autoencoder: reconstruction by no other network (Rombach et al. 2022, section 3.1)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pochade.configs.networks import AutoencoderConfig
from pochade.engines.torch import TorchOps
from pochade.loading.parameter_shapes import autoencoder_shapes
from pochade.models.autoencoder import decode, encode
from pochade.training.loop import Loss
from pochade.training.losses.adversary import Attempt, Reconstruct
from pochade.training.parameters import Parameters, create
from pochade.training.precision import has_native_bf16, mixed_precision
from pochade.weights import View

# A posterior that begins wide teaches the decoder to ignore the latent, and it never recovers; so it
# begins narrow (deviation 0.05) and the divergence weighs little.
FIRST_LOG_VARIANCE = -6.0
DIVERGENCE_WEIGHT = 1e-6


Draw = Callable[[np.random.Generator], NDArray[np.uint8]]
"""One picture to learn from: (H, W, 3), the same size each time."""


def initialize(config: AutoencoderConfig, seed: int) -> Parameters:
    """Parameters of encoder and decoder, with a narrow posterior."""
    parameters = create(autoencoder_shapes(config), seed)
    parameters["quant_conv.bias"][config.latent_channels :] = FIRST_LOG_VARIANCE
    return parameters


def loss(config: AutoencoderConfig, draw: Draw, batch: int, *, device: str = "cpu") -> Loss:
    """Reconstruction of drawn pictures."""
    ops = TorchOps()

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        picture = laid_out(to_signed(np.stack([draw(rng) for _ in range(batch)])).to(device))
        view = View(parameters)
        with mixed_precision(device):
            mean, log_variance = encode(ops, config, view, picture).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-20, 10)
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            noise = torch.randn(mean.shape, generator=generator).to(device)
            latent = mean + (0.5 * log_variance).exp() * noise
            result = decode(ops, config, view, latent).float()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        total: torch.Tensor = reconstruction(result, picture) + DIVERGENCE_WEIGHT * divergence
        return total

    return step


LATENT_NOISE = 0.1
"""What the diffusion model leaves in a latent, roughly, as a share of its deviation."""


def anchored_loss(
    config: AutoencoderConfig, anchor: Parameters, draw: Draw, batch: int, *, device: str = "cpu"
) -> Loss:
    """Reconstruction by an autoencoder whose latents stay near those of another, with which a diffusion model
    has been trained.

    anchor: the whole other autoencoder, with latents of unit variance; its encoder is used.
    """
    ops = TorchOps()
    fixed = {name: tensor.detach().to(device) for name, tensor in anchor.items()}

    def step(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        pictures = np.stack([draw(rng) for _ in range(batch)])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        picture, view = laid_out(to_signed(pictures).to(device)), View(parameters)
        with mixed_precision(device):
            with torch.no_grad():
                there = encode(ops, config, View(fixed), picture)[:, : config.latent_channels].float()
            latent = encode(ops, config, view, picture)[:, : config.latent_channels].float()
            result = decode(ops, config, view, slightly_noisy(latent, generator)).float()
        return reconstruction(result, picture) + F.mse_loss(latent, there)

    return step


def slightly_noisy(latent: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As drawn latents are: each with noise of its own strength, up to LATENT_NOISE."""
    amount = LATENT_NOISE * torch.rand(len(latent), 1, 1, 1, generator=generator)
    noise = amount * torch.randn(latent.shape, generator=generator)
    return latent + noise.to(latent.device)


def decoder_attempts(
    config: AutoencoderConfig, frozen: Parameters, draw: Draw, batch: int, *, device: str = "cpu"
) -> Reconstruct:
    """What an adversary is to judge (see `adversary.loss`).

    frozen: the whole autoencoder; its encoder is used. The latents are slightly noisy, as drawn ones are.
    """
    ops = TorchOps()
    encoder = {name: tensor.detach().to(device) for name, tensor in frozen.items()}

    def attempt(parameters: Parameters, rng: np.random.Generator) -> Attempt:
        pictures = np.stack([draw(rng) for _ in range(batch)])
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        latent = encode_all(config, encoder, pictures, device=device)
        noisy = slightly_noisy(latent, generator).to(device)
        with mixed_precision(device):
            result = decode(ops, config, View(parameters), noisy).float()
        picture = to_signed(pictures).to(device)
        return Attempt(picture=picture, result=result, error=reconstruction(result, picture))

    return attempt


def reconstruction(result: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Absolute differences of the pictures, of their edges, and of both at half and quarter size.

    Edges weigh as much as areas: an eye or a stripe is few pixels and much of what a person sees.
    """
    total = 4 * F.mse_loss(result, picture)
    for _ in range(3):
        total = total + F.l1_loss(result, picture)
        for axis in (2, 3):
            total = total + F.l1_loss(result.diff(dim=axis), picture.diff(dim=axis))
        result, picture = F.avg_pool2d(result, 2), F.avg_pool2d(picture, 2)
    return total


def laid_out(picture: torch.Tensor) -> torch.Tensor:
    """The pictures (B, 3, H, W) in the memory layout in which the autoencoder trains fastest.

    With the channels last, convolutions are faster and the group norms' backward pass is slower. In f32 with
    AVX-512 a step takes 0.73 of the time, in bf16 1.5 of it (24 pictures/s became 16).
    """
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    in_f32 = picture.device.type == "cpu" and not has_native_bf16("cpu")
    last = picture.is_cuda or (wide and in_f32)
    return picture.to(memory_format=torch.channels_last) if last else picture


def to_signed(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """(B, H, W, 3) in 0..255 -> (B, 3, H, W) in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode_all(
    config: AutoencoderConfig,
    parameters: Parameters,
    pictures: NDArray[np.uint8],
    *,
    device: str = "cpu",
    batch: int = 32,
) -> torch.Tensor:
    """Posterior means, unscaled: (N, H, W, 3) -> (N, latent_channels, H / factor, W / factor)."""
    view, parts = View(parameters), []
    for start in range(0, len(pictures), batch):
        moments = encode(TorchOps(), config, view, to_signed(pictures[start : start + batch]).to(device))
        parts.append(moments[:, : config.latent_channels].cpu())
    return torch.cat(parts)


@torch.no_grad()
def fold_scale(
    config: AutoencoderConfig, parameters: Parameters, latents: torch.Tensor
) -> tuple[AutoencoderConfig, Parameters]:
    """Make every latent channel zero-mean and unit-variance by changing the two 1x1 convolutions around it.

    The diffusion model then meets even channels, while the stored layout keeps its one factor, which is 1.
    """
    c = config.latent_channels
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    folded = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    folded["quant_conv.weight"][:c] /= deviation.view(-1, 1, 1, 1)
    folded["quant_conv.bias"][:c] = (folded["quant_conv.bias"][:c] - mean) / deviation
    folded["quant_conv.bias"][c:] -= 2 * deviation.log()
    weight = parameters["post_quant_conv.weight"]
    folded["post_quant_conv.bias"] += weight[:, :, 0, 0] @ mean
    folded["post_quant_conv.weight"] = weight * deviation.view(1, -1, 1, 1)
    return replace(config, scale=1.0, shift=0.0), folded
