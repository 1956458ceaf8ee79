"""`pochade train`: builds a training set and trains models."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli import corpus, train_adapters
from pochade.cli.train_options import (
    add_loop_options,
    add_run_arguments,
    add_run_folders,
    prepare,
    require_torch,
    show,
)
from pochade.errors import InvalidRequest

if TYPE_CHECKING:
    from pochade.training.finetune import FineTuning
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

  adapters for a model of yours, which is not changed itself:
    pochade train controlnet my-pictures/ canny-run/ --model sd15/ --condition canny
    pochade train embedding my-cat/ cat-run/ --model sd15/ --token my-cat --initial "cat"

Every stage resumes where it stopped. --minutes 9 stops it after that time; torchrun -m pochade train ...
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
    "autoencoder": "train the autoencoder further, on whole pictures",
    "text": "train the text encoder to distinguish captions",
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
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    corpus.add_parser(subcommands)
    for name, text in TEXTS.items():
        stage = subcommands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_run_arguments(stage)
        _add_edition(stage)
        add_loop_options(stage, STEPS[name])
        stage.add_argument(
            "--sample-every",
            type=int,
            default=0,
            metavar="STEPS",
            help="write a contact sheet into the stage's folder every N steps",
        )
        stage.set_defaults(run=_train, stage=name)
    export = subcommands.add_parser("export", help="write a diffusers folder")
    add_run_folders(export)
    _add_edition(export)
    export.add_argument("output", type=Path, help="folder to write the model to, in diffusers layout")
    export.set_defaults(run=_export)
    adopt = subcommands.add_parser(
        "adopt",
        help="begin a run from a finished model of the starter's sizes, to train it further",
        description="Write a run's first state from a model; 'pochade train diffusion' goes on from there.",
    )
    add_run_folders(adopt)
    _add_edition(adopt)
    adopt.add_argument("--model", type=Path, help="a diffusers folder (default: the starter in the package)")
    adopt.add_argument(
        "--step", type=int, default=31000, help="how many steps it was trained for (default: %(default)s)"
    )
    adopt.set_defaults(run=_adopt)
    finetune = subcommands.add_parser(
        "finetune",
        help="train a model on your own pictures",
        description="Train an existing model on the pictures of a corpus; write a diffusers folder.",
    )
    add_run_arguments(finetune)
    add_loop_options(finetune, steps=1000, batch=4)
    finetune.add_argument("--model", type=Path, help="a diffusers folder (default: the starter)")
    finetune.add_argument("--output", type=Path, required=True, help="folder to write the trained model to")
    finetune.add_argument("--rate", type=float, default=1e-5, help="learning rate (default: %(default)g)")
    finetune.add_argument("--only-unet", action="store_true", help="do not train the text encoder")
    finetune.set_defaults(run=_finetune)
    train_adapters.add_parsers(subcommands)
    pack = subcommands.add_parser(
        "pack",
        help="export a run's averaged weights in small files for another machine",
        description="Write files below 16 MB from which a run resumes elsewhere, with a new optimizer.",
    )
    pack.add_argument("folder", type=Path, help="the folder of one stage, such as run/diffusion")
    pack.add_argument(
        "output",
        type=Path,
        help="folder to write the files to; copy them into the stage's folder on the other machine",
    )
    pack.set_defaults(run=_pack)


def _add_edition(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--edition",
        type=int,
        choices=(1, 2),
        default=1,
        help="of the starter: 1 draws 128 px, 2 draws 256 px (default: %(default)s)",
    )


def _train(options: argparse.Namespace) -> int:
    prepare(options)
    from pochade.training.starter import STAGES

    sizes = {} if options.batch is None else {"batch": options.batch}
    stage = STAGES[options.stage](replace(_opened(options), device=options.device), **sizes)
    show(
        stage.train(
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
    from pochade.training.finetune import export_finetuned, finetuning_stage

    tuning = _tuning(options)
    stage = finetuning_stage(tuning, batch=options.batch, rate=options.rate)
    done = show(
        stage.train(options.steps, minutes=options.minutes, accumulation=options.accumulation),
        options.steps,
    )
    if done >= options.steps:
        export_finetuned(tuning, options.output)
        print(options.output)
    return 0


def _tuning(options: argparse.Namespace) -> "FineTuning":
    from pochade.training.corpus import load
    from pochade.training.finetune import FineTuning

    return FineTuning(
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
        raise InvalidRequest(f"--step is {options.step}; it must be at least 0")
    adopt(_opened(options), options.model or starter_folder(), options.step)
    print(options.folder)
    return 0


def _pack(options: argparse.Namespace) -> int:
    require_torch()
    from pochade.training.loop import write_portable

    for path in write_portable(options.folder, options.output):
        print(path)
    return 0


def _opened(options: argparse.Namespace) -> "Run":
    from pochade.training.corpus import load
    from pochade.training.starter import Run
    from pochade.training.starter_config import EDITIONS

    return Run(corpus=load(options.corpus), folder=options.folder, config=EDITIONS[options.edition])
