"""Reads ControlNets: diffusers folders, and files with the names of diffusers or of the original code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.checkpoints.detect import detect_controlnet
from pochade.checkpoints.fingerprint import fingerprint
from pochade.checkpoints.folder import Component, read_component
from pochade.checkpoints.keymaps import LazyTensors, PrefixView, rename
from pochade.checkpoints.ldm import controlnet_rules, file_layout
from pochade.checkpoints.safetensors import TensorFile
from pochade.checkpoints.weight_files import open_tensors
from pochade.configs.write_json import describe_controlnet
from pochade.errors import InvalidCheckpoint

Tensors = Mapping[str, npt.NDArray[Any]]

PREFIX = "control_model."
"""The prefix of names in files of the original code; some files omit it."""

# (prefix that only this kind of file has, message)
OTHERS: tuple[tuple[str, str], ...] = (
    (
        "difference",
        "it contains differences to a model's weights, which is not supported; download the full ControlNet",
    ),
    ("lora_controlnet", "it is a Control-LoRA, which is not supported; download the full ControlNet"),
    ("body.", "it is a T2I-Adapter, which is not supported"),
    ("adapter.", "it is a T2I-Adapter, which is not supported"),
    ("image_proj", "it is an IP-Adapter, which is not supported"),
    ("task_embedding", "it is a union ControlNet, which is not supported"),
    ("model.diffusion_model.double_blocks.", "it is made for Flux, which is not supported"),
    ("transformer_blocks.", "it is for a family other than Stable Diffusion 1, 2 or XL"),
)


def read_controlnet(path: Path | str) -> Component:
    """Read a ControlNet; its weights are mapped. A file's configuration is detected from the tensors' shapes.

    path: a diffusers folder with a `config.json`, or a file. Raises InvalidCheckpoint, saying what it is, for
    anything else.
    """
    path = Path(path)
    if path.is_dir():
        return read_component(path, "controlnet")
    if not path.exists():
        raise InvalidCheckpoint(f"the ControlNet '{path}' does not exist; check the path")
    file = open_tensors(path)
    tensors = _canonical(file, path)
    config = describe_controlnet(detect_controlnet(tensors, path))
    return Component(
        name="controlnet",
        config=config,
        tensors=tensors,
        files=(path,),
        fingerprint=fingerprint([file], extra=json.dumps(config, sort_keys=True).encode()),
    )


def _canonical(file: TensorFile, path: Path) -> LazyTensors:
    for begin, what in OTHERS:
        if any(name.startswith(begin) for name in file):
            raise InvalidCheckpoint(f"'{path}' is not a ControlNet: {what}")
    if "controlnet_cond_embedding.conv_in.weight" in file:
        return rename(file, (), path)
    prefix = PREFIX if any(name.startswith(PREFIX) for name in file) else ""
    inside = PrefixView(file, prefix)
    hints = [name for name in inside if name.startswith("input_hint_block.") and name.endswith(".weight")]
    if len(hints) < 2:
        known = "'input_hint_block.0.weight' or 'controlnet_cond_embedding.conv_in.weight'"
        shown = ", ".join(f"'{name}'" for name in sorted(file)[:3]) or "none"
        raise InvalidCheckpoint(
            f"'{path}' is not a ControlNet: none of its {len(file):,} tensors is named {known}"
            f" (the first are: {shown})"
        )
    rules = controlnet_rules(file_layout(inside), len(hints))
    return rename(file, rules, path, prefix=prefix, strict=True)
