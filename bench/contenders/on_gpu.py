"""The GPU checks besides speed: features, memory, f16. Each prints its results."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import pochade
from contenders.models import SHAPES, make_model
from pochade.checkpoints.write import write_component
from pochade.configs.networks import ControlNetConfig
from pochade.configs.write_json import describe_controlnet
from pochade.loading.parameter_shapes import controlnet_shapes
from pochade.request import Request
from pochade.request_options import Control, Hires

PROMPT = "a red apple"
SMALL = {"seed": 7, "steps": 8, "sampler": "Euler"}
ALIKE = {"f32": 45.0, "f16": 28.0, "bf16": 20.0}
"""dB to the same drawing in f32 on the processor: below that something else than rounding is at work."""
GIB = 2**30


def parity(device: str, precision: str, scale: str, cache: Path) -> dict[str, Any]:
    """Draw with each feature of the starter and compare with OpenVINO in f32 on the processor: PSNR, dB."""
    exact = pochade.load(device="cpu", precision="f32", engine="openvino")
    found = {}
    for name in dict.fromkeys(("f32", precision)):
        other = pochade.load(device=device, precision=name, engine="torch")
        for way, draw in variants(cache).items():
            pairs = zip(draw(exact), draw(other), strict=True)
            found[f"{name} {way}"] = least = min(psnr(one, two) for one, two in pairs)
            verdict = "" if least >= ALIKE[name] else f"  DIFFERENT: at least {ALIKE[name]:g} were expected"
            print(f"{name:5}{way:24}{least:8.1f} dB{verdict}", flush=True)
    missed = [name for name, value in found.items() if value < ALIKE[name.split()[0]]]
    return {"psnr": found, "failed": missed}


def variants(cache: Path) -> dict[str, Callable[[Any], list[Image.Image]]]:
    """The features: each function draws with a pipeline."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8))
    picture = picture.resize((128, 128))
    mask = Image.new("L", (128, 128))
    mask.paste(255, (32, 32, 96, 96))
    control = Control(image=picture, model=controlnet(cache), strength=0.8)

    def text(**options: Any) -> Callable[[Any], list[Image.Image]]:
        return lambda it: it.txt2img(PROMPT, **{**SMALL, **options}).images

    return {
        "text": text(),
        "four pictures": text(batch_size=4),
        "without guidance": text(cfg_scale=1.0),
        "DPM++ 2M SDE": text(sampler="DPM++ 2M SDE"),
        "UniPC": text(sampler="UniPC"),
        "other size, tiling": text(width=192, height=64, tiling=True),
        "composed": lambda it: it.txt2img("a red apple AND a tree :0.5", **SMALL).images,
        "balanced": text(speed="balanced"),
        "fast, two pictures": text(speed="fast", batch_size=2),
        "second pass": text(hires=Hires(scale=1.5, denoising_strength=0.6)),
        "over a picture": lambda it: it.img2img(PROMPT, image=picture, **SMALL).images,
        "inpainting": lambda it: it.inpaint(PROMPT, image=picture, mask=mask, **SMALL).images,
        "ControlNet, two pictures": text(controls=(control,), batch_size=2),
        "two ControlNets": text(controls=(control, replace(control, strength=0.3))),
    }


def controlnet(cache: Path) -> Path:
    """A ControlNet for the starter with random weights."""
    folder = cache / "starter-controlnet"
    if not folder.exists():
        config = ControlNetConfig(unet=replace(pochade.load(device="cpu").networks.unet_config, up_depths=()))
        rng = np.random.default_rng(1)
        tensors = {
            name: rng.standard_normal(shape, np.float32) * np.float32(0.03) + np.float32(_is_scale(name))
            for name, shape in controlnet_shapes(config).items()
        }
        cache.mkdir(parents=True, exist_ok=True)
        write_component(folder, describe_controlnet(config), tensors)
    return folder


def _is_scale(name: str) -> bool:
    return "norm" in name and name.endswith("weight")


def memory(device: str, precision: str, scale: str, cache: Path) -> dict[str, Any]:
    """SD 1.5's shapes at 512 x 512 with 4 GiB of the device's memory."""
    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, 4 * GIB / total), device)
    shapes = SHAPES["starter" if scale == "quick" else "sd15"]
    pipeline = pochade.load(make_model(shapes, cache), device=device, precision=precision, engine="torch")
    found = {}
    for batch in (1, 4):
        steps = list(pipeline.stream(Request(prompt=PROMPT, seed=1, steps=4, batch_size=batch)))
        assert steps[-1].result is not None and len(steps[-1].result.images) == batch
        if device.startswith("cuda"):
            found[f"{batch} at once"] = {
                "allocated": torch.cuda.max_memory_allocated(device) / GIB,
                "reserved": torch.cuda.max_memory_reserved(device) / GIB,
            }
        print(f"{batch} pictures within 4 GiB: drawn; {found.get(f'{batch} at once', '')}", flush=True)
    return {"GiB": found, "failed": []}


def xl(device: str, precision: str, scale: str, cache: Path) -> dict[str, Any]:
    """XL's shapes in f16, with an autoencoder whose activations exceed the range of f16: the picture must be
    finite, and the autoencoder in another precision."""
    shapes = SHAPES["starter" if scale == "quick" else "xl"]
    pipeline = pochade.load(make_model(shapes, cache), device=device, precision="f16", engine="torch")
    networks, failed = pipeline.networks, []
    loud = Louder(networks.autoencoder.tensors, ("decoder.conv_in.weight", "decoder.conv_in.bias"))
    coder = replace(networks.autoencoder, tensors=loud, fingerprint="louder")
    wide = networks.wide_autoencoder
    if wide is not None:
        wide = replace(wide, tensors=loud, fingerprint="louder")
    networks = replace(networks, autoencoder=coder, wide_autoencoder=wide)
    pipeline = replace(pipeline, model=replace(pipeline.model, networks=networks))
    picture = np.asarray(pipeline.txt2img(PROMPT, seed=1, steps=4).images[0])
    used = networks.coder.engine.precision
    if used == "f16" or picture.std() == 0:
        failed.append("the autoencoder")
    side = f"{picture.shape[1]} x {picture.shape[0]}"
    print(f"XL in f16, {side}: finite, autoencoder in {used}, deviation {picture.std():.1f}", flush=True)
    return {"autoencoder": used, "failed": failed}


class Louder(dict[str, Any]):
    """Tensors some of which are scaled up; a later normalisation undoes this if the values can be
    represented."""

    def __init__(self, tensors: Any, names: tuple[str, ...], factor: float = 1e6) -> None:
        changed = {name: np.asarray(tensors[name], np.float32) * np.float32(factor) for name in names}
        super().__init__({**{name: tensors[name] for name in tensors}, **changed})


def psnr(one: Image.Image, two: Image.Image) -> float:
    """PSNR of 8-bit pictures, dB; 99 if they are equal."""
    difference = np.asarray(one, np.float64) - np.asarray(two, np.float64)
    error = np.square(difference).mean()
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))
