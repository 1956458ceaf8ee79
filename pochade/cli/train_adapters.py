"""`pochade train controlnet` and `pochade train embedding`: additions to a model, which stays as it is."""

import argparse
from pathlib import Path
from typing import Any

from pochade.cli.train_options import loop_options, prepare, run_arguments, show


def add_parsers(pieces: Any) -> None:
    _add_controlnet(pieces)
    _add_embedding(pieces)


def _add_controlnet(pieces: Any) -> None:
    parser = pieces.add_parser(
        "controlnet",
        help="train a ControlNet for a model",
        description="Train a ControlNet on pictures and what a preprocessor makes of them.",
    )
    run_arguments(parser, "a training set, or a folder of pictures with a text file each")
    loop_options(parser, steps=2000, batch=4)
    parser.add_argument("--model", type=Path, help="a diffusers folder or a file (default: the starter)")
    parser.add_argument(
        "--condition", default="canny", help="canny, scribble, invert or tile (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=1e-5, help="learning rate (default: %(default)g)")
    parser.add_argument(
        "--styles",
        metavar="NAMES",
        help="only pictures of these styles of a training set, with commas between them",
    )
    parser.add_argument(
        "--scenes",
        type=int,
        default=0,
        metavar="N",
        help="so many composed pictures besides, of a training set of cut-outs (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, help="where the ControlNet goes (default: FOLDER/controlnet)")
    parser.set_defaults(run=_controlnet)


def _controlnet(options: argparse.Namespace) -> int:
    prepare(options)
    from pochade.training.control import ControlNetTask, controlling, export_controlnet, training_pictures
    from pochade.training.finetune import Tuning

    control = ControlNetTask(condition=options.condition, scenes=options.scenes)
    corpus = training_pictures(options.corpus, options.folder, options.styles)
    tuning = Tuning(model=options.model, corpus=corpus, folder=options.folder, device=options.device)
    piece = controlling(tuning, control, batch=options.batch, rate=options.rate)
    show(
        piece.train(options.steps, minutes=options.minutes, accumulation=options.accumulation),
        options.steps,
    )
    output = options.folder / "controlnet" if options.output is None else options.output
    export_controlnet(tuning, output)
    print(output)
    return 0


def _add_embedding(pieces: Any) -> None:
    parser = pieces.add_parser(
        "embedding",
        help="teach a model a new word (textual inversion)",
        description="Learn the vectors of a new word from a few pictures; the model stays as it is.",
    )
    run_arguments(parser, "a folder of pictures; a text file beside one (cat.jpg, cat.txt) is its caption")
    loop_options(parser, steps=500, batch=4)
    parser.add_argument("--model", type=Path, help="a diffusers folder or a file (default: the starter)")
    parser.add_argument("--token", required=True, metavar="NAME", help="how the word is written in prompts")
    parser.add_argument("--initial", required=True, metavar="WORD", help="what it is most like")
    parser.add_argument(
        "--vectors", type=int, metavar="N", help="how many tokens it takes (default: as WORD has)"
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="what is said of the pictures, with {name} and, if they have them, {caption}; may be repeated",
    )
    parser.add_argument("--rate", type=float, default=5e-3, help="learning rate (default: %(default)g)")
    parser.add_argument(
        "--output", type=Path, help="the word's file (default: FOLDER/embeddings/NAME.safetensors)"
    )
    parser.set_defaults(run=_embedding)


def _embedding(options: argparse.Namespace) -> int:
    prepare(options)
    from pochade.training.inversion import Inversion, Word, export_embedding, inverting, open_folder

    word = Word(
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
    piece = inverting(inverted, batch=options.batch, rate=options.rate)
    show(
        piece.train(options.steps, minutes=options.minutes, accumulation=options.accumulation),
        options.steps,
    )
    output = options.output
    if output is None:
        output = options.folder / "embeddings" / f"{word.token}.safetensors"  # apart from the states
    export_embedding(options.folder, word.token, output)
    print(output)
    return 0
