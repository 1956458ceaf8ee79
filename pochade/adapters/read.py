"""Reading an adapter's file: LoRA, LoCon, LoHa, LoKr, DoRA and whole differences, in every way of naming."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from pochade.adapters.assemble import Factors
from pochade.adapters.deltas import Delta, Linear, Part, Whole, matrix_size
from pochade.adapters.families import adapter_family, belonging, model_family
from pochade.adapters.files import AdapterFile, adapter_files
from pochade.adapters.keys import Place, places, split_key
from pochade.adapters.library import stem
from pochade.adapters.view import Deltas
from pochade.checkpoints.check import check_finite
from pochade.checkpoints.few_steps import FewSteps, find_few_steps, titles_of
from pochade.checkpoints.fingerprint import fingerprint
from pochade.errors import InvalidCheckpoint
from pochade.ops import Shape

Array = NDArray[Any]
Components = Mapping[str, Mapping[str, Shape]]
"""Component, as "unet" -> canonical name of a tensor -> its shape."""

HASH_DIGITS = 12


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a file adds to a model. name: the file's stem. deltas: for each component that it changes."""

    name: str
    files: tuple[AdapterFile, ...]
    deltas: Mapping[str, Deltas]
    fingerprint: str

    @cached_property
    def few_steps(self) -> FewSteps | None:
        """What it makes of a model, if it was distilled for drawing in a few steps, as LCM-LoRA was."""
        return _few_steps(self.files[0])

    @cached_property
    def hash(self) -> str:
        """12 hexadecimal digits, as A1111 names LoRAs: of the SHA-256 of all tensors, the header left out.

        kohya's trainer stores it as `sshs_model_hash`. It stays the same when notes are added to the file.
        """
        stored = self.files[0].tensors.metadata.get("sshs_model_hash", "").lower()
        if re.fullmatch(r"[0-9a-f]{64}", stored):
            return stored[:HASH_DIGITS]
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.tensors.mapped[file.tensors.header.data_start :].data)
        return digest.hexdigest()[:HASH_DIGITS]


def few_steps_of_adapter(path: Path | str) -> FewSteps | None:
    """`Adapter.few_steps` of a file, from its header. Raises InvalidCheckpoint for a damaged one."""
    return _few_steps(adapter_files(Path(path))[0])


def _few_steps(file: AdapterFile) -> FewSteps | None:
    return find_few_steps(titles=titles_of(file.tensors.metadata), name=stem(file.path), is_adapter=True)


def read_adapter(path: Path | str, components: Components) -> Adapter:
    """Read an adapter for a model that has these tensors.

    path: a safetensors file, or a folder as PEFT or diffusers write it. Only its header is used at once; its
    numbers are looked through, but kept in the file.

    Raises InvalidCheckpoint, naming key and reason, for one that is damaged, that has a key that the model
    has no place for, or whose shapes are those of another model.
    """
    path = Path(path)
    files = adapter_files(path)
    deltas: dict[str, dict[str, Delta]] = {}
    for file in files:
        reader = _Reader(file, components)
        for component, name, delta in reader.deltas():
            if name in deltas.setdefault(component, {}):
                reader.refuse(f"it changes '{name}' twice, under two names")
            deltas[component][name] = delta
    name = path.stem if path.suffix else path.name
    return Adapter(name, files, deltas, fingerprint([file.tensors for file in files], _scales(files)))


@dataclass(frozen=True, eq=False)
class _Reader:
    file: AdapterFile
    components: Components

    def deltas(self) -> list[tuple[str, str, Delta]]:
        """(component, canonical name, what is added)."""
        tensors = self.file.tensors
        layers: dict[str, dict[str, str]] = {}
        for key in tensors:
            split = split_key(key)
            if split is None:
                self._unknown(key)
            layer, part = split
            if part in layers.setdefault(layer, {}):
                self.refuse(f"both '{layers[layer][part]}' and '{key}' are in it, two names of one factor")
            layers[layer][part] = key
        if not layers:
            self.refuse("there is no tensor in it")
        known = places(self.components, self.file.component)
        for layer, keys in layers.items():
            if layer not in known:
                self._unknown(next(iter(keys.values())))
        check_finite(tensors, self.file.path)
        for key, entry in tensors.header.entries.items():
            if entry.dtype.kind == "c":
                self.refuse(f"its tensor '{key}' holds complex numbers")
        found = []
        for layer, keys in layers.items():
            try:
                found += self._layer(layer, keys, known[layer])
            except InvalidCheckpoint as error:
                self.refuse(str(error))
        return found

    def _layer(self, layer: str, keys: Mapping[str, str], place: Place) -> list[tuple[str, str, Delta]]:
        parts = {part: self.file.tensors[key] for part, key in keys.items()}
        factors = Factors(layer, parts, keys, self._scale(place))
        found: list[tuple[str, str, Delta]] = []
        delta = factors.delta()
        if delta is not None:
            key = next(key for part, key in keys.items() if part != "alpha")
            for name, each in self._shared(layer, key, delta, place):
                shape = self._shape(place.component, name, key)
                found.append((place.component, name, factors.decomposed(each, shape)))
        if "diff_b" in parts:
            if len(place.modules) > 1:
                factors.refuse(f"has '{keys['diff_b']}', which is not read for a fused matrix")
            name = f"{place.modules[0]}.bias"
            shape = self._shape(place.component, name, keys["diff_b"])
            if parts["diff_b"].size != shape[0]:
                self._other_shape(keys["diff_b"], parts["diff_b"].shape, name, shape)
            found.append((place.component, name, Whole(parts["diff_b"])))
        return found

    def _shared(self, layer: str, key: str, delta: Linear, place: Place) -> list[tuple[str, Linear]]:
        """(canonical name, its share), for one weight or for those that the adapter sees as one."""
        names = [f"{module}.weight" for module in place.modules]
        shapes = [self._shape(place.component, name, key) for name in names]
        rows = sum(shape[0] for shape in shapes)
        columns = matrix_size(shapes[0])[1]
        if delta.size != (rows, columns):
            self._other_shape(layer, delta.size, names[0], (rows, *shapes[0][1:]))
        if len(names) == 1:
            return [(names[0], delta)]
        ends = [sum(shape[0] for shape in shapes[: i + 1]) for i in range(len(shapes))]
        return [
            (name, Part(delta, end - shape[0], end, columns))
            for name, shape, end in zip(names, shapes, ends, strict=True)
        ]

    def _shape(self, component: str, name: str, key: str) -> Shape:
        shape = self.components[component].get(name)
        if shape is None:
            self._unknown(key)
        return shape

    def _scale(self, place: Place) -> Callable[[int], float]:
        return lambda rank: self.file.scale(place.component, place.modules[0], rank)

    # --- what is wrong ----------------------------------------------------------------------------------

    def refuse(self, why: str) -> NoReturn:
        raise InvalidCheckpoint(f"'{self.file.path}' cannot be used as an adapter: {why}")

    def _unknown(self, key: str) -> NoReturn:
        self.refuse(f"its tensor {ascii(key)[:200]} belongs to no layer of this model{self._belonging()}")

    def _other_shape(self, key: str, size: tuple[int, ...], name: str, shape: Shape) -> NoReturn:
        raise InvalidCheckpoint(
            f"'{key}' makes a change of shape {size} to '{name}', which has shape {shape}{self._belonging()}"
        )

    def _belonging(self) -> str:
        shapes = {key: entry.shape for key, entry in self.file.tensors.header.entries.items()}
        return belonging(adapter_family(shapes, self.file.tensors.metadata), model_family(self.components))


def _scales(files: tuple[AdapterFile, ...]) -> bytes:
    """The part of the result that is not in the tensors' files."""
    return repr([(file.config, file.component) for file in files]).encode()
