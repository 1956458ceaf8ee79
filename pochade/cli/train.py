"""`pochade train`: from packages of licensed pictures, or your own, to a model."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli import corpus, train_adapters
from pochade.cli.train_options import loop_options, prepare, require_torch, run_arguments, run_places, show
from pochade.errors import InvalidRequest

if TYPE_CHECKING:
    from pochade.training.finetune import Tuning
    from pochade.training.starter import Run

EXAMPLES = """examples:
  the starter, from nothing:
    pochade train corpus corpus/
    pochade train crops corpus/ run/
    pochade train autoencoder corpus/ run/
    pochade train text corpus/ run/
    pochade train diffusion corpus/ run/
    pochade train refined corpus/ run/
    pochade train export corpus/ run/ my-model/

  a model of yours, on pictures of yours:
    pochade train corpus my-pictures/ --from photos/
    pochade train finetune my-pictures/ my-run/ --model sd15/ --output my-model/

  what goes beside a model of yours, which stays as it is:
    pochade train controlnet my-pictures/ canny-run/ --model sd15/ --condition canny
    pochade train embedding my-cat/ cat-run/ --model sd15/ --token my-cat --initial "cat"

Each piece goes on where it was stopped. --minutes 9 stops it after that time; torchrun -m pochade train ...
uses several GPUs. runs/starter.sh makes the model in the package.
"""

STEPS = {
    "crops": 4000,
    "autoencoder": 2400,
    "text": 800,
    "diffusion": 14000,
    "refined": 3000,
    "adversary": 1500,
}
TEXTS = {
    "crops": "train the autoencoder on parts of pictures",
    "autoencoder": "train it further, on whole pictures",
    "text": "teach the text encoder to tell captions apart",
    "diffusion": "train text encoder and UNet on its latents",
    "refined": "train the autoencoder further, for nearly the same latents",
    "adversary": "make the decoder's pictures crisper, against an adversary (optional)",
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train the starter from scratch, or a model on your own pictures (needs pochade[train])",
        description="Make a training set, train the networks, write a model folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pieces = parser.add_subparsers(required=True, metavar="PIECE")
    corpus.add_parser(pieces)
    for name, text in TEXTS.items():
        piece = pieces.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        run_arguments(piece)
        loop_options(piece, STEPS[name])
        piece.add_argument(
            "--sample-every",
            type=int,
            default=0,
            metavar="STEPS",
            help="write a sheet of pictures into the piece's folder every so many steps",
        )
        piece.set_defaults(run=_train, piece=name)
    export = pieces.add_parser("export", help="write a diffusers folder")
    run_places(export)
    export.add_argument("output", type=Path, help="where the model goes, as a diffusers folder")
    export.set_defaults(run=_export)
    adopt = pieces.add_parser(
        "adopt",
        help="begin a run from a finished model of the starter's sizes, to train it further",
        description="Write a run's first state from a model; 'pochade train diffusion' goes on from there.",
    )
    run_places(adopt)
    adopt.add_argument("--model", type=Path, help="a diffusers folder (default: the starter in the package)")
    adopt.add_argument(
        "--step", type=int, default=31000, help="how many steps it was trained for (default: %(default)s)"
    )
    adopt.set_defaults(run=_adopt)
    finetune = pieces.add_parser(
        "finetune",
        help="train a model on your own pictures",
        description="Train a model that exists on the pictures of a corpus; write a diffusers folder.",
    )
    run_arguments(finetune)
    loop_options(finetune, steps=1000, batch=4)
    finetune.add_argument("--model", type=Path, help="a diffusers folder (default: the starter)")
    finetune.add_argument("--output", type=Path, required=True, help="where the trained model goes")
    finetune.add_argument("--rate", type=float, default=1e-5, help="learning rate (default: %(default)g)")
    finetune.add_argument("--only-unet", action="store_true", help="leave the text encoder as it is")
    finetune.set_defaults(run=_finetune)
    train_adapters.add_parsers(pieces)
    pack = pieces.add_parser(
        "pack",
        help="write a run's averaged weights small enough to travel to another machine",
        description="Write files below 16 MB from which a run goes on elsewhere, with a new optimizer.",
    )
    pack.add_argument("folder", type=Path, help="the folder of one piece, such as run/diffusion")
    pack.add_argument("output", type=Path, help="where the files go; copy them into that folder over there")
    pack.set_defaults(run=_pack)


def _train(options: argparse.Namespace) -> int:
    prepare(options)
    from pochade.training.starter import PIECES

    sizes = {} if options.batch is None else {"batch": options.batch}
    piece = PIECES[options.piece](replace(_opened(options), device=options.device), **sizes)
    show(
        piece.train(
            options.steps,
            minutes=options.minutes,
            accumulation=options.accumulation,
            sample_every=options.sample_every,
        ),
        options.steps,
    )
    return 0


def _finetune(options: argparse.Namespace) -> int:
    prepare(options)
    from pochade.training.finetune import export_finetuned, finetuning

    tuning = _tuning(options)
    piece = finetuning(tuning, batch=options.batch, rate=options.rate)
    done = show(
        piece.train(options.steps, minutes=options.minutes, accumulation=options.accumulation),
        options.steps,
    )
    if done >= options.steps:
        export_finetuned(tuning, options.output)
        print(options.output)
    return 0


def _tuning(options: argparse.Namespace) -> "Tuning":
    from pochade.training.corpus import load
    from pochade.training.finetune import Tuning

    return Tuning(
        model=options.model,
        corpus=load(options.corpus),
        folder=options.folder,
        device=options.device,
        with_text_encoder=not options.only_unet,
    )


def _export(options: argparse.Namespace) -> int:
    require_torch()
    from pochade.training.starter import write_model

    write_model(_opened(options), options.output)
    print(options.output)
    return 0


def _adopt(options: argparse.Namespace) -> int:
    require_torch()
    from pochade.settings import starter_folder
    from pochade.training.starter import adopt

    if options.step < 0:
        raise InvalidRequest(f"--step {options.step} is too small; 0 is the least")
    adopt(_opened(options), options.model or starter_folder(), options.step)
    print(options.folder)
    return 0


def _pack(options: argparse.Namespace) -> int:
    require_torch()
    from pochade.training.loop import write_travel

    for path in write_travel(options.folder, options.output):
        print(path)
    return 0


def _opened(options: argparse.Namespace) -> "Run":
    from pochade.training.corpus import load
    from pochade.training.starter import Run

    return Run(corpus=load(options.corpus), folder=options.folder)
