"""Reads adapters: LoRA, LoCon, LoHa, LoKr, DoRA and full differences, in every naming scheme."""

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from pochade.adapters.assemble import Factors
from pochade.adapters.deltas import Delta, FullDelta, LinearDelta, RowSlice, matrix_size
from pochade.adapters.families import adapter_family, family_mismatch, model_family
from pochade.adapters.files import AdapterFile, adapter_files
from pochade.adapters.keys import AdaptedLayer, layer_names, split_key
from pochade.adapters.library import stem
from pochade.adapters.view import Deltas
from pochade.checkpoints.check import check_finite
from pochade.checkpoints.few_steps import FewSteps, find_few_steps, titles_of
from pochade.checkpoints.fingerprint import fingerprint
from pochade.errors import InvalidCheckpoint
from pochade.ops import Shape

Array = NDArray[Any]
Components = Mapping[str, Mapping[str, Shape]]
"""Component, such as "unet" -> canonical name of a tensor -> its shape."""

HASH_DIGITS = 12


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter. name: the file's stem. deltas: for each component that it changes.

    unknown: the keys of tensors for layers that the model does not have; they are ignored.
    """

    name: str
    files: tuple[AdapterFile, ...]
    deltas: Mapping[str, Deltas]
    fingerprint: str
    unknown: tuple[str, ...] = ()

    @cached_property
    def few_steps(self) -> FewSteps | None:
        """The settings that it requires, if it was distilled for few steps, such as LCM-LoRA."""
        return _few_steps(self.files[0])

    @cached_property
    def hash(self) -> str:
        """12 hexadecimal digits of the SHA-256 of all tensors without the header, as in A1111.

        kohya's trainer stores it as `sshs_model_hash`. It does not change when metadata are edited.
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

    path: a safetensors file, or a folder as PEFT or diffusers write it. Its numbers are checked, but stay in
    the file.

    Keys of layers that the model does not have are ignored with a warning that counts them. Raises
    InvalidCheckpoint, naming key and reason, for an adapter that is damaged, of which nothing fits, or whose
    keys or shapes are those of another family.
    """
    path = Path(path)
    files = adapter_files(path)
    deltas: dict[str, dict[str, Delta]] = {}
    unknown: list[str] = []
    for file in files:
        reader = _Reader(file, components)
        found = reader.deltas()
        unknown += reader.unknown
        for component, name, delta in found:
            if name in deltas.setdefault(component, {}):
                reader.refuse(f"it changes '{name}' twice, under two names")
            deltas[component][name] = delta
    if unknown:
        count = sum(len(file.tensors.header.entries) for file in files)
        warnings.warn(
            f"{len(unknown)} of the {count} tensors in '{path}' belong to no layer of this model and are left"
            f" out, the first of them {ascii(unknown[0])[:200]}",
            RuntimeWarning,
            stacklevel=2,
        )
    name = path.stem if path.suffix else path.name
    mark = fingerprint([file.tensors for file in files], _scales(files))
    return Adapter(name, files, deltas, mark, tuple(unknown))


class _NoPlace(Exception):
    """The model has no tensor of this name."""


@dataclass(frozen=True, eq=False)
class _Reader:
    file: AdapterFile
    components: Components
    unknown: list[str] = field(default_factory=list)

    def deltas(self) -> list[tuple[str, str, Delta]]:
        """Yield (component, canonical name, delta). Keys of unknown layers are collected in `unknown`."""
        tensors = self.file.tensors
        layers: dict[str, dict[str, str]] = {}
        for key in tensors:
            split = split_key(key)
            if split is None:
                self.unknown.append(key)
                continue
            layer, part = split
            if part in layers.setdefault(layer, {}):
                self.refuse(f"both '{layers[layer][part]}' and '{key}' are in it, two names of one factor")
            layers[layer][part] = key
        if not layers and not self.unknown:
            self.refuse("it holds no tensors")
        known = layer_names(self.components, self.file.component)
        for layer in [layer for layer in layers if layer not in known]:
            self.unknown.extend(layers.pop(layer).values())
        if self.unknown and (not layers or self._of_another_family()):
            self._refuse_unknown()
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
        if not found:
            self._refuse_unknown()
        return found

    def _layer(
        self, layer: str, keys: Mapping[str, str], place: AdaptedLayer
    ) -> list[tuple[str, str, Delta]]:
        parts = {part: self.file.tensors[key] for part, key in keys.items()}
        factors = Factors(layer, parts, keys, self._scale(place))
        found: list[tuple[str, str, Delta]] = []
        delta = factors.delta()
        if delta is not None:
            try:
                for name, each in self._shared(layer, delta, place):
                    shape = self._shape(place.component, name)
                    found.append((place.component, name, factors.decomposed(each, shape)))
            except _NoPlace:
                self.unknown.extend(key for part, key in keys.items() if part != "diff_b")
        if "diff_b" in parts:
            if len(place.modules) > 1:
                factors.refuse(f"has '{keys['diff_b']}', which is not read for a fused matrix")
            name = f"{place.modules[0]}.bias"
            try:
                shape = self._shape(place.component, name)
            except _NoPlace:
                self.unknown.append(keys["diff_b"])
                return found
            if parts["diff_b"].size != shape[0]:
                self._other_shape(keys["diff_b"], parts["diff_b"].shape, name, shape)
            found.append((place.component, name, FullDelta(parts["diff_b"])))
        return found

    def _shared(self, layer: str, delta: LinearDelta, place: AdaptedLayer) -> list[tuple[str, LinearDelta]]:
        """Yield (canonical name, delta) for one weight, or for each weight that the adapter fuses."""
        names = [f"{module}.weight" for module in place.modules]
        shapes = [self._shape(place.component, name) for name in names]
        rows = sum(shape[0] for shape in shapes)
        columns = matrix_size(shapes[0])[1]
        if delta.size != (rows, columns):
            self._other_shape(layer, delta.size, names[0], (rows, *shapes[0][1:]))
        if len(names) == 1:
            return [(names[0], delta)]
        ends = [sum(shape[0] for shape in shapes[: i + 1]) for i in range(len(shapes))]
        return [
            (name, RowSlice(delta, end - shape[0], end, columns))
            for name, shape, end in zip(names, shapes, ends, strict=True)
        ]

    def _shape(self, component: str, name: str) -> Shape:
        shape = self.components[component].get(name)
        if shape is None:
            raise _NoPlace
        return shape

    def _scale(self, place: AdaptedLayer) -> Callable[[int], float]:
        return lambda rank: self.file.scale(place.component, place.modules[0], rank)

    # --- what is wrong ----------------------------------------------------------------------------------

    def refuse(self, why: str) -> NoReturn:
        raise InvalidCheckpoint(f"'{self.file.path}' cannot be used as an adapter: {why}")

    def _refuse_unknown(self) -> NoReturn:
        key = ascii(self.unknown[0])[:200]
        self.refuse(f"its tensor {key} belongs to no layer of this model{self._belonging()}")

    def _other_shape(self, key: str, size: tuple[int, ...], name: str, shape: Shape) -> NoReturn:
        raise InvalidCheckpoint(
            f"'{key}' makes a change of shape {size} to '{name}', which has shape {shape}{self._belonging()}"
        )

    def _of_another_family(self) -> bool:
        adapter, model = self._families()
        return adapter is not None and model is not None and adapter != model

    def _belonging(self) -> str:
        return family_mismatch(*self._families())

    def _families(self) -> tuple[str | None, str | None]:
        """The families of the adapter and of the model, as far as they are known."""
        shapes = {key: entry.shape for key, entry in self.file.tensors.header.entries.items()}
        return adapter_family(shapes, self.file.tensors.metadata), model_family(self.components)


def _scales(files: tuple[AdapterFile, ...]) -> bytes:
    """The configuration that affects the result besides the tensors."""
    return repr([(file.config, file.component) for file in files]).encode()
