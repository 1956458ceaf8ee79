"""What a file of tensors or a diffusers folder is, in two words, from names and shapes: no weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pochade.checkpoints.few_steps import FewSteps, few_steps_of_folder, find_few_steps, titles_of
from pochade.checkpoints.folder import folder_name, format_of_configs, is_listed
from pochade.checkpoints.grids import are_grids
from pochade.checkpoints.json_files import read_table
from pochade.checkpoints.kinds import AVERAGE, BEGINNINGS, OTHER, UNET, find_beginning, find_family
from pochade.checkpoints.overrides import Overrides
from pochade.checkpoints.prediction import beside, check_scheduler
from pochade.checkpoints.readers import reader_of_file, reader_of_folder
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint

MODEL, UNREADABLE = "model", "unreadable"
PARTS = tuple(dict.fromkeys(kind for _, kind, _ in BEGINNINGS if kind != OTHER))
KINDS = (MODEL, *PARTS, OTHER, UNREADABLE)
FIRST_LAYER = f"{UNET}input_blocks.0.0.weight"
TOLD_GUIDANCE = f"{UNET}time_embed.cond_proj.weight"
INPAINTING_CHANNELS = 9


@dataclass(frozen=True)
class Contents:
    """kind: one of KINDS. family: of a model, such as "SD 1.x"; else why it is none, or nothing.

    few_steps: of a model that was made for them.
    """

    kind: str
    family: str = ""
    few_steps: FewSteps | None = None


def contents_of(path: Path) -> Contents:
    """Of a file, or of a diffusers folder. Reads headers and configurations.

    What is damaged, or holds no tensors at all, is UNREADABLE; nothing is raised.
    """
    return _of_folder(path) if path.is_dir() else _of_file(path)


def lacks(index: Mapping[str, Any]) -> str:
    """The first part that a `model_index.json` lacks to be Stable Diffusion 1.x, 2.x or XL; or nothing."""
    refines = is_listed(index, "text_encoder_2") and not is_listed(index, "text_encoder")
    words = ("text_encoder_2", "tokenizer_2") if refines else ("text_encoder", "tokenizer")
    parts = ("unet", "vae", *words, "scheduler")
    return next((part for part in parts if not is_listed(index, part)), "")


# --- inside -----------------------------------------------------------------------------------------------


def _of_file(path: Path) -> Contents:
    try:
        tensors = open_tensors(path)
    except InvalidCheckpoint as error:
        return Contents(UNREADABLE, str(error).partition(": ")[2])
    reader = reader_of_file(tensors)
    if reader is not None:
        return Contents(MODEL, reader.label, reader.few_steps(path, tensors.metadata))
    if any(name.startswith((UNET, AVERAGE)) for name in tensors):
        try:
            family = find_family(tensors, path)
            beside(path)
        except InvalidCheckpoint as error:
            return Contents(OTHER, str(error).partition(". If")[0].rpartition(": ")[2])
        first = tensors.header.entries.get(FIRST_LAYER)
        channels = first.shape[1] if first is not None and len(first.shape) > 1 else 0
        scheduler = _own_configuration(tensors.metadata, path).get("scheduler", {})
        few_steps = find_few_steps(
            told_guidance=TOLD_GUIDANCE in tensors,
            classes=(scheduler.get("_class_name"),),
            titles=titles_of(tensors.metadata),
            name=path.stem,
            family=family,
        )
        inpainting = channels == INPAINTING_CHANNELS
        return Contents(MODEL, _described(family.label, inpainting=inpainting), few_steps)
    if are_grids(tensors.metadata):  # whose names are a model's
        return Contents(OTHER, "8-bit grids of a model")
    kind, what = find_beginning(tensors)
    return Contents(kind, what if kind == OTHER else "")


def _of_folder(folder: Path) -> Contents:
    try:
        index = read_table(folder / "model_index.json")
        reader = reader_of_folder(index)
        if reader is not None:
            return Contents(MODEL, reader.label, reader.few_steps(folder, {}))
        lacking = lacks(index)
        if lacking:
            return Contents(OTHER, f"{index.get('_class_name', 'a pipeline')} without {lacking}")
        unet = read_table(folder / "unet" / "config.json")
        refines = not is_listed(index, "text_encoder")
        encoder = {} if refines else read_table(folder / "text_encoder" / "config.json")
        scheduler = read_table(folder / "scheduler" / "scheduler_config.json")
    except InvalidCheckpoint as error:
        return Contents(UNREADABLE, str(error))
    try:
        check_scheduler(scheduler, folder.name)
    except InvalidCheckpoint as error:
        return Contents(OTHER, str(error).partition(". If")[0])
    second = is_listed(index, "text_encoder_2") and not refines
    family = format_of_configs(unet, [encoder, *([{}] if second else [])])
    inpainting = unet.get("in_channels") == INPAINTING_CHANNELS
    few_steps = few_steps_of_folder(folder_name(folder), index, unet, scheduler, family)
    return Contents(MODEL, _described(family.label, inpainting=inpainting), few_steps)


def _own_configuration(metadata: Mapping[str, str], path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        return Overrides.from_metadata(metadata, path).tables
    except InvalidCheckpoint:  # says so when it is loaded
        return {}


def _described(label: str, *, inpainting: bool) -> str:
    return f"{label}, inpainting" if inpainting else label
