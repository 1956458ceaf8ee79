"""Loads a pipeline from a path or a model's name."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pochade.checkpoints.library import find
from pochade.checkpoints.read import read_checkpoint
from pochade.errors import InvalidRequest, OutputError
from pochade.loading.adapters import Library
from pochade.loading.compiled_graphs import CompiledGraphs
from pochade.loading.engine_choice import choose, make_engine
from pochade.loading.int8_networks import find_grids, in_int8, keep_in_cache
from pochade.loading.memory_plan import budget_from, parse_bytes
from pochade.loading.model import make_model
from pochade.pipeline.calibrate import calibrate
from pochade.pipeline.pipeline import Pipeline
from pochade.quantization.files import Tables
from pochade.settings import STARTER, model_roots, starter_folder


def load(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    variant: str | None = None,
    compiled: bool = False,
    vae: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    prediction: str | None = None,
    models: str | Path | None = None,
    memory_budget: str | float | None = None,
    threads: int | None = None,
    graph_budget: str | float | None = None,
    fold_adapters: bool = False,
) -> Pipeline:
    """Load a model for drawing.

    model: a diffusers folder, a single-file checkpoint (`docs/guide/files.md`), or the name of one in a
    folder
        of models; None or 'starter' is the model inside the package.
    device: 'cpu', 'gpu' (Intel, with OpenVINO), 'cuda', 'mps' or 'auto'.
    precision: 'f32', 'bf16', 'f16', 'int8' or 'auto', the fastest of the first three that the device supports
        natively. 'int8' uses the grids that come with the model, or fits them the first time by drawing, with
        a progress bar.
    engine: 'openvino', 'torch', 'numpy' or 'auto'. variant: a variant of the weights, such as 'fp16'.
    compiled: use `torch.compile` (torch only): minutes of warm-up, then faster pictures.
    vae: an autoencoder that replaces the model's own: a file, a diffusers `vae` folder, a whole model, or the
        name of one in a folder of models.
    config: configuration that a single file lacks: a diffusers folder whose configuration files are read, or
        a table or JSON file such as `{"unet": {"attention_head_dim": 8}, "tokenizer": FOLDER}`.
    prediction: 'epsilon' or 'v_prediction', overriding the detected prediction type.
    models: a folder that is searched for names, instead of $POCHADE_MODELS (`settings.model_roots`).
    memory_budget: the most memory to use, in bytes or as "4GB". If not all networks fit, they are loaded one
        after another, and pictures are decoded in tiles (`Pipeline.plan`). None: $POCHADE_MEMORY_BUDGET, or
        unlimited.
    threads: CPU threads, for OpenVINO and torch. None: one per core, or as many as a container's quota
    allows.
    graph_budget: the most memory for compiled graphs that are kept for later pictures, in bytes or as "4GB";
        the least recently used are dropped first. A single picture may exceed it. None:
        $POCHADE_GRAPH_BUDGET, else the memory budget, else half of the memory that the process may use.
    fold_adapters: add LoRAs to the weights on OpenVINO too, as other engines do. Each LoRA and strength then
        has its own graphs, which are a tenth faster than those that take any LoRA as an input.

    Weights are mapped, not read; graphs are compiled when they are first used. Raises InvalidCheckpoint for a
    model that is missing, damaged or not supported, InvalidRequest for an unknown device, engine or
    precision.
    """
    choice = choose(device, precision, engine)
    budget = _amount(memory_budget, "memory budget", "POCHADE_MEMORY_BUDGET")
    if budget is not None and (choice.engine, choice.device) != ("openvino", "cpu"):
        raise InvalidRequest(
            f"a memory budget works only with OpenVINO on the CPU, but this would use {choice.engine} on"
            f" '{choice.device}'; omit it, or use device 'cpu' and engine 'openvino'"
        )
    if graph_budget is not None and choice.engine != "openvino":
        raise InvalidRequest(
            f"a graph budget works only with OpenVINO, but this would use {choice.engine}; omit it"
        )
    kept = _amount(graph_budget, "graph budget", "POCHADE_GRAPH_BUDGET")
    graphs = CompiledGraphs(budget if kept is None else kept)
    path, roots = model_path(model, models), model_roots(models)
    coder = None if vae is None else find(vae, roots, "vae")
    checkpoint = read_checkpoint(path, variant=variant, vae=coder, config=config, prediction=prediction)
    on = make_engine(choice, compiled=compiled, low_memory=budget is not None, threads=threads)
    pipeline = Pipeline(
        model=make_model(checkpoint, on, path, graphs=graphs),
        choice=choice,
        roots=roots,
        library=Library(roots=roots),
        memory_budget=budget,
        fold_adapters=fold_adapters,
        path=path,
        vae=coder,
    )
    if choice.precision != "int8":
        return pipeline
    tables = find_grids(path, checkpoint, pipeline.networks) or _fitted(pipeline)
    return replace(pipeline, model=replace(pipeline.model, networks=in_int8(pipeline.networks, tables)))


def _amount(given: str | float | None, what: str, variable: str) -> int | None:
    """Parse an amount of bytes from an argument or the environment. Raises InvalidRequest if it is
    invalid."""
    if given is not None:
        return parse_bytes(given, what)
    return budget_from(os.environ, variable) if os.environ.get(variable) else None


def _fitted(pipeline: Pipeline) -> Tables:
    """Fit grids by drawing, and cache them for the next time if possible.

    Raises InvalidRequest if the model cannot be calibrated, or not within its memory budget.
    """
    tables: Tables | None = None
    exact = replace(pipeline, choice=replace(pipeline.choice, precision="f32"))  # what a budget counts
    try:
        for step in tqdm(calibrate(exact), desc="fitting 8-bit grids, once", leave=False, disable=None):
            tables = step.tables
    except InvalidRequest as error:
        raise InvalidRequest(
            f"8-bit grids are fitted by drawing in full precision once, which cannot be done here: {error};"
            " or fit them with `pochade models quantize MODEL -o FILE` and put the file beside the model"
        ) from error
    assert tables is not None, "the last step brings them"
    try:
        keep_in_cache(pipeline.checkpoint, tables, pipeline.networks)
    except OutputError as error:
        warnings.warn(
            f"8-bit grids are not kept, and will be fitted again: {error}", RuntimeWarning, stacklevel=3
        )
    return tables


def model_path(model: str | Path | None, models: str | Path | None = None) -> Path:
    """Return the path of a model as given to `load`. Raises InvalidCheckpoint if it does not exist."""
    if model is None or str(model) == STARTER:
        return starter_folder()
    return find(model, model_roots(models))
