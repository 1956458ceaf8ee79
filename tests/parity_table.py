"""Compare Pochade with diffusers and transformers, and print docs/parity.md.

    python -m tests.parity_table --full-size > docs/parity.md

Takes minutes; with --full-size half an hour and up to 16 GB of memory. With --records FILE each figure is
stored there, and figures in the file are not measured again.
"""

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from math import isinf
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pochade
from pochade.engines.openvino import device_features
from pochade.pipeline import Pipeline
from tests.models import full_size
from tests.models.measure import (
    ENGINES,
    decode_error,
    decode_reference,
    encode_error,
    encode_reference,
    own_bf16_error,
    prompt_ids,
    text_errors,
    text_reference,
    unet_error,
    unet_reference,
)
from tests.pipeline.measure import (
    SAMPLERS,
    draw_ours,
    draw_theirs,
    inpainting_inputs,
    least_psnr,
    starting_noise,
)
from tests.reference import (
    TEXT_ENCODERS,
    UNETS,
    make_autoencoder,
    make_pipeline,
    make_text_encoder,
    make_unet,
    unet_inputs,
)

FAMILIES = ("SD 1.5", "SD 2.1", "SDXL", "inpainting", "LCM")
PROMPT, NEGATIVE, SEED = "a red fox in the snow", "the 4k cat", 5
FORMS: Sequence[Mapping[str, Any]] = (
    {"skip": 0, "final_norm": True},
    {"skip": 1, "final_norm": True},
    {"skip": 1, "final_norm": False},
)

TEXT = """\
# Parity with diffusers and transformers

Pochade {pochade} compared with diffusers {diffusers} and transformers {transformers} (on torch {torch}),
measured on {today} with OpenVINO {openvino} and numpy {numpy}; processor: {processor}. This file is the
output of

    {command}

The tests check the same figures against bounds: `tests/models/test_parity.py`,
`tests/pipeline/test_pictures.py` and, at full size, `tests/models/test_full_size.py`.

Errors are relative, in the Frobenius norm: |ours - theirs| / |theirs|, where theirs is computed in f32. The
bounds are 1e-4 in f32 and 2e-2 in bf16. All weights are random, of a size chosen so that rounding errors grow
little: with other sizes the error in bf16 exceeds 2e-2, in diffusers as in Pochade. 0 means that torch did
the same operations with the same numbers. The last column is the error of diffusers and transformers
themselves when they compute in bf16 (for SDXL they also round the picture's sizes).

## Tiny models, every family

{tiny}

UNets are evaluated at 13 x 9 latent pixels, which cannot be halved exactly, for two rows with different
timesteps; the autoencoder with pictures of 36 x 20. Text encoders: the largest error of the last layer, the
last but one with and without the final norm, and the pooled vector. BK-SDM: no middle block, one layer per
level. SSD-1B: transformer depths that differ between layers, a middle block without attention. Uneven: a
combination of settings that no published model has.

## Pictures

PSNR in dB between the finished pictures (bytes) of our pipeline and diffusers', from the same initial noise
and, for stochastic samplers, with the same noise in each step; 20 steps, guidance 7 with a negative prompt,
40 x 24 pixels. The goal is 50, the tests require 60. "equal" means that no byte differs.

{pictures}

diffusers' schedulers are configured to be equivalent, which needs two adjustments: the initial noise has
deviation sqrt(1 + sigma^2), and DPM-Solver and UniPC pass the timestep of Karras' sigma to the model as a
fraction, where diffusers rounds it. For comparison, the effect of that rounding alone on the picture of
SD 1.5: {rounding}.

## Full size

The networks with their real configurations and random weights. SD 1.5 and 2.1 at 64 x 64 latent pixels, SDXL
at 32 x 32, the autoencoder at 256 x 256 pixels; batch 1, 77 tokens.

{full}
"""


@dataclass(frozen=True)
class Records:
    """The measurements, stored in a file of JSON lines if one is given."""

    known: dict[str, float]
    path: Path | None

    def get(self, key: str, measure: Callable[[], float]) -> float:
        if key not in self.known:
            self.known[key] = measure()
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "value": self.known[key]}) + "\n")
        return self.known[key]


def read_records(path: Path | None) -> Records:
    if path is None or not path.exists():
        return Records({}, path)
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return Records({line["key"]: line["value"] for line in lines}, path)


# --- tables -----------------------------------------------------------------------------------------------


def tiny_table(records: Records) -> str:
    rng = np.random.default_rng(0)
    picture = rng.uniform(-1, 1, (2, 3, 36, 20)).astype(np.float32)
    latent = rng.standard_normal((2, 4, 9, 5), np.float32)
    vae = make_autoencoder()
    rows: dict[str, tuple[Callable[[Any], float], Callable[[], float]]] = {}
    for family in UNETS:
        rows[f"UNet, {family}"] = _unet_row(make_unet(family))
    for kind in TEXT_ENCODERS:
        rows[f"text encoder, {kind}"] = _text_row(make_text_encoder(kind))
    rows["autoencoder, encode"] = (
        lambda engine: encode_error(engine, vae, picture),
        lambda: own_bf16_error(vae, lambda model: encode_reference(model, picture)),
    )
    rows["autoencoder, decode"] = (
        lambda engine: decode_error(engine, vae, latent),
        lambda: own_bf16_error(vae, lambda model: decode_reference(model, latent)),
    )
    cells = []
    for name, (ours, theirs) in rows.items():
        errors = [_error(records, f"tiny {name} {engine}", ours, engine) for engine in ENGINES]
        cells.append([name, *errors, _scientific(records.get(f"tiny {name} theirs bf16", theirs))])
    return _markdown(["", *map(" ".join, ENGINES), "theirs bf16"], cells)


def pictures_table(records: Records) -> str:
    columns: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POCHADE_CACHE"] = folder
        for family in FAMILIES:
            theirs = make_pipeline(family, Path(folder) / family)
            theirs.save_pretrained(Path(folder) / family / "model")
            ours = pochade.load(
                Path(folder) / family / "model", engine="torch", device="cpu", precision="f32"
            )
            columns[family] = [
                _decibels(records.get(f"picture {family} {label}", partial(_psnr, ours, theirs, label)))
                for label in SAMPLERS
            ]
            graphs = pochade.load(
                Path(folder) / family / "model", engine="openvino", device="cpu", precision="f32"
            )
            openvino = records.get(f"picture {family} openvino", partial(_psnr, graphs, theirs, "Euler"))
            columns[family].append(_decibels(openvino))
    labels = [*(f"{label}, torch" for label in SAMPLERS), "Euler, openvino"]
    cells = [[label, *(columns[family][row] for family in FAMILIES)] for row, label in enumerate(labels)]
    return _markdown(["f32", *FAMILIES], cells)


def rounding_line(records: Records) -> str:
    """Return the row of PSNR against diffusers' unmodified schedulers, for SD 1.5."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        theirs = make_pipeline("SD 1.5", Path(folder))
        theirs.save_pretrained(Path(folder) / "model")
        ours = pochade.load(Path(folder) / "model", engine="torch", device="cpu", precision="f32")
        for label in ("DPM++ 2M", "UniPC order 2"):
            value = records.get(f"rounded {label}", partial(_psnr, ours, theirs, label, rounded=True))
            parts.append(f"{label} {_decibels(value)} dB")
    return ", ".join(parts)


def full_table(records: Records) -> str:
    engines = list(full_size.ENGINES)
    cells = []
    for name in full_size.CASES:
        keys = {engine: f"full {name} {engine}" for engine in engines}
        with tempfile.TemporaryDirectory() as folder:
            if any(key not in records.known for key in keys.values()):
                full_size.in_another_process("prepare", name, folder)
            cells.append([name])
            for engine, key in keys.items():
                value = records.get(key, partial(_full_error, folder, name, engine))
                cells[-1].append(_scientific(value))
    return _markdown(["", *map(" ".join, engines)], cells)


# --- cells ------------------------------------------------------------------------------------------------


def _unet_row(unet: Any) -> tuple[Callable[[Any], float], Callable[[], float]]:
    inputs = unet_inputs(unet.config)
    return (
        lambda engine: unet_error(engine, unet, inputs),
        lambda: own_bf16_error(unet, lambda model: unet_reference(model, inputs)),
    )


def _text_row(model: Any) -> tuple[Callable[[Any], float], Callable[[], float]]:
    ids = prompt_ids(model.config.vocab_size, model.config.eos_token_id)

    def part(form: Mapping[str, Any], number: int) -> Callable[[Any], Any]:
        return lambda model: text_reference(model, ids, **form)[number]

    return (
        lambda engine: max(max(text_errors(engine, model, **form)) for form in FORMS),
        lambda: max(own_bf16_error(model, part(form, number)) for form in FORMS for number in (0, 1)),
    )


def _error(records: Records, key: str, measure: Callable[[Any], float], engine: tuple[str, str]) -> str:
    if engine[0] == "openvino" and engine[1] not in device_features().precisions:
        return "not native here"
    return _scientific(records.get(key, lambda: measure(ENGINES[engine]())))


def _full_error(folder: str, name: str, engine: tuple[str, str]) -> float:
    return float(full_size.in_another_process("compare", folder, name, *engine))


def _psnr(ours: Pipeline, theirs: Any, label: str, rounded: bool = False) -> float:
    noise = starting_noise([SEED])
    call = {"prompt": PROMPT, "negative_prompt": NEGATIVE}
    if "Inpaint" in type(theirs).__name__:
        call |= inpainting_inputs(theirs, noise)
    expected = draw_theirs(theirs, label, noise, [SEED], rounded=rounded, **call)
    return least_psnr(draw_ours(ours, label, noise, [SEED], PROMPT, negative_prompt=NEGATIVE), expected)


def _scientific(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _decibels(value: float) -> str:
    return "equal" if isinf(value) else f"{value:.1f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Print docs/parity.md from measurements.")
    parser.add_argument(
        "--full-size", action="store_true", help="measure the networks at their real size too"
    )
    parser.add_argument("--records", type=Path, help="JSON lines of what is measured, to go on from")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # deprecation warnings of other packages
    torch.set_num_threads(1)
    records = read_records(chosen.records)
    command = "python -m tests.parity_table" + " --full-size" * chosen.full_size + " > docs/parity.md"
    names = ("diffusers", "transformers", "torch", "openvino", "numpy")
    text = TEXT.format(
        **{name: version(name) for name in names},
        pochade=pochade.__version__,
        processor=device_features().name,
        today=date.today().isoformat(),
        command=command,
        tiny=tiny_table(records),
        pictures=pictures_table(records),
        rounding=rounding_line(records),
        full=full_table(records) if chosen.full_size else "Not measured in this run; see --full-size.",
    )
    print(text, end="")


if __name__ == "__main__":
    main()
