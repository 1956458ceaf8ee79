"""Names options in error messages: `--clip-skip is 20` where Python and HTTP say `clip_skip is 20`."""

import argparse
import re
from collections.abc import Mapping

OPTIONS: Mapping[str, tuple[str, str]] = {
    "clip_skip": ("clip_skip", "--clip-skip"),
    "cfg_scale": ("cfg", "--cfg"),
    "steps": ("steps", "--steps"),
    "seed": ("seed", "--seed"),
    "width": ("size", "the width in --size"),
    "height": ("size", "the height in --size"),
    "sampler": ("sampler", "--sampler"),
    "schedule": ("schedule", "--schedule"),
    "negative_prompt": ("negative", "--negative"),
    "denoising_strength": ("strength", "--strength"),
    "mask_blur": ("mask_blur", "--mask-blur"),
    "padding": ("padding", "--padding"),
    "rng": ("rng", "--rng"),
    "emphasis": ("emphasis", "--emphasis"),
    "speed": ("speed", "--speed"),
    "size of the seed": ("seed_size", "a side in --seed-size"),
    "hires scale": ("hires", "--hires"),
    "hires steps": ("hires_steps", "--hires-steps"),
    "hires cfg_scale": ("hires_cfg", "--hires-cfg"),
    "denoising_strength of hires": ("hires_strength", "--hires-strength"),
    "prompt of hires": ("hires_prompt", "--hires-prompt"),
    "negative_prompt of hires": ("hires_negative", "--hires-negative"),
    "refiner switch": ("refiner_switch", "--refiner-switch"),
    "strength of a control": ("control_strength", "--control-strength"),
    "start of a control": ("control_start", "--control-start"),
    "end of a control": ("control_end", "--control-end"),
    "threads": ("threads", "--threads"),
    "device": ("device", "--device"),
    "engine": ("engine", "--engine"),
    "precision": ("precision", "--precision"),
    "frames": ("frames", "--frames"),
}
"""A field's name in errors -> the attribute of the parsed options, and the option's name."""

OF_SECOND_PASS: Mapping[str, tuple[str, str]] = {
    "sampler": ("hires_sampler", "--hires-sampler"),
    "schedule": ("hires_schedule", "--hires-schedule"),
}
"""Alternatives if the option of that name has another value."""

_SUBJECT = re.compile(
    rf"({'|'.join(sorted(OPTIONS, key=len, reverse=True))})(?= (?:is|has|asks|applies|'([^']*)'))"
)


def in_options(message: str, options: argparse.Namespace) -> str:
    """Replace the field at the start of a message by its option, if that option was given."""
    found = _SUBJECT.match(message)
    if found is None:
        return message
    field, name = found.groups()
    for attribute, option in filter(None, (OPTIONS[field], OF_SECOND_PASS.get(field))):
        given = getattr(options, attribute, None)
        if given is not None and name in (None, str(given)):
            return option + message[found.end() :]
    return message
