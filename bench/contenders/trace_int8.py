"""The trace's UNet in int8, quantized by NNCF as OpenVINO recommends (`pip install nncf`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from contenders.full_models import TIMESTEP, Case
from pochade.atomic import hidden_neighbour

SAMPLES = 4
"""To fit ranges to. The weights are random, so that more would say no more; how many does not change the
time of what is made."""


def make_trace_int8(case: Case) -> None:
    """Quantize weights and inputs of `case.trace`'s UNet to `case.int8`. Takes minutes, and much memory.

    NNCF's setting for transformers, with smoothing of the linear layers only, as in its notebooks for
    diffusion models. Biases are not corrected: that improves accuracy, and only time is compared.
    """
    import nncf

    from pochade.engines.openvino_import import ov

    assert case.trace is not None and case.int8 is not None
    smoothing = nncf.AdvancedSmoothQuantParameters(convolution=-1)
    graph = nncf.quantize(
        ov.Core().read_model(case.trace / "unet.xml"),
        nncf.Dataset(list(_samples(case))),
        subset_size=SAMPLES,
        model_type=nncf.ModelType.TRANSFORMER,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            smooth_quant_alphas=smoothing, disable_bias_correction=True
        ),
    )
    part = hidden_neighbour(case.int8.parent)
    part.mkdir(parents=True)
    ov.save_model(graph, part / case.int8.name, compress_to_fp16=False)
    part.rename(case.int8.parent)


def _samples(case: Case) -> Iterator[dict[str, Any]]:
    """One step's inputs for each of a number of noise levels."""
    given = case.inputs
    for number in range(SAMPLES):
        rng = np.random.default_rng(number)
        time = np.full_like(given["timestep"], TIMESTEP * 2 * (number + 0.5) / SAMPLES)
        yield {**given, "sample": rng.standard_normal(given["sample"].shape, np.float32), "timestep": time}


def path_in(folder: Path) -> Path:
    """The path of the quantized model, next to the trace."""
    return folder / "traced-int8" / "unet.xml"
