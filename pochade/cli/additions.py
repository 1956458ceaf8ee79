"""The options of `pochade draw` that add to the model: adapters and embeddings."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pochade.errors import InvalidRequest

if TYPE_CHECKING:
    from pochade.pipeline import Lora, Pipeline
    from pochade.request import Request


def add_addition_options(parser: argparse.ArgumentParser) -> None:
    """A group of options; what is not given adds nothing."""
    group = parser.add_argument_group("adapters and new words")
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="an adapter (LoRA and its relatives): style.safetensors:0.8, or its name; may be repeated",
    )
    group.add_argument(
        "--lora-dir",
        type=Path,
        metavar="DIR",
        help="where <lora:style:0.8> in a prompt finds its file (default: the folders of models)",
    )
    add_fold_option(group)
    group.add_argument(
        "--embeddings-dir",
        type=Path,
        metavar="DIR",
        help="files whose names are words in a prompt (default: the folders of models)",
    )


def add_fold_option(group: "argparse._ArgumentGroup") -> None:
    """--fold-loras."""
    group.add_argument(
        "--fold-loras",
        action="store_true",
        help="add LoRAs to the weights on OpenVINO too: a tenth faster, but each strength is compiled anew",
    )


def with_additions(pipeline: "Pipeline", options: argparse.Namespace) -> "Pipeline":
    """The pipeline with what the options ask for. Raises InvalidRequest and InvalidCheckpoint."""
    pipeline = replace(pipeline, fold_adapters=options.fold_loras)
    loras = [_lora(text) for text in options.lora]
    pipeline = pipeline.with_library(options.lora_dir, options.embeddings_dir)
    return pipeline.with_adapters(loras) if loras else pipeline


def check_folding(options: argparse.Namespace, requests: "Sequence[Request]") -> None:
    """Raises InvalidRequest for --fold-loras where neither an option nor a prompt names a LoRA."""
    from pochade.prompts.extra_networks import extra_networks

    if not options.fold_loras or options.lora:
        return
    texts = [text for request in requests for text in request.texts().values()]
    if not any(extra_networks(text)[1] for text in texts):
        raise InvalidRequest(
            "--fold-loras needs a LoRA: give one as --lora, or as <lora:NAME:WEIGHT> in the prompt"
        )


def _lora(text: str) -> "Lora":
    """'style.safetensors:0.8' -> the file or the name, and its weight. The pipeline looks a name up."""
    from pochade.pipeline import Lora

    name, colon, weight = text.rpartition(":")
    if not (colon and name and _is_number(weight)):
        name, weight = text, "1"
    return Lora(Path(name), float(weight))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
