"""The options that say what a picture file tells of where it comes from."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pochade.images.files import Sign


def add_mark_options(parser: argparse.ArgumentParser) -> None:
    """--no-mark and --sign."""
    group = parser.add_argument_group("what the file says of itself")
    group.add_argument(
        "--no-mark", action="store_true", help="leave out the XMP mark that says: made by a model"
    )
    group.add_argument(
        "--sign",
        action="store_true",
        help="sign the file (C2PA) with a key of your own, made the first time; needs the extra c2pa",
    )


def signer_of(options: argparse.Namespace) -> "Sign | None":
    """What signs, if --sign was given. Raises MissingDependency, before anything is drawn."""
    if not options.sign:
        return None
    from datetime import UTC, datetime

    import pochade
    from pochade.images.signing import signer_in
    from pochade.settings import signing_file

    return signer_in(signing_file(), datetime.now(UTC), pochade.__version__)


def mark_of(options: argparse.Namespace, mark: str | None) -> str | None:
    """The mark, unless --no-mark was given."""
    return None if options.no_mark else mark
