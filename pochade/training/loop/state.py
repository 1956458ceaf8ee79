"""The state of a training run on disk.

`state.safetensors` holds all that a step changes: `parameters.*`, `averaged.*`, the optimizer's moments
`first.*` and `second.*` (Muon has no second ones), and the counts. So a run resumes bit for bit. The file is
replaced atomically.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pochade.atomic import replacing
from pochade.checkpoints import safetensors
from pochade.checkpoints.safetensors import Array, TensorFile
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.training.loop import portable
from pochade.training.loop.optimizer import Optimizers
from pochade.training.parameters import Parameters

STATE = "state.safetensors"
PLAN = "plan.json"
RUN = "run.json"
"""File of the run's provenance, see `run_record`."""


@dataclass(frozen=True)
class Counts:
    """Where a run is.

    step: steps done, the skipped ones too. began: the step at which its optimizer started, 0 unless the
    run was moved. skipped: how many steps were skipped since. in_a_row: how many of them are the last ones.
    """

    step: int = 0
    began: int = 0
    skipped: int = 0
    in_a_row: int = 0

    def after(self, sound: bool) -> "Counts":
        """The counts after one more step; a step that was not sound was skipped."""
        if sound:
            return replace(self, step=self.step + 1, in_a_row=0)
        return replace(self, step=self.step + 1, skipped=self.skipped + 1, in_a_row=self.in_a_row + 1)


@dataclass(frozen=True)
class State:
    """Everything that a step changes."""

    parameters: Parameters
    averaged: Parameters
    optimizer: Optimizers
    counts: Counts

    @property
    def parts(self) -> dict[str, Parameters]:
        """The tensors of every parameter, by the names of their parts in the file."""
        about = {name: self.optimizer.state_of(tensor) for name, tensor in self.parameters.items()}
        return {
            "parameters": self.parameters,
            "averaged": self.averaged,
            "first": {name: moments["exp_avg"] for name, moments in about.items()},
            "second": {
                name: moments["exp_avg_sq"] for name, moments in about.items() if "exp_avg_sq" in moments
            },
        }

    @property
    def updates(self) -> list[torch.Tensor]:
        """How often the optimizer changed each parameter, by name: scalars."""
        return [self.optimizer.state_of(tensor)["step"] for _, tensor in sorted(self.parameters.items())]


def begin(parameters: Parameters, optimizer: Optimizers) -> State:
    """A state before its first step. The optimizer is one of these parameters."""
    means = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    return State(parameters, means, optimizer, Counts())


def restore(state: State, folder: Path, seed: int) -> State:
    """Restore a state from a folder: the complete one or the portable one, whichever is further.

    Without either, the state is returned unchanged. Raises InvalidRequest if they belong to other parameters
    or another seed, InvalidCheckpoint if a file is damaged.
    """
    path = folder / STATE
    whole = _open(path) if path.exists() else None
    packed = portable.unpack(folder)
    if whole is None and packed is None:
        return state
    _check_seed(folder, seed)
    if packed is not None and (whole is None or _count(whole, "step", path) < packed[0]):
        return _from_portable(state, *packed, folder)
    assert whole is not None
    return _from_whole(state, whole, path)


def save(state: State, folder: Path) -> None:
    """Replace the state in a folder. Until the new one is complete on the disk, the old one stays.

    Raises OutputError, with the old state as it was, if the operating system refuses.
    """
    tensors: dict[str, Array] = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().numpy()
        for part, tensors in state.parts.items()
        for name, tensor in tensors.items()
    }
    for name, count in asdict(state.counts).items():
        tensors[name] = np.array(count, np.int64)
    tensors["updates"] = torch.stack(state.updates).to("cpu", torch.int64).numpy()
    safetensors.write(folder / STATE, tensors)


def sweep(folder: Path) -> None:
    """Remove partial files of a killed process."""
    for part in folder.glob(f".{'?' * 16}.part"):
        part.unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether the folder holds a state or portable files."""
    return (folder / STATE).exists() or portable.unpack(folder) is not None


def averaged(folder: str | Path) -> Parameters:
    """The averaged weights of a run, f32; without a state, those of the portable files."""
    folder = Path(folder)
    packed = None if (folder / STATE).exists() else portable.unpack(folder)
    arrays = packed[1] if packed is not None else _part(_open(folder / STATE), "averaged")
    return {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in arrays.items()}


def write_portable(folder: str | Path, output: str | Path) -> list[Path]:
    """Write a portable copy of the run in `folder` to `output`. Returns the files to copy.

    A training whose folder is `output` resumes from them with a new optimizer, after a short warm-up.

    Raises InvalidCheckpoint if there is no state or a damaged one, OutputError if the system refuses.
    """
    folder, output = Path(folder), Path(output)
    path = folder / STATE
    whole = _open(path)
    files = portable.pack(_part(whole, "averaged"), _count(whole, "step", path), output)
    for name in (PLAN, RUN):
        if not (folder / name).exists():
            continue
        if folder.resolve() != output.resolve():
            with (folder / name).open("rb") as source, replacing(output / name) as file:
                shutil.copyfileobj(source, file)
        files = [*files, output / name]
    return files


def _from_whole(state: State, stored: TensorFile, path: Path) -> State:
    _check_names(state.parameters, _part(stored, "parameters"), path)
    counts = Counts(_count(stored, "step", path))
    updates = np.full(len(state.parameters), counts.step)
    if "updates" in stored:  # states written before there were such counts had skipped nothing
        counts = Counts(**{name: _count(stored, name, path) for name in asdict(counts)})
        updates = stored["updates"]
        if updates.shape != (len(state.parameters),):
            raise _damaged(f"'{path}' has 'updates' of the shape {updates.shape}")
    with torch.no_grad():
        for part, tensors in state.parts.items():
            for name, tensor in tensors.items():
                array = stored.get(f"{part}.{name}")
                if array is None or array.shape != tuple(tensor.shape):
                    raise _damaged(f"'{path}' has no '{part}.{name}' of the shape {tuple(tensor.shape)}")
                tensor.copy_(torch.from_numpy(array))
        for count, value in zip(state.updates, updates, strict=True):
            count.fill_(int(value))
    return replace(state, counts=counts)


def _from_portable(state: State, step: int, weights: Mapping[str, Array], folder: Path) -> State:
    _check_names(state.parameters, weights, folder / portable.NAME.format("*", "*"))
    with torch.no_grad():
        for name, tensor in state.parameters.items():
            tensor.copy_(torch.from_numpy(weights[name]))
            state.averaged[name].copy_(tensor)
    return replace(state, counts=Counts(step=step, began=step))


def _check_seed(folder: Path, seed: int) -> None:
    """Under another seed the steps to come would not be those of this run."""
    path = folder / PLAN
    if not path.exists():
        return
    try:
        began = json.loads(path.read_text(encoding="utf-8"))["seed"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidCheckpoint(
            f"'{path}' is damaged; delete it if the run began with seed {seed}, and it will go on"
        ) from error
    if began != seed:
        raise InvalidRequest(
            f"the run in '{folder}' began with seed {began}, and the plan now says seed {seed};"
            f" keep {began}, or choose another folder"
        )


def _check_names(parameters: Parameters, stored: Mapping[str, Array], path: Path) -> None:
    differences = [f"'{name}' is only there" for name in stored if name not in parameters]
    for name, tensor in parameters.items():
        if name not in stored:
            differences.append(f"'{name}' is only here")
        elif stored[name].shape != tuple(tensor.shape):
            differences.append(f"'{name}' is {stored[name].shape} there and {tuple(tensor.shape)} here")
    if differences:
        more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
        raise InvalidRequest(
            f"'{path}' was trained with other parameters: {'; '.join(differences[:3])}{more};"
            " keep the settings that it began with, or choose another folder"
        )


def _part(stored: TensorFile, part: str) -> dict[str, Array]:
    prefix = part + "."
    return {name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)}


def _count(stored: TensorFile, name: str, path: Path) -> int:
    array = stored.get(name)
    if array is None or array.shape != () or array.dtype.kind != "i" or array < 0:
        raise _damaged(f"'{path}' has no count '{name}'")
    return int(array)


def _open(path: Path) -> TensorFile:
    try:
        return safetensors.read(path)
    except InvalidCheckpoint as error:
        raise (_damaged(str(error)) if path.exists() else error) from error


def _damaged(fault: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"{fault}. Put a copy of the file in its place; or delete it, and the run starts again, or from the"
        " portable files if there are any"
    )
