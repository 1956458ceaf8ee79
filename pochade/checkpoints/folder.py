"""Reads diffusers folders: `model_index.json` and one folder for each component."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.checkpoints.detect import REFINER, SD1, SD2, XL, FileFormat
from pochade.checkpoints.few_steps import FewSteps, few_steps_of_folder
from pochade.checkpoints.fingerprint import fingerprint
from pochade.checkpoints.json_files import read_table
from pochade.checkpoints.keymaps import AUTOENCODER, TEXT_ENCODER, UNET, KeyMap, rename
from pochade.checkpoints.prediction import check_scheduler
from pochade.checkpoints.weight_files import open_weights
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]

KEY_MAPS: Mapping[str, KeyMap] = {
    "unet": UNET,
    "vae": AUTOENCODER,
    "text_encoder": TEXT_ENCODER,
    "text_encoder_2": TEXT_ENCODER,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """One network of a checkpoint: its configuration as stored, and its mapped tensors.

    tensors:     canonical name (see `keymaps`) -> array, created at access.
    files:       the weight files that were used.
    fingerprint: changes when configuration or weights do (see `pochade.checkpoints.fingerprint`).
    """

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Array]
    files: tuple[Path, ...]
    fingerprint: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """The content of a model's folder or file; no networks are built.

    name:        for display: the name of the folder, or of the file without its suffix.
    family:      the label of its family (`pochade.families`).
    unet:        the denoising network, not necessarily a UNet.
    text_encoders: SDXL has two. Its refiner has one, which keeps the name of the second.
    tokenizers:  one for each text encoder: the folder with its vocabulary; None = that of the family (CLIP's,
                 padded with the id in `pad_ids`).
    prediction_reason: how the prediction type was detected.
    few_steps:   its settings if it was distilled for few steps.
    """

    name: str
    family: str
    model_index: Mapping[str, Any]
    unet: Component
    vae: Component
    text_encoders: tuple[Component, ...]
    scheduler: Mapping[str, Any]
    tokenizers: tuple[Path | None, ...]
    pad_ids: tuple[int, ...] = ()
    prediction_reason: str = "as in scheduler_config.json"
    few_steps: FewSteps | None = None

    @property
    def text_encoder(self) -> Component:
        """The first or only text encoder."""
        return self.text_encoders[0]

    @property
    def text_encoder_2(self) -> Component | None:
        """The second text encoder, if there is one."""
        return self.text_encoders[1] if len(self.text_encoders) > 1 else None

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer of the first text encoder."""
        return self.tokenizers[0]

    @property
    def tokenizer_2(self) -> Path | None:
        """The tokenizer of the second text encoder, if there is one."""
        return self.tokenizers[1] if len(self.tokenizers) > 1 else None


def read_folder(folder: Path | str, variant: str | None = None, prediction: str | None = None) -> Checkpoint:
    """Read a diffusers folder. Weights are mapped, not read.

    variant: the variant of the weights, such as "fp16"; None prefers the plain one.
    prediction: what the UNet predicts, overriding its scheduler configuration.

    Raises InvalidCheckpoint if a file is missing, damaged or not supported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        fault = "is a file, not a model folder" if folder.exists() else "does not exist; check the path"
        raise InvalidCheckpoint(f"'{folder}' {fault}")
    if not (folder / "model_index.json").is_file():
        raise InvalidCheckpoint(
            f"'{folder}' has no model_index.json, so it is not a diffusers folder; name the folder that holds"
            " model_index.json, unet and vae"
        )
    index = read_table(folder / "model_index.json")
    plain, second = is_listed(index, "text_encoder"), is_listed(index, "text_encoder_2")
    first, words = (
        ("text_encoder_2", "tokenizer_2") if second and not plain else ("text_encoder", "tokenizer")
    )
    encoders = [(first, words), *([("text_encoder_2", "tokenizer_2")] if plain and second else [])]
    unet = _component(folder, index, "unet", variant)
    scheduler = read_table(_subfolder(folder, index, "scheduler") / "scheduler_config.json")
    if prediction is not None:
        scheduler = {**scheduler, "prediction_type": prediction}
    check_scheduler(scheduler, folder / "scheduler" / "scheduler_config.json")
    vae = _component(folder, index, "vae", variant)
    texts = tuple(_component(folder, index, name, variant) for name, _ in encoders)
    family = format_of_configs(unet.config, [text.config for text in texts])
    return Checkpoint(
        name=folder_name(folder),
        family=family.label,
        model_index=index,
        unet=unet,
        vae=vae,
        text_encoders=texts,
        scheduler=scheduler,
        tokenizers=tuple(_subfolder(folder, index, name) for _, name in encoders),
        prediction_reason="as in scheduler_config.json" if prediction is None else "as requested",
        few_steps=few_steps_of_folder(folder_name(folder), index, unet.config, scheduler, family),
    )


def format_of_configs(unet: Mapping[str, Any], encoders: Sequence[Mapping[str, Any]]) -> FileFormat:
    """Detect the family of a diffusers folder from the configurations of its UNet and text encoders."""
    if len(encoders) > 1:
        return XL
    if unet.get("addition_embed_type") == "text_time":
        return REFINER
    return SD2 if encoders[0].get("hidden_act") == "gelu" else SD1


def read_component(
    folder: Path | str, name: str, rules: KeyMap = (), variant: str | None = None
) -> Component:
    """Read one component: `config.json` and the weights in the same folder, renamed by the key map `rules`.

    Raises InvalidCheckpoint as `read_folder` does.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidCheckpoint(f"the component '{name}' is missing: there is no folder '{folder}'")
    config = read_table(folder / "config.json")
    weights = open_weights(folder, variant)
    return Component(
        name=name,
        config=config,
        tensors=rename(weights.tensors, rules, where=folder),
        files=tuple(file.header.path for file in weights.files),
        fingerprint=fingerprint(weights.files, extra=json.dumps(config, sort_keys=True).encode()),
    )


def _component(folder: Path, index: Mapping[str, Any], name: str, variant: str | None) -> Component:
    return read_component(_subfolder(folder, index, name), name, KEY_MAPS[name], variant)


def _subfolder(folder: Path, index: Mapping[str, Any], name: str) -> Path:
    if not is_listed(index, name):
        raise InvalidCheckpoint(
            f"'{folder}' is a {index.get('_class_name', 'model')} without the component '{name}';"
            " only complete Stable Diffusion 1.x, 2.x and XL models are supported"
        )
    if not (folder / name).is_dir():
        raise InvalidCheckpoint(
            f"'{folder}' lists the component '{name}' but has no such folder; download all files of the model"
        )
    return folder / name


def is_listed(index: Mapping[str, Any], name: str) -> bool:
    """Return whether the index lists a component, [library, class]; [null, null] means that it is absent."""
    entry = index.get(name)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def folder_name(folder: Path) -> str:
    """Return the folder's name, or the model's name in a Hugging Face cache
    (`models--OWNER--NAME/snapshots/COMMIT`)."""
    folder = folder.resolve()
    cached = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    return folder.parent.parent.name.rsplit("--", 1)[-1] if cached else folder.name
