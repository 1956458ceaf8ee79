"""Converts checkpoints between diffusers folders and single files."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pochade.atomic import hidden_neighbour, sync_folder, unwritable
from pochade.checkpoints import safetensors
from pochade.checkpoints.detect import (
    FileFormat,
    describe_pipeline,
    describe_scheduler,
    detect_autoencoder,
    detect_text_encoder,
    detect_unet,
)
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.keymaps import TEXT_ENCODER, inverted, rename
from pochade.checkpoints.overrides import METADATA_KEY
from pochade.checkpoints.read import format_of
from pochade.checkpoints.single_file_names import single_file_tensors
from pochade.checkpoints.write import write_json
from pochade.configs.read_json import autoencoder_config, text_encoder_config, unet_config
from pochade.errors import InvalidRequest, OutputError
from pochade.families.clip import tokenizers_of
from pochade.loading.networks import make_networks
from pochade.prompts.clip import clip_files, is_clip

Array = npt.NDArray[Any]

PRECISIONS: Mapping[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
SUFFIX = ".safetensors"

# The entries of a scheduler's file that define the noise schedule.
SCHEDULE = (
    "beta_schedule",
    "beta_start",
    "beta_end",
    "num_train_timesteps",
    "rescale_betas_zero_snr",
    "prediction_type",
)


@dataclass(frozen=True)
class ConvertProgress:
    """Bytes written so far, and in total."""

    done: int
    total: int


def convert(
    checkpoint: Checkpoint, target: Path | str, precision: str | None = None
) -> Iterator[ConvertProgress]:
    """Write a checkpoint as a single file if `target` ends in ".safetensors", else as a diffusers folder.

    Yields the progress. The target appears with the last step; closing the iterator earlier leaves nothing.
    precision: 'f32', 'f16' or 'bf16'; None keeps the type of each tensor.

    Raises InvalidCheckpoint if the model is incomplete, OutputError if the target exists, cannot be written,
    or
    cannot hold the model: a single file cannot hold a tokenizer other than CLIP's, and f16 cannot hold large
    numbers.
    """
    target = Path(target)
    if precision is not None and precision not in PRECISIONS:
        raise InvalidRequest(f"precision '{precision}' is unknown; one of: {', '.join(PRECISIONS)}")
    store_as = None if precision is None else PRECISIONS[precision]
    if target.exists():
        raise OutputError(f"'{target}' exists and is not replaced; name another, or remove it")
    format_of(checkpoint)  # raises unless it is Stable Diffusion
    make_networks(checkpoint, engine=None)  # checks that the model is complete, and fits its configuration
    if target.suffix == SUFFIX:
        yield from _write_file(checkpoint, target, store_as)
    else:
        yield from _write_folder(checkpoint, target, store_as)


# --- a single file ----------------------------------------------------------------------------------------


def _write_file(
    checkpoint: Checkpoint, target: Path, store_as: np.dtype[Any] | None
) -> Iterator[ConvertProgress]:
    if not all(is_clip(tokenizer) for tokenizer in tokenizers_of(checkpoint)):
        raise OutputError(
            f"'{checkpoint.name}' has a vocabulary of its own, which a single file cannot hold; write a"
            " folder: give a target without '.safetensors'"
        )
    family = format_of(checkpoint)
    tensors = single_file_tensors(checkpoint, family)
    total, done = _bytes(tensors, store_as), 0
    for written in safetensors.writing(target, tensors, _metadata(checkpoint, family), store_as=store_as):
        done += written
        yield ConvertProgress(done, total)


def _metadata(checkpoint: Checkpoint, family: FileFormat) -> dict[str, str]:
    """Metadata that identify the model for other programs, and the configuration that tensors do not show."""
    prediction = checkpoint.scheduler.get("prediction_type", "epsilon")
    predicts_v = prediction == "v_prediction"
    metadata = {
        "format": "pt",
        "modelspec.architecture": family.architecture_v if predicts_v else family.architecture,
        "modelspec.prediction_type": "v" if predicts_v else prediction,
        "modelspec.title": checkpoint.name,
    }
    config = _what_tensors_do_not_tell(checkpoint, family)
    return metadata | ({METADATA_KEY: json.dumps(config)} if config else {})


def _what_tensors_do_not_tell(checkpoint: Checkpoint, family: FileFormat) -> dict[str, Any]:
    """The configurations that differ from what would be detected from the tensors."""
    configs: dict[str, Any] = {}
    prediction = checkpoint.scheduler.get("prediction_type", "epsilon")
    unet, vae = checkpoint.unet, checkpoint.vae
    where = Path(checkpoint.name)
    detected = detect_unet(unet.tensors, family, prediction, where)
    if detected != unet_config(unet.config):
        configs["unet"] = _public(unet.config)
    if detect_autoencoder(vae.tensors, family, where) != autoencoder_config(vae.config):
        configs["vae"] = _public(vae.config)
    for stored, encoder in zip(family.encoders, checkpoint.text_encoders, strict=True):
        text = detect_text_encoder(encoder.tensors, open_clip=stored.open_clip, where=where)
        if text != text_encoder_config(encoder.config):
            configs[encoder.name] = _public(encoder.config)
    zero_snr = bool(checkpoint.scheduler.get("rescale_betas_zero_snr", False))
    standard = describe_scheduler(prediction, zero_snr=zero_snr)
    own = {name: checkpoint.scheduler[name] for name in SCHEDULE if name in checkpoint.scheduler}
    if any(standard[name] != value for name, value in own.items()):
        configs["scheduler"] = own
    zeros = "force_zeros_for_empty_prompt"
    expected = describe_pipeline(family, in_channels=4).get(zeros, True)
    if checkpoint.model_index.get(zeros, True) is not expected:
        configs["model_index"] = {zeros: checkpoint.model_index.get(zeros, True)}
    return configs


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without private entries, such as the folder that a model was loaded from."""
    return {
        name: value for name, value in config.items() if not name.startswith("_") or name == "_class_name"
    }


# --- a diffusers folder -----------------------------------------------------------------------------------


def _write_folder(
    checkpoint: Checkpoint, target: Path, store_as: np.dtype[Any] | None
) -> Iterator[ConvertProgress]:
    parts = [
        (checkpoint.unet, "diffusion_pytorch_model.safetensors", checkpoint.unet.tensors),
        (checkpoint.vae, "diffusion_pytorch_model.safetensors", checkpoint.vae.tensors),
    ]
    for encoder in checkpoint.text_encoders:
        # With the prefix that versions of transformers before 5.6 need, and later ones understand.
        named = rename(encoder.tensors, inverted(TEXT_ENCODER), encoder.files[0])
        parts.append((encoder, "model.safetensors", named))
    total, done = sum(_bytes(tensors, store_as) for _, _, tensors in parts), 0
    new = hidden_neighbour(target.absolute())
    try:
        new.mkdir(parents=True)
        for component, name, tensors in parts:
            (new / component.name).mkdir()
            write_json(new / component.name / "config.json", _public(component.config))
            path = new / component.name / name
            for written in safetensors.writing(path, tensors, {"format": "pt"}, store_as=store_as):
                done += written
                yield ConvertProgress(done, total)
        _write_tokenizers(checkpoint, new)
        (new / "scheduler").mkdir()
        write_json(new / "scheduler" / "scheduler_config.json", checkpoint.scheduler)
        write_json(new / "model_index.json", _index(checkpoint))
        new.rename(target)
        sync_folder(target.absolute().parent)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(new)


def _write_tokenizers(checkpoint: Checkpoint, new: Path) -> None:
    names = [encoder.name.replace("text_encoder", "tokenizer") for encoder in checkpoint.text_encoders]
    for i, (name, folder) in enumerate(zip(names, checkpoint.tokenizers, strict=True)):
        if folder is not None:
            kept = [path for path in folder.iterdir() if path.suffix in (".json", ".txt")]
            (new / name).mkdir()
            for path in kept:
                shutil.copyfile(path, new / name / path.name)
        elif i < len(checkpoint.pad_ids):
            (new / name).mkdir()
            for file, content in clip_files(checkpoint.pad_ids[i]).items():
                (new / name / file).write_bytes(content)


def _index(checkpoint: Checkpoint) -> dict[str, Any]:
    """The content of `model_index.json`, without components that are not written."""
    index = describe_pipeline(format_of(checkpoint), checkpoint.unet.config.get("in_channels", 4))
    own = checkpoint.model_index.items()
    index |= {name: value for name, value in own if not isinstance(value, list) and name != "_name_or_path"}
    scheduler = checkpoint.scheduler.get("_class_name", "EulerDiscreteScheduler")
    return index | {"scheduler": ["diffusers", scheduler]}


def _bytes(tensors: Mapping[str, Array], store_as: np.dtype[Any] | None) -> int:
    """The size of the tensors in a file."""
    size = 0
    for tensor in tensors.values():
        narrow = store_as is not None and tensor.dtype in safetensors.FLOATS
        size += tensor.size * (store_as if narrow and store_as is not None else tensor.dtype).itemsize
    return size
