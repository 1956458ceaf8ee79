"""Reads upscalers, ESRGAN and Real-ESRGAN, with any of their three naming schemes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.checkpoints.fingerprint import fingerprint
from pochade.checkpoints.folder import Component
from pochade.checkpoints.keymaps import KeyMap, PrefixView, Rule, rename
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint

Tensors = Mapping[str, npt.NDArray[Any]]

PREFIXES = ("params_ema.", "params.", "module.", "")

DENSE_BLOCKS = ("body.0.rdb1.", "RRDB_trunk.0.RDB1.", "model.1.sub.0.RDB1.")
"""The prefix of the first block's names in each naming scheme."""

TRUNK: KeyMap = (
    Rule("RRDB_trunk.{}.RDB1.{*}", "body.{}.rdb1.{*}"),
    Rule("RRDB_trunk.{}.RDB2.{*}", "body.{}.rdb2.{*}"),
    Rule("RRDB_trunk.{}.RDB3.{*}", "body.{}.rdb3.{*}"),
    Rule("trunk_conv.{}", "conv_body.{}"),
    Rule("upconv1.{}", "conv_up1.{}"),
    Rule("upconv2.{}", "conv_up2.{}"),
    Rule("HRconv.{}", "conv_hr.{}"),
    Rule("conv_first.{}", "conv_first.{}"),
    Rule("conv_last.{}", "conv_last.{}"),
)
"""The key map of ESRGAN's original code; BasicSR and Real-ESRGAN have the canonical names."""

# (name that only this kind of file has, message)
OTHERS: tuple[tuple[str, str], ...] = (
    ("body.0.bias", "it is a compact Real-ESRGAN (SRVGG), which is not supported"),
    ("layers.0.residual_group.blocks.0.norm1.weight", "it is a SwinIR or HAT model, which is not supported"),
    ("relative_position_index_SA", "it is a DAT or HAT model, which is not supported"),
    ("model.1.sub.0.RDB1.conv1x1.weight", "it is an ESRGAN+ model, which is not supported"),
)


def read_upscaler(path: Path | str) -> Component:
    """Read an upscaler; its configuration is detected from the tensors' shapes.

    Raises InvalidCheckpoint, saying what the file is, for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidCheckpoint(f"the upscaler '{path}' is not a file; check the path")
    file = open_tensors(path)
    prefix = next(each for each in PREFIXES if any(name.startswith(each) for name in file))
    names = set(PrefixView(file, prefix))
    for name, what in OTHERS:
        if name in names:
            raise InvalidCheckpoint(f"'{path}' is not an upscaler of the ESRGAN family: {what}")
    tensors = rename(file, _rules(names, path), path, prefix=prefix)
    config = _detected(tensors)
    return Component(
        name="upscaler",
        config=config,
        tensors=tensors,
        files=(path,),
        fingerprint=fingerprint([file], extra=json.dumps(config, sort_keys=True).encode()),
    )


def _rules(names: set[str], path: Path) -> KeyMap:
    if "model.0.weight" in names:
        return _numbered(names, path)
    if "trunk_conv.weight" in names:
        return TRUNK
    if "conv_body.weight" in names:
        return ()
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:3]) or "none"
    raise InvalidCheckpoint(
        f"'{path}' is not an upscaler of the ESRGAN family: none of its {len(names):,} tensors is named"
        f" 'conv_body.weight', 'trunk_conv.weight' or 'model.0.weight' (the first are: {shown})"
    )


def _numbered(names: set[str], path: Path) -> KeyMap:
    """The key map of the oldest names, whose numbers count layers without weights; the last two are the
    output."""
    parts = {name.split(".")[1] for name in names if name.startswith("model.") and name.count(".") == 2}
    numbers = sorted((part for part in parts if part.isdecimal()), key=int)
    if len(numbers) < 3:
        raise InvalidCheckpoint(f"'{path}' is an ESRGAN model without its last layers; download it again")
    first, *ups, fine, last = numbers
    trunk = [name.split(".") for name in names if name.startswith("model.1.sub.")]
    after = {parts[3] for parts in trunk if len(parts) == 5}  # the blocks; a convolution follows them
    dense = [Rule(f"model.1.sub.{{}}.RDB{i}.{{}}.0.{{}}", f"body.{{}}.rdb{i}.{{}}.{{}}") for i in (1, 2, 3)]
    return (
        Rule(f"model.{first}.{{}}", "conv_first.{}"),
        *dense,
        *(Rule(f"model.1.sub.{block}.{{}}", "conv_body.{}") for block in sorted(after)),
        *(Rule(f"model.{up}.{{}}", f"conv_up{i}.{{}}") for i, up in enumerate(ups, start=1)),
        Rule(f"model.{fine}.{{}}", "conv_hr.{}"),
        Rule(f"model.{last}.{{}}", "conv_last.{}"),
    )


def _detected(tensors: Tensors) -> dict[str, Any]:
    """The table that `configs.read_json.rrdb_config` reads."""

    def shape(name: str) -> tuple[int, ...]:
        return tensors[name].shape if name in tensors else (0, 0, 0, 0)

    channels = shape("conv_last.weight")[0]
    doublings = 0
    while f"conv_up{doublings + 1}.weight" in tensors:
        doublings += 1
    blocks = 0
    while f"body.{blocks}.rdb1.conv1.weight" in tensors:
        blocks += 1
    return {
        "channels": channels,
        "channels_read": shape("conv_first.weight")[1],
        "width": shape("conv_first.weight")[0],
        "growth": shape("body.0.rdb1.conv1.weight")[0],
        "blocks": blocks,
        "doublings": doublings,
    }
