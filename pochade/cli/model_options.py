"""The options that select the model, its adapters, engine, device and precision."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pochade.errors import InvalidRequest
from pochade.request import Request

if TYPE_CHECKING:
    from pochade.pipeline import Lora, Pipeline


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select model, engine, device and precision."""
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="a checkpoint's file, a diffusers folder, or a name from 'pochade models list' (default: the"
        " starter in the package)",
    )
    add_models_option(parser)
    parser.add_argument(
        "--vae", metavar="PATH", help="an autoencoder (a path or a name) in place of the model's own"
    )
    parser.add_argument(
        "--prediction",
        metavar="NAME",
        help="what the model predicts, epsilon or v_prediction (default: detected)",
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu, cuda or mps")
    parser.add_argument("--precision", default="auto", metavar="NAME", help="auto, f32, bf16, f16 or int8")
    parser.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    parser.add_argument(
        "--memory-budget",
        metavar="SIZE",
        help=(
            "memory limit, such as 4GB; where needed, networks are loaded one after another and pictures"
            " decoded in parts"
        ),
    )
    add_threads_option(parser)
    parser.add_argument(
        "--compile", action="store_true", help="torch: compile the networks; slower to start, then faster"
    )


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """Add --models, the folders in which names are looked up."""
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="a folder of models, in place of $POCHADE_MODELS: Pochade's, A1111's or ComfyUI's",
    )


def add_threads_option(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of CPU threads (default: one per core, within a container's CPU quota)",
    )


def add_fold_option(group: "argparse._ArgumentGroup") -> None:
    """Add --fold-loras."""
    group.add_argument(
        "--fold-loras",
        action="store_true",
        help=(
            "merge LoRAs into the weights on OpenVINO too: 10 %% faster, but each new strength is"
            " compiled again"
        ),
    )


def check_folding(options: argparse.Namespace, requests: Sequence[Request]) -> None:
    """Raise InvalidRequest for --fold-loras if neither an option nor a prompt names a LoRA."""
    from pochade.prompts.extra_networks import extra_networks

    if not options.fold_loras or options.lora:
        return
    texts = [text for request in requests for text in request.texts().values()]
    if not any(extra_networks(text)[1] for text in texts):
        raise InvalidRequest(
            "--fold-loras needs a LoRA: give one as --lora, or as <lora:NAME:WEIGHT> in the prompt"
        )


# --- adapters and embeddings ------------------------------------------------------------------------


def add_addition_options(parser: argparse.ArgumentParser) -> None:
    """Add the option group; options that are not given add nothing."""
    group = parser.add_argument_group("adapters and embeddings")
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
        help=(
            "folder of the LoRAs that <lora:style:0.8> in a prompt refers to (default: the folders of models)"
        ),
    )
    add_fold_option(group)
    group.add_argument(
        "--embeddings-dir",
        type=Path,
        metavar="DIR",
        help="folder of embeddings, whose names are words in a prompt (default: the folders of models)",
    )


def with_additions(pipeline: "Pipeline", options: argparse.Namespace) -> "Pipeline":
    """Return the pipeline with the adapters of the options. Raises InvalidRequest or InvalidCheckpoint."""
    pipeline = replace(pipeline, fold_adapters=options.fold_loras)
    loras = [_lora(text) for text in options.lora]
    pipeline = pipeline.with_library(options.lora_dir, options.embeddings_dir)
    return pipeline.with_adapters(loras) if loras else pipeline


def _lora(text: str) -> "Lora":
    """'style.safetensors:0.8' -> the file or name, and the weight. The pipeline looks a name up."""
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
