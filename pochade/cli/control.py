"""The options of `pochade draw` for ControlNets."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pochade.errors import InvalidRequest
from pochade.ways import Control

REPEATED = {
    "control_model": ("--control-model", None),
    "preprocessor": ("--preprocessor", "none"),
    "control_strength": ("--control-strength", 1.0),
    "control_start": ("--control-start", 0.0),
    "control_end": ("--control-end", 1.0),
}
"""Options that say something about each --control, and what holds where they are not given."""


def add_control_options(parser: argparse.ArgumentParser) -> None:
    """A group of options; what is not given changes nothing."""
    group = parser.add_argument_group(
        "drawing along a picture (ControlNet)",
        "For several pictures, repeat --control; what is given once counts for all of them.",
    )

    def add(name: str, **settings: Any) -> None:
        group.add_argument(name, action="append", **settings)

    add("--control", type=Path, metavar="FILE", help="a picture that says what goes where")
    add("--control-model", type=Path, metavar="PATH", help="the ControlNet: a file, a folder or a name")
    add("--preprocessor", metavar="NAME", help="none, canny, invert, scribble or tile (default: none)")
    add("--control-strength", type=float, metavar="S", help="how much it counts, 0 to 2 (default: 1)")
    add("--control-start", type=float, metavar="SHARE", help="of the steps, where it begins (default: 0)")
    add("--control-end", type=float, metavar="SHARE", help="of the steps, where it ends (default: 1)")


def controls(options: argparse.Namespace) -> tuple[Control, ...]:
    """What the options ask for. Raises InvalidRequest if they do not fit together or a name is unknown."""
    files: Sequence[Path] = options.control or ()
    if not files:
        for name, (flag, _) in REPEATED.items():
            if getattr(options, name) is not None:
                raise InvalidRequest(f"{flag} needs a picture: give it as --control")
        return ()
    if options.control_model is None:
        raise InvalidRequest("--control needs a ControlNet: give its file or folder as --control-model")

    from pochade.images.opening import open_picture
    from pochade.images.preprocessors import find_preprocessor

    about = {name: _each(options, name, len(files)) for name in REPEATED}
    return tuple(
        Control(
            image=open_picture(file),
            model=about["control_model"][i],
            preprocessor=find_preprocessor(about["preprocessor"][i]),
            strength=about["control_strength"][i],
            start=about["control_start"][i],
            end=about["control_end"][i],
        )
        for i, file in enumerate(files)
    )


def _each(options: argparse.Namespace, name: str, count: int) -> list[Any]:
    """One value for each picture."""
    flag, default = REPEATED[name]
    values = getattr(options, name) or [default]
    if len(values) not in (1, count):
        raise InvalidRequest(f"{flag} is given {len(values)} times for {count} pictures: once, or for each")
    return list(values) * (count if len(values) == 1 else 1)
