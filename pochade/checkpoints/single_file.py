"""Reads whole checkpoints from single files, which use the names of the latent diffusion code."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.checkpoints.contents import AUTOENCODER, AVERAGE, UNET, find_family
from pochade.checkpoints.detect import (
    FileFormat,
    StoredEncoder,
    describe_pipeline,
    describe_scheduler,
    detect_autoencoder,
    detect_text_encoder,
    detect_unet,
)
from pochade.checkpoints.few_steps import find_few_steps, titles_of
from pochade.checkpoints.fingerprint import fingerprint
from pochade.checkpoints.folder import Checkpoint, Component, read_component
from pochade.checkpoints.keymaps import AUTOENCODER as RENAMED_AUTOENCODER
from pochade.checkpoints.keymaps import IGNORED_SUFFIXES, KeyMap, LazyTensors, PrefixView, rename
from pochade.checkpoints.ldm import (
    CLIP,
    autoencoder_rules,
    file_layout,
    open_clip_rules,
    unet_rules,
    with_dots,
)
from pochade.checkpoints.overrides import Overrides
from pochade.checkpoints.prediction import check_scheduler, find_prediction, predicts_to_zero_snr
from pochade.checkpoints.readers import OpenedFile, reader_of_file
from pochade.checkpoints.safetensors import TensorFile
from pochade.checkpoints.tiny_autoencoder import is_tiny, read_tiny_autoencoder
from pochade.checkpoints.weight_files import open_tensors
from pochade.configs.write_json import describe_autoencoder, describe_text_encoder, describe_unet
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]

UNUSED = (*IGNORED_SUFFIXES, "text_projection")
"""The last parts of names of scales that may accompany the weights of text encoders."""


def read_single_file(
    path: Path | str,
    *,
    vae: Path | str | Component | None = None,
    overrides: Overrides | None = None,
    prediction: str | None = None,
) -> Checkpoint:
    """Read a checkpoint from one file; its weights are mapped. Configurations are detected from shapes.

    vae: an autoencoder that replaces the file's own, which some files lack: a path (see `read_autoencoder`)
        or a loaded component.
    overrides: replace detected configurations. prediction: what the UNet predicts.

    Raises InvalidCheckpoint, naming the tensor or entry that is missing, unknown or not supported.
    """
    source = _open(Path(path))
    reader = reader_of_file(source.tensors)
    if reader is not None:
        return reader.read_file(source, vae=vae, overrides=overrides or Overrides(), prediction=prediction)
    family = find_family(source.tensors, source.path)
    asked, stored = overrides or Overrides(), Overrides.from_metadata(source.file.metadata, source.path)
    given = asked.over(stored)
    unet = _unet(source)
    texts = _text_encoders(source, family, given)
    in_channels = unet["conv_in.weight"].shape[1] if "conv_in.weight" in unet else 0
    own_scheduler = stored.tables.get("scheduler", {})
    if prediction is not None:
        predicted, reason = prediction, "as requested"
    else:
        predicted, reason = asked.prediction() or find_prediction(
            source.tensors, source.file.metadata, family, in_channels, source.path, own_scheduler
        )
    detected = detect_unet(unet, family, predicted, source.path)
    side, unet_json = detected.sample_size, given.table("unet", describe_unet(detected))
    to_zero_snr = predicts_to_zero_snr(source.tensors, source.file.metadata)
    described = describe_scheduler(predicted, zero_snr=to_zero_snr)
    if to_zero_snr:  # the key takes precedence over the metadata
        own_scheduler = {**own_scheduler, "rescale_betas_zero_snr": True}
    scheduler = asked.table("scheduler", {**described, **own_scheduler}) | {"prediction_type": predicted}
    check_scheduler(scheduler, source.path)
    index = given.table("model_index", describe_pipeline(family, in_channels))
    return Checkpoint(
        name=source.path.stem,
        family=family.label,
        model_index=index,
        unet=_component("unet", unet, unet_json, source),
        vae=_autoencoder(source, vae, family, given.number("unet", "sample_size", side), given),
        text_encoders=texts,
        scheduler=scheduler,
        tokenizers=tuple(given.folders.get(text.name.replace("text_encoder", "tokenizer")) for text in texts),
        pad_ids=family.pad_ids,
        prediction_reason=reason,
        few_steps=find_few_steps(
            takes_guidance=unet_json.get("time_cond_proj_dim") is not None,
            classes=(index.get("_class_name"), scheduler.get("_class_name")),
            titles=titles_of(source.file.metadata),
            name=source.path.stem,
            family=family,
        ),
    )


def read_autoencoder(
    path: Path | str, family: FileFormat, sample_size: int, overrides: Overrides | None = None
) -> Component:
    """Read an autoencoder from a file or folder.

    path: a diffusers `vae` folder, a model folder that contains one, or a file with its tensors, with or
        without the prefix `first_stage_model.`, or with diffusers' names; or a tiny autoencoder
        (`checkpoints.tiny_autoencoder`).
    family: provides the scale of its latents if there is no config.json.
    sample_size: latent pixels along a side.
    """
    path = Path(path)
    if is_tiny(path):
        return read_tiny_autoencoder(path)
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        return read_component(folder, "vae", RENAMED_AUTOENCODER)
    source = _open(path)
    prefix = AUTOENCODER if any(name.startswith(AUTOENCODER) for name in source.tensors) else ""
    inside = PrefixView(source.tensors, prefix)
    if not any(name.startswith(("encoder.", "decoder.")) for name in inside):
        raise InvalidCheckpoint(
            f"'{path}' holds no autoencoder: no tensor begins with 'encoder.' or '{AUTOENCODER}encoder.'"
        )
    tensors = _renamed_autoencoder(source, prefix)
    config = detect_autoencoder(tensors, family, path)
    described = describe_autoencoder(config, sample_size * config.factor)
    return _component("vae", tensors, (overrides or Overrides()).table("vae", described), source)


def _open(path: Path) -> OpenedFile:
    file = open_tensors(path)
    return OpenedFile(file, _with_averages(file, path), fingerprint([file]))


def _with_averages(file: TensorFile, path: Path) -> Tensors:
    """The tensors; if the file has only the UNet's moving average, that one under the ordinary names."""
    if any(name.startswith(UNET) for name in file):
        return file
    makers = {name: partial(file.__getitem__, name) for name in file}
    for name in file:
        if not name.startswith(f"{AVERAGE}diffusion_model"):
            continue
        dotted = with_dots(name.removeprefix(AVERAGE))
        if dotted is None:
            raise InvalidCheckpoint(
                f"'{path}' holds the averaged tensor '{name}', which is not part of a known UNet"
            )
        makers[f"model.{dotted}"] = makers.pop(name)
    return LazyTensors(makers)


def _unet(source: OpenedFile) -> LazyTensors:
    layout = file_layout(PrefixView(source.tensors, UNET))
    return rename(source.tensors, unet_rules(layout), source.path, prefix=UNET, strict=True)


def _autoencoder(
    source: OpenedFile,
    vae: Path | str | Component | None,
    family: FileFormat,
    sample_size: int,
    given: Overrides,
) -> Component:
    if isinstance(vae, Component):
        return vae
    if vae is not None:
        return read_autoencoder(vae, family, sample_size, given)
    if not any(name.startswith(AUTOENCODER) for name in source.tensors):
        raise InvalidCheckpoint(
            f"'{source.path}' holds no autoencoder (no tensor begins with '{AUTOENCODER}'); give one with"
            " vae=PATH, on the command line --vae PATH: an autoencoder's file, a diffusers folder, or another"
            f" checkpoint of {family.label}"
        )
    tensors = _renamed_autoencoder(source, AUTOENCODER)
    config = detect_autoencoder(tensors, family, source.path)
    described = describe_autoencoder(config, sample_size * config.factor)
    return _component("vae", tensors, given.table("vae", described), source)


def _renamed_autoencoder(source: OpenedFile, prefix: str) -> LazyTensors:
    """Read the names of diffusers too, which some programs write under the prefix of a single file."""
    inside = PrefixView(source.tensors, prefix)
    if any(name.startswith("encoder.down_blocks.") for name in inside):
        return rename(source.tensors, RENAMED_AUTOENCODER, source.path, prefix=prefix)
    levels = len({name.split(".")[2] for name in inside if name.startswith("encoder.down.")})
    strict = bool(prefix)
    return rename(source.tensors, autoencoder_rules(levels), source.path, prefix=prefix, strict=strict)


def _text_encoders(source: OpenedFile, family: FileFormat, given: Overrides) -> tuple[Component, ...]:
    """Read the text encoders in the family's order; the refiner's only one has the name of the second."""
    root = f"{family.encoders[0].prefix.partition('.')[0]}."
    _refuse_unknown(source, root, tuple(each.prefix.removeprefix(root) for each in family.encoders))
    return tuple(_text(source, each, given) for each in family.encoders)


def _text(source: OpenedFile, stored: StoredEncoder, given: Overrides) -> Component:
    prefix, name = stored.prefix, stored.component
    if not stored.open_clip:
        rules = CLIP
    elif stored.projected:
        rules = _projected(source, prefix)
    else:
        rules = open_clip_rules(_unused_layers(source, prefix, given), projection=False)
    tensors = rename(source.tensors, rules, source.path, prefix=prefix, strict=stored.open_clip)
    config = detect_text_encoder(tensors, open_clip=stored.open_clip, where=source.path)
    described = describe_text_encoder(config, pad_token=stored.pad_id)
    return _component(name, tensors, given.table(name, described), source)


def _projected(source: OpenedFile, prefix: str) -> KeyMap:
    """The key map of an OpenCLIP encoder with a projection; its width is taken from the last norm."""
    norm = f"{prefix}ln_final.weight"
    return open_clip_rules(
        projection=True, width=len(source.tensors[norm]) if norm in source.tensors else None
    )


LAYERS_OF_VIT_H = 24


def _unused_layers(source: OpenedFile, prefix: str, given: Overrides) -> range:
    """The number of unused layers: SD 2.x reads the layer before the last. Files converted from a diffusers
    folder may omit the last one and have 23 of OpenCLIP's 24 layers."""
    numbers = {
        int(part)
        for name in PrefixView(source.tensors, f"{prefix}transformer.resblocks.")
        if (part := name.split(".")[0]).isdecimal()
    }
    count = max(numbers, default=-1) + 1
    used = count if count == LAYERS_OF_VIT_H - 1 else count - 1
    return range(given.number("text_encoder", "num_hidden_layers", used), count)


def _refuse_unknown(source: OpenedFile, prefix: str, known: tuple[str, ...]) -> None:
    for name in PrefixView(source.tensors, prefix):
        if not name.startswith(known) and name.removesuffix(".weight").rpartition(".")[2] not in UNUSED:
            raise InvalidCheckpoint(
                f"'{source.path}' holds the tensor '{prefix}{name}', which is not part of a supported text"
                " encoder; it belongs to another kind of model"
            )


def _component(name: str, tensors: Tensors, config: Mapping[str, Any], source: OpenedFile) -> Component:
    identity = f"{source.stamp} {name} {json.dumps(config, sort_keys=True)}"
    return Component(
        name=name,
        config=config,
        tensors=tensors,
        files=(source.path,),
        fingerprint=hashlib.sha256(identity.encode()).hexdigest()[:16],
    )
