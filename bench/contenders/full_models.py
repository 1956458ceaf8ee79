"""A model's UNet, and its pictures from prompt to PNG, by each contender. Every function starts one, with the
arguments `(case, compiled, precision)`; `compiled` is a folder for compiled graphs."""

import io
import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measure.worker import Contender, Phases
from pochade.atomic import hidden_neighbour

PROMPT = "a red fox in the snow"
GUIDANCE = 7.0
TIMESTEP = 500.0
FIRST_STEPS = 4
"""Of the first picture, before those that count: every graph of every speed is used in so many."""
SD_CPP = ("sd-cli", "sd")
"""What the binary of stable-diffusion.cpp is called, the newer name first."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is computed.

    model: a diffusers folder. side: of the picture, px, the model's native one. file: the model as a single
    file, for stable-diffusion.cpp. trace: a folder with the converted networks. int8: OpenVINO's file (.xml)
    of the trace's UNet in int8 (`trace_int8.py`), for the contender in that precision.
    """

    model: Path
    side: int
    steps: int = 20
    speed: str = "exact"
    trace: Path | None = None
    int8: Path | None = None
    file: Path | None = None

    @cached_property
    def config(self) -> Any:
        from pochade.checkpoints.read import read_checkpoint
        from pochade.configs.read_json import unet_config

        return unet_config(read_checkpoint(self.model).unet.config)

    @property
    def tokens(self) -> int:
        """The number of tokens in a chunk."""
        from pochade.checkpoints.json_files import read_table

        return int(read_table(self.model / "text_encoder" / "config.json")["max_position_embeddings"])

    @cached_property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """Inputs of one step with guidance, unit normal, under the names of the trace."""
        random, config = np.random.default_rng(0), self.config
        side = config.sample_size
        inputs = {
            "sample": random.standard_normal((2, config.in_channels, side, side), np.float32),
            "timestep": np.full(2, TIMESTEP, np.float32),
            "context": random.standard_normal((2, self.tokens, config.context_width), np.float32),
        }
        if config.added_width is not None:
            pooled = config.added_width - 6 * config.added_time_width
            inputs["text_embeds"] = random.standard_normal((2, pooled), np.float32)
            inputs["time_ids"] = np.tile(
                np.array([self.side, self.side, 0, 0, self.side, self.side], np.float32), (2, 1)
            )
        return inputs

    @cached_property
    def flop(self) -> int:
        """Floating-point operations of one evaluation."""
        from pochade.engines.shape_inference import infer_shapes
        from pochade.loading.parameter_shapes import with_config
        from pochade.models.unet import unet

        shapes = {name: (array.shape, "f32") for name, array in _ours(self).items()}
        return 2 * sum(infer_shapes(with_config(unet, self.config), shapes).products.values())


# --- the UNet ---------------------------------------------------------------------------------------------


def pochade_unet(case: Case, compiled: Path, precision: str) -> Contender:
    """The UNet as a pipeline calls it."""
    pipeline, phases = _pochade(case, compiled, precision)
    inputs = _ours(case)
    return _started(lambda: pipeline.networks.predict(**inputs), phases)


def diffusers_unet(case: Case, compiled: Path, precision: str) -> Contender:
    """UNet2DConditionModel in inference mode, channels last, its faster layout on processors."""
    phases = Phases()
    with phases("import"):
        import torch
        from diffusers import UNet2DConditionModel
    kind = _torch_type(precision)
    with phases("load"):
        network: Any = UNet2DConditionModel.from_pretrained(case.model / "unet", torch_dtype=kind)
        network = network.eval().to(memory_format=torch.channels_last)
    given = {name: torch.from_numpy(array).to(kind) for name, array in case.inputs.items()}
    sample = given.pop("sample").to(memory_format=torch.channels_last)
    timestep, context = torch.from_numpy(case.inputs["timestep"]), given["context"]
    added = {name: given[name] for name in ("text_embeds", "time_ids") if name in given}

    def evaluate() -> Any:
        with torch.inference_mode():
            options = {"added_cond_kwargs": added, "return_dict": False}
            return network(sample, timestep, context, **options)[0].float().numpy()

    return _started(evaluate, phases, torch.get_num_threads())


def traced_unet(case: Case, compiled: Path, precision: str) -> Contender:
    """OpenVINO with the hints that the package gives it, and its own cache of compiled models."""
    phases = Phases()
    with phases("load"):
        assert case.trace is not None
        request = _compiled(
            case.int8 if precision == "int8" else case.trace / "unet.xml", compiled, precision
        )
    inputs = case.inputs
    return _started(lambda: np.array(request.infer(inputs, share_inputs=True)[0]), phases)


# --- pictures ---------------------------------------------------------------------------------------------


def pochade_picture(case: Case, compiled: Path, precision: str) -> Contender:
    """`pochade.load` and `txt2img` as a user calls them; the PNG is encoded and discarded."""
    pipeline, phases = _pochade(case, compiled, precision)
    from pochade.images.files import encoded

    def draw(steps: int = case.steps) -> Any:
        drawn = pipeline.txt2img(
            PROMPT,
            seed=1,
            steps=steps,
            cfg_scale=GUIDANCE,
            width=case.side,
            height=case.side,
            sampler="Euler",
            speed=case.speed,
        )
        encoded(drawn.images[0], "PNG", drawn.infotexts[0])
        return np.asarray(drawn.images[0])

    return _started(draw, phases, first=_few(draw, case))


def diffusers_picture(case: Case, compiled: Path, precision: str) -> Contender:
    """diffusers' own pipeline, with the scheduler that the folder names, channels last."""
    pipeline, phases = _diffusers(case, precision)
    draw = _drawing(pipeline, case)
    return _started(draw, phases, _threads(), _few(draw, case))


def traced_picture(case: Case, compiled: Path, precision: str) -> Contender:
    """diffusers' pipeline with UNet and decoder replaced by OpenVINO's, from a trace; torch's weights are
    freed."""
    pipeline, phases = _diffusers(case, "f32")
    import torch

    assert case.trace is not None
    with phases("compile"):
        chosen = case.int8 if precision == "int8" else case.trace / "unet.xml"
        unet = _compiled(chosen, compiled, precision)
        # What is given in int8 is the UNet; the decoder then computes in what the machine does best.
        decoder = _compiled(
            case.trace / "decoder.xml", compiled, _best() if precision == "int8" else precision
        )

    def predict(sample: Any, timestep: Any, encoder_hidden_states: Any, **rest: Any) -> Any:
        given = {
            "sample": sample.numpy(),
            "timestep": np.full(len(sample), float(timestep), np.float32),
            "context": encoder_hidden_states.numpy(),
        }
        for name, value in (rest.get("added_cond_kwargs") or {}).items():
            given[name] = value.numpy().astype(np.float32)
        return (torch.from_numpy(np.array(unet.infer(given, share_inputs=True)[0])),)

    def decode(latent: Any, **_: Any) -> Any:
        return (torch.from_numpy(np.array(decoder.infer({"latent": latent.numpy()})[0])),)

    for network in (pipeline.unet, pipeline.vae):
        for parameter in network.parameters():
            parameter.data = torch.empty(0)
    pipeline.unet.forward, pipeline.vae.decode = predict, decode
    draw = _drawing(pipeline, case)
    return _started(draw, phases, _threads(), _few(draw, case))


def sd_cpp_picture(case: Case, compiled: Path, precision: str) -> Contender:
    """stable-diffusion.cpp's program: each picture is a process that reads the model.

    Its time is the one that it reports for sampling and decoding, because it cannot stay warm.
    """
    program = sd_cpp()
    assert program is not None and case.file is not None
    kind = {"f32": "f32", "f16": "f16", "int8": "q8_0"}[precision]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "out.png")
        command = [
            program,
            "-m",
            str(case.file),
            "-p",
            PROMPT,
            "--cfg-scale",
            str(GUIDANCE),
            "-o",
            str(target),
        ]
        command += ["--steps", str(case.steps), "-W", str(case.side), "-H", str(case.side), "-s", "1"]
        command += ["--sampling-method", "euler", "--type", kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program} ended with status {done.returncode}: {done.stderr[-500:]}")
    seconds = parsed_seconds(done.stdout + done.stderr)
    return Contender(lambda: seconds, {"picture": seconds}, threads=0)


def sd_cpp() -> str | None:
    """The path of stable-diffusion.cpp's program, if it is installed."""
    return next((found for name in SD_CPP if (found := which(name)) is not None), None)


def parsed_seconds(text: str) -> float:
    """Seconds of sampling and decoding in the program's log. Raises RuntimeError if it contains none."""
    found = [
        re.search(rf"{what}[^\n]*taking ([0-9.]+)s", text)
        for what in ("sampling completed", "decode_first_stage completed")
    ]
    if any(each is None for each in found):
        raise RuntimeError(f"stable-diffusion.cpp did not say how long it took: {text[-500:]}")
    return sum(float(each[1]) for each in found if each is not None)


# --- what they need ---------------------------------------------------------------------------------------


def make_trace(case: Case) -> None:
    """Trace UNet and decoder with torch, convert with static shapes, keep f32. Minutes, and much memory."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from pochade.engines.openvino_import import ov

    class Unet(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, sample: Any, timestep: Any, context: Any, *added: Any) -> Any:
            names = ("text_embeds", "time_ids")
            options = {"added_cond_kwargs": dict(zip(names, added, strict=False)), "return_dict": False}
            return self.network(sample, timestep, context, **options)[0]

    class Decoder(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, latent: Any) -> Any:
            return self.network.decode(latent, return_dict=False)[0]

    def converted(network: Any, inputs: Mapping[str, NDArray[Any]], name: str) -> None:
        example = tuple(torch.from_numpy(array) for array in inputs.values())
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each shape that becomes a constant is warned of
            shapes = [list(array.shape) for array in inputs.values()]
            graph = ov.convert_model(network.eval(), example_input=example, input=shapes)
        for port, own in zip(graph.inputs, inputs, strict=True):
            port.get_tensor().set_names({own})
        ov.save_model(graph, part / f"{name}.xml", compress_to_fp16=False)

    assert case.trace is not None
    part = hidden_neighbour(case.trace)
    part.mkdir(parents=True)
    kind = {"torch_dtype": torch.float32}
    converted(Unet(UNet2DConditionModel.from_pretrained(case.model / "unet", **kind)), case.inputs, "unet")
    sample = case.inputs["sample"]
    latent = {"latent": sample[:1, :4]}
    converted(Decoder(AutoencoderKL.from_pretrained(case.model / "vae", **kind)), latent, "decoder")
    part.rename(case.trace)


def _started(
    evaluate: Callable[[], Any],
    phases: Phases,
    threads: int = 0,
    first: Callable[[], Any] | None = None,
) -> Contender:
    """The contender after its first evaluation, which compiles, as a phase."""
    with phases("first"):
        (first or evaluate)()
    return Contender(evaluate, phases.seconds, threads)


def _few(draw: Callable[[int], Any], case: Case) -> Callable[[], Any]:
    """A picture with few steps, for warming up."""
    return partial(draw, min(FIRST_STEPS, case.steps))


def _pochade(case: Case, compiled: Path, precision: str) -> tuple[Any, Phases]:
    os.environ["POCHADE_CACHE"] = str(compiled)
    phases = Phases()
    with phases("import"):
        import pochade
        import pochade.pipeline
    with phases("load"):
        pipeline = pochade.load(case.model, device="cpu", precision=precision)
    return pipeline, phases


def _ours(case: Case) -> dict[str, NDArray[Any]]:
    """The inputs as Pochade's network expects them."""
    from pochade.models.embedding import embed_sizes, embed_timestep

    given = case.inputs
    inputs = {
        "x": given["sample"],
        "time": embed_timestep(case.config, given["timestep"]),
        "context": given["context"],
    }
    if "time_ids" in given:
        inputs["added"] = embed_sizes(case.config, given["text_embeds"], given["time_ids"])
    return inputs


def _diffusers(case: Case, precision: str) -> tuple[Any, Phases]:
    phases = Phases()
    with phases("import"):
        import torch
        from diffusers import DiffusionPipeline
        from diffusers.utils import logging
        from transformers.utils import logging as text_logging

        for each in (logging, text_logging):
            each.disable_progress_bar()
    with phases("load"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline: Any = DiffusionPipeline.from_pretrained(
            case.model, torch_dtype=_torch_type(precision), local_files_only=True
        )
        for network in (pipeline.unet, pipeline.vae):
            network.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, phases


def _drawing(pipeline: Any, case: Case) -> Callable[..., Any]:
    def draw(steps: int = case.steps) -> Any:
        import torch

        options = {"num_inference_steps": steps, "guidance_scale": GUIDANCE}
        size = {"width": case.side, "height": case.side}
        generator = torch.Generator().manual_seed(1)
        image = pipeline(PROMPT, generator=generator, **options, **size).images[0]
        image.save(io.BytesIO(), "PNG")
        return np.asarray(image)

    return draw


def _compiled(graph: Path | None, compiled: Path, precision: str) -> Any:
    from pochade.engines.openvino_import import ov

    core = ov.Core()
    core.set_property({"CACHE_DIR": str(compiled / "traced")})
    hints = {"PERFORMANCE_HINT": "LATENCY"}
    if precision != "int8":  # a quantized graph says itself what is computed in what
        hints["INFERENCE_PRECISION_HINT"] = precision
    return core.compile_model(core.read_model(graph), "CPU", hints).create_infer_request()


def _torch_type(precision: str) -> Any:
    import torch

    return {"f32": torch.float32, "bf16": torch.bfloat16}[precision]


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _best() -> str:
    from pochade.engines.openvino import device_features

    best: str = device_features().best_precision
    return "f32" if best == "int8" else best
