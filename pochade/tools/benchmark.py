"""Benchmarks a model in one precision: `python -m pochade.tools.benchmark SETTINGS`.

Each precision runs in its own process, so that start time and peak memory are its own. Each measurement is
printed as a line of JSON (see `measure`), which `cli/bench.py` reads.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pochade.engines.engine import Engine
    from pochade.pipeline.pipeline import Pipeline

PROMPT = "a red fox in the snow"
EVALUATIONS = 5
PICTURES = 3
ENOUGH_S = 20.0
"""A picture that takes longer is drawn only once, since earlier ones have warmed up the process."""
WARM_UP_STEPS = 4
"""Enough steps to use every graph of every speed setting."""
CEILING_S = 0.6
MATRIX, MATRICES = 1024, 8
CHANNELS, SIDE, KERNELS = 320, 64, 2


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """What is measured. The first six are as in `pochade.load`; for the others None means the model's
    default.

    only_load: only load the model, which fills the cache with its 8-bit grids.
    """

    model: str | None = None
    models: str | None = None
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    threads: int | None = None
    steps: int | None = None
    width: int | None = None
    height: int | None = None
    speeds: tuple[str, ...] = ("exact", "balanced", "fast")
    pictures: int = PICTURES
    only_load: bool = False


def measure(settings: BenchmarkSettings) -> Iterator[dict[str, Any]]:
    """Yield the measurements, each with its name under "is":

    ceiling: `flops`, the most that the engine reaches in large matrix products and convolutions.
    start: `load_s` until the model is loaded, `first_s` from then until the first evaluation is done.
    evaluation: `seconds` of each UNet call as in a guided step; `flop` of one.
    picture: `seconds` of each picture, from prompt to PNG, warm; `speed`, `steps`, `width`, `height`.
    memory: `peak_bytes` of the process, including pages of mapped files; None if unknown.

    Raises PochadeError if the model cannot be loaded or drawn.
    """
    begin = time.perf_counter()
    import pochade
    from pochade.generation.settle import check_size, size_of
    from pochade.loading.process_memory import peak_bytes
    from pochade.request import Request

    asked = Request(prompt=PROMPT, width=settings.width, height=settings.height)
    pipeline = pochade.load(
        settings.model,
        models=settings.models,
        device=settings.device,
        precision=settings.precision,
        engine=settings.engine,
        threads=settings.threads,
    )
    load_s = time.perf_counter() - begin
    if settings.only_load:
        return
    check_size(pipeline.networks, *size_of(pipeline.networks, asked)[0])
    evaluate, flop = evaluation(pipeline, settings.width, settings.height)
    first_s = timed(evaluate)
    yield {"is": "start", "load_s": load_s, "first_s": first_s, "choice": asdict(pipeline.choice)}
    evaluate()
    yield {"is": "evaluation", "seconds": [timed(evaluate) for _ in range(EVALUATIONS)], "flop": flop}
    for speed in settings.speeds:
        yield _pictures(pipeline, settings, speed)
    # Before the ceiling, which takes memory of its own.
    yield {"is": "memory", "peak_bytes": peak_bytes()}
    yield {"is": "ceiling", "flops": ceiling(pipeline.networks.unet.engine)}


def evaluation(
    pipeline: "Pipeline", width: int | None = None, height: int | None = None
) -> tuple[Callable[[], Any], int]:
    """Return a UNet call as in a guided step, on random numbers, and its FLOP."""
    from pochade.engines.shape_inference import infer_shapes
    from pochade.loading.parameter_shapes import with_config
    from pochade.request import EMPHASES

    networks, config = pipeline.networks, pipeline.networks.unet.config
    denoiser, traits = networks.family.denoiser, networks.traits
    factor = networks.autoencoder_config.factor
    columns, rows = ((traits.side if side is None else side) // factor for side in (width, height))
    rng = np.random.default_rng(0)
    batch = 1 if traits.takes_guidance or pipeline.defaults.cfg_scale == 1 else 2
    inputs = {
        name: rng.standard_normal((batch, *shape[1:]), np.float32)
        for name, (shape, _) in denoiser.inputs(config).items()
    }
    tokens = networks.family.length("", pipeline.tokenizers, EMPHASES[0])
    width = inputs["context"].shape[-1]
    inputs["context"] = rng.standard_normal((batch, tokens, width), np.float32)
    inputs["x"] = rng.standard_normal((batch, traits.channels, rows, columns), np.float32)
    shapes = {name: (array.shape, "f32") for name, array in inputs.items()}
    products = infer_shapes(with_config(denoiser.function, config), shapes).products
    return lambda: networks.predict(**inputs), 2 * sum(products.values())


def ceiling(engine: "Engine") -> float:
    """Return the most FLOP per second that an engine reaches in large matrix products or convolutions."""

    def matrices(ops: Any, w: Any, x: Any) -> Any:
        for number in range(MATRICES):
            x = ops.linear(x, w(f"{number}.weight", (MATRIX, MATRIX)))
        return x

    def kernels(ops: Any, w: Any, x: Any) -> Any:
        for number in range(KERNELS):
            x = ops.conv2d(x, w(f"{number}.weight", (CHANNELS, CHANNELS, 3, 3)), None, 1, (1, 1, 1, 1))
        return x

    return max(
        _reached(engine, matrices, (MATRIX, MATRIX), (MATRIX, MATRIX), MATRICES, 2 * MATRIX**3),
        _reached(
            engine,
            kernels,
            (2, CHANNELS, SIDE, SIDE),
            (CHANNELS, CHANNELS, 3, 3),
            KERNELS,
            2 * 2 * SIDE**2 * CHANNELS**2 * 9,
        ),
    )


def timed(action: Callable[[], Any]) -> float:
    """Return the duration of an action in seconds."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


# --- inside -----------------------------------------------------------------------------------------------


def _reached(
    engine: "Engine",
    function: Callable[..., Any],
    taken: tuple[int, ...],
    weight: tuple[int, ...],
    layers: int,
    flop: int,
) -> float:
    """FLOP per second of `layers` layers of `flop` each."""
    rng = np.random.default_rng(0)
    scale = np.float32(np.prod(weight[1:]) ** -0.5)  # so that numbers neither vanish nor overflow
    weights = {f"{i}.weight": scale * rng.standard_normal(weight, np.float32) for i in range(layers)}
    graph = engine.compile(function, weights, {"x": (taken, "f32")})
    x = rng.standard_normal(taken, np.float32)
    graph(x=x)
    best, spent = float("inf"), 0.0
    while spent < CEILING_S:
        best = min(best, timed(lambda: graph(x=x)))
        spent += best
    return layers * flop / best


def _pictures(pipeline: "Pipeline", settings: BenchmarkSettings, speed: str) -> dict[str, Any]:
    from pochade.images.files import encoded

    steps = pipeline.defaults.steps if settings.steps is None else settings.steps
    size: dict[str, Any] = {"width": settings.width, "height": settings.height}
    drawn: Any = None

    def draw(count: int = steps) -> None:
        nonlocal drawn
        drawn = pipeline.txt2img(PROMPT, seed=1, steps=count, speed=speed, **size)
        encoded(drawn.images[0], "PNG", drawn.infotexts[0])

    draw(min(WARM_UP_STEPS, steps))
    seconds = [timed(draw)]
    while len(seconds) < settings.pictures and seconds[0] < ENOUGH_S:
        seconds.append(timed(draw))
    width, height = drawn.images[0].size
    return {
        "is": "picture",
        "speed": speed,
        "seconds": seconds,
        "steps": steps,
        "width": width,
        "height": height,
    }


def main() -> None:
    """Print the measurements as JSON lines; a PochadeError is a line too."""
    from pochade.errors import PochadeError

    given: Mapping[str, Any] = json.loads(sys.argv[1])
    lines = io.TextIOWrapper(io.FileIO(1, "wb", closefd=False), write_through=True)
    try:
        for found in measure(BenchmarkSettings(**given)):
            print(json.dumps(found), file=lines)
    except PochadeError as error:
        print(json.dumps({"is": "refused", "error": str(error)}), file=lines)


if __name__ == "__main__":
    main()
