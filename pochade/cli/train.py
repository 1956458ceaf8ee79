"""`pochade train`: from packages of licensed pictures to the starter model."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.errors import MissingDependency

if TYPE_CHECKING:
    from pochade.training.loop import Progress

EXAMPLES = """examples:
  pochade train corpus corpus/
  pochade train autoencoder corpus/ run/ --steps 4000
  pochade train text corpus/ run/ --steps 500
  pochade train diffusion corpus/ run/ --steps 8600
  pochade train decoder corpus/ run/ --steps 4500
  pochade train export corpus/ run/ my-model/

Each piece goes on where it was stopped. runs/starter.sh makes the model in the package.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train the starter model from scratch (needs pochade[train])",
        description="Build the training set, train the networks, write a model folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pieces = parser.add_subparsers(required=True, metavar="PIECE")
    corpus = pieces.add_parser("corpus", help="build the training set from registry packages")
    corpus.add_argument("corpus", type=Path)
    corpus.set_defaults(run=_corpus)
    for name, steps, text in (
        ("autoencoder", 4000, "train the autoencoder"),
        ("text", 500, "teach the text encoder to tell captions apart"),
        ("diffusion", 8600, "train text encoder and UNet on its latents"),
        ("decoder", 4500, "train the decoder further, for the same latents"),
    ):
        piece = pieces.add_parser(name, help=text)
        _run_options(piece)
        piece.add_argument("--steps", type=int, default=steps, help="default: %(default)s")
        piece.add_argument(
            "--batch", type=int, help="pictures a step (default: what the starter was trained with)"
        )
        piece.add_argument("--threads", type=int, help="processor threads (default: all)")
        piece.set_defaults(run=_train, piece=name)
    export = pieces.add_parser("export", help="write a diffusers folder")
    _run_options(export)
    export.add_argument("output", type=Path)
    export.set_defaults(run=_export)


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folder", type=Path, help="where the run keeps its states and logs")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")


def _corpus(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    _require_torch()
    from pochade.training.corpus import build

    bars: dict[str, Any] = {}

    def show(source: str, done: int, total: int) -> None:
        bar = bars.setdefault(source, tqdm(total=total, desc=source, unit="picture"))
        bar.update(done - bar.n)

    corpus = build(options.corpus, progress=show)
    print(f"{len(corpus)} pictures in {options.corpus}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    _require_torch()
    from pochade.training import starter
    from pochade.training.loop import use_threads

    if options.threads is not None:
        use_threads(options.threads)
    train = {
        "autoencoder": starter.train_autoencoder,
        "text": starter.train_text,
        "diffusion": starter.train_diffusion,
        "decoder": starter.train_decoder,
    }[options.piece]
    settings = {} if options.batch is None else {"batch": options.batch}
    progresses: Iterator[Progress] = train(_open(options), options.steps, **settings)
    with tqdm(total=options.steps, unit="step") as bar:
        for progress in progresses:
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.4f}")
    return 0


def _export(options: argparse.Namespace) -> int:
    _require_torch()
    from pochade.prompts.tokenizer_files import load_tokenizer
    from pochade.training import starter
    from pochade.training.export import export, part
    from pochade.training.loop import averaged

    run = _open(options)
    weights = averaged(run.folder / "diffusion")
    text = starter.text_config(load_tokenizer(run.tokenizer_folder))
    export(
        options.output,
        text=(text, part(weights, "text_encoder.")),
        unet=(starter.UNET, part(weights, "unet.")),
        autoencoder=starter.finished_autoencoder(run),
        tokenizer=run.tokenizer_folder,
    )
    print(options.output)
    return 0


def _open(options: argparse.Namespace) -> Any:
    from pochade.training.corpus import load
    from pochade.training.starter import Run

    return Run(corpus=load(options.corpus), folder=options.folder, device=options.device)


def _require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MissingDependency("training needs torch: pip install 'pochade[train]'")
