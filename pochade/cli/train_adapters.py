"""`pochade train controlnet` and `pochade train embedding`: train adapters for a model."""

import argparse
from pathlib import Path
from typing import Any

from pochade.cli.train_options import add_loop_options, add_run_arguments, prepare, show


def add_parsers(subcommands: Any) -> None:
    _add_controlnet(subcommands)
    _add_embedding(subcommands)


def _add_controlnet(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "controlnet",
        help="train a ControlNet for a model",
        description="Train a ControlNet on pictures and the output of a preprocessor.",
    )
    add_run_arguments(parser, "a training set, or a folder of pictures with a text file each")
    add_loop_options(parser, steps=2000, batch=4)
    parser.add_argument("--model", type=Path, help="a diffusers folder or a file (default: the starter)")
    parser.add_argument(
        "--condition", default="canny", help="canny, scribble, invert or tile (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=1e-5, help="learning rate (default: %(default)g)")
    parser.add_argument(
        "--styles",
        metavar="NAMES",
        help="use only pictures of these styles of a training set, separated by commas",
    )
    parser.add_argument(
        "--scenes",
        type=int,
        default=0,
        metavar="N",
        help="number of composed pictures to add, from a training set of cut-outs (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, help="folder to write the ControlNet to (default: FOLDER/controlnet)"
    )
    parser.set_defaults(run=_controlnet)


def _controlnet(options: argparse.Namespace) -> int:
    prepare(options)
    from pochade.training.controlnet_training import (
        ControlNetTask,
        controlnet_stage,
        export_controlnet,
        training_pictures,
    )
    from pochade.training.finetune import FineTuning

    control = ControlNetTask(condition=options.condition, scenes=options.scenes)
    corpus = training_pictures(options.corpus, options.folder, options.styles)
    tuning = FineTuning(model=options.model, corpus=corpus, folder=options.folder, device=options.device)
    stage = controlnet_stage(tuning, control, batch=options.batch, rate=options.rate)
    show(
        stage.train(options.steps, minutes=options.minutes, accumulation=options.accumulation),
        options.steps,
    )
    output = options.folder / "controlnet" if options.output is None else options.output
    export_controlnet(tuning, output)
    print(output)
    return 0


def _add_embedding(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "embedding",
        help="teach a model a new word (textual inversion)",
        description="Learn the vectors of a new word from a few pictures; the model is unchanged.",
    )
    add_run_arguments(
        parser, "a folder of pictures; a text file of the same name (cat.jpg, cat.txt) is a caption"
    )
    add_loop_options(parser, steps=500, batch=4)
    parser.add_argument("--model", type=Path, help="a diffusers folder or a file (default: the starter)")
    parser.add_argument("--token", required=True, metavar="NAME", help="how the word is written in prompts")
    parser.add_argument("--initial", required=True, metavar="WORD", help="an existing word that it resembles")
    parser.add_argument(
        "--vectors", type=int, metavar="N", help="number of its tokens (default: as many as WORD has)"
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="caption template with {name} and, if the pictures have captions, {caption}; may be repeated",
    )
    parser.add_argument("--rate", type=float, default=5e-3, help="learning rate (default: %(default)g)")
    parser.add_argument(
        "--output",
        type=Path,
        help="file to write the embedding to (default: FOLDER/embeddings/NAME.safetensors)",
    )
    parser.set_defaults(run=_embedding)


def _embedding(options: argparse.Namespace) -> int:
    prepare(options)
    from pochade.training.textual_inversion import (
        Inversion,
        NewWord,
        export_embedding,
        inversion_stage,
        open_folder,
    )

    word = NewWord(
        token=options.token,
        initial=options.initial,
        vectors=options.vectors,
        templates=tuple(options.template or ()),
    )
    inverted = Inversion(
        word=word,
        pictures=open_folder(options.corpus),
        model=options.model,
        folder=options.folder,
        device=options.device,
    )
    stage = inversion_stage(inverted, batch=options.batch, rate=options.rate)
    show(
        stage.train(options.steps, minutes=options.minutes, accumulation=options.accumulation),
        options.steps,
    )
    output = options.output
    if output is None:
        output = options.folder / "embeddings" / f"{word.token}.safetensors"  # separate from the states
    export_embedding(options.folder, word.token, output)
    print(output)
    return 0
