"""Reads files of `torch.save` without torch and without running any code in them.

Since torch 1.6 such a file is an uncompressed zip archive:

    NAME/data.pkl       a pickle of everything; storages are references to
    NAME/data/KEY       the numbers of a storage, little-endian
    NAME/byteorder      "little", in newer files

Older files consist of five pickles: a magic number, the protocol's version, system information, the
object, and the list of its storages' keys; then for each key the number of its elements, in 8 bytes, and the
elements. Tensors are mapped, as in safetensors files.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pochade.checkpoints.pickle_machine import MAX_PICKLE_BYTES, Machine
from pochade.checkpoints.pickle_values import Opaque, StoredTensor
from pochade.checkpoints.safetensors import TensorFile
from pochade.checkpoints.safetensors_header import Header, TensorEntry
from pochade.checkpoints.zip_members import zip_members
from pochade.errors import InvalidCheckpoint
from pochade.mapping import map_file

Bytes = npt.NDArray[np.uint8]

ZIP = b"PK\x03\x04"
PICKLES = tuple(bytes([0x80, version]) for version in range(2, 6))
MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
COUNT_BYTES = 8

CONTAINERS = ("state_dict", "string_to_param", "params_ema", "params")
"""Keys under which training runs, embeddings and upscalers nest their tensors; averages come first."""


def is_torch_file(beginning: bytes) -> bool:
    """Whether the first bytes of a file are those of an archive or of a pickle."""
    return beginning.startswith((ZIP, *PICKLES))


def read_torch_file(path: Path) -> TensorFile:
    """Map a file of `torch.save`. If it has any keys of CONTAINERS, the tensors under the first one are
    taken.

    Raises InvalidCheckpoint, without running anything, if the file holds anything other than tensors, plain
    data and known objects of training frameworks.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mapped: Bytes = map_file(file)
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"'{path}' cannot be read: {error}") from error
    if mapped[:4].tobytes() == ZIP:
        content, raw, places, machine = _read_archive(mapped, path)
    else:
        content, raw, places, machine = _read_legacy(mapped, path)
    mapped, places = _with_inline(mapped, places, machine.inline)
    tensors, metadata = _named(content, path)
    entries = {name: _entry(tensor, places, name, path) for name, tensor in tensors.items()}
    header = Header(path, status.st_size, status.st_mtime_ns, raw, entries, metadata, data_start=0)
    return TensorFile(header, mapped)


Places = Mapping[str, tuple[int, int]]
"""Key of a storage -> (begin, end) in the file."""


def _read_archive(mapped: Bytes, path: Path) -> tuple[Any, bytes, Places, Machine]:
    """(the object, its pickle, the locations of the storages, the pickle machine)."""
    members = zip_members(mapped, path)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        _refuse(path, f"the archive holds {len(pickles)} members named data.pkl instead of one")
    root = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{root}code/") for name in members):
        _refuse(path, "it is a TorchScript program, not a file of weights")
    order = members.get(f"{root}byteorder")
    if order is not None and mapped[order[0] : order[1]][:16].tobytes() != b"little":
        _refuse(path, "its numbers are big-endian")
    begin, end = members[pickles[0]]
    if end - begin > MAX_PICKLE_BYTES:
        _refuse(path, f"its pickle has {end - begin:,} bytes; at most {MAX_PICKLE_BYTES:,} are read")
    raw = mapped[begin:end].tobytes()
    prefix = f"{root}data/"
    places = {name.removeprefix(prefix): place for name, place in members.items() if name.startswith(prefix)}
    machine = Machine(io.BytesIO(raw), path)
    return machine.run(), raw, places, machine


def _read_legacy(mapped: Bytes, path: Path) -> tuple[Any, bytes, Places, Machine]:
    """Like `_read_archive`, for the older format."""
    stream = io.BytesIO(mapped[:MAX_PICKLE_BYTES].tobytes())
    machine = Machine(stream, path)
    if machine.run() != MAGIC:
        _refuse(path, "it was not written by torch.save")
    version, system = machine.run(), machine.run()
    if version != LEGACY_PROTOCOL or type(system) is not dict or system.get("little_endian") is not True:
        _refuse(path, f"it is of version {ascii(version)[:40]}, or its numbers are big-endian")
    content, keys = machine.run(), machine.run()
    begin = stream.tell()
    if type(keys) is not list or not all(type(key) is str for key in keys):
        _refuse(path, "its list of storages is damaged")
    sizes = {each.root: 1 if each.dtype is None else each.dtype.itemsize for each in machine.storages}
    places: dict[str, tuple[int, int]] = {}
    at = begin
    for key in keys:
        count = int.from_bytes(mapped[at : at + COUNT_BYTES].tobytes(), "little")
        if key not in sizes or key in places or at + COUNT_BYTES > len(mapped):
            _refuse(path, f"its storage {ascii(key)[:60]} is unused or missing; download it again")
        at += COUNT_BYTES
        places[key] = (at, at + count * sizes[key])
        at = places[key][1]
        if at > len(mapped):
            _refuse(
                path,
                f"its storage {ascii(key)[:60]} ends after the file, which is cut off; download it again",
            )
    return content, stream.getvalue()[:begin], places, machine


def _with_inline(mapped: Bytes, places: Places, inline: Mapping[str, bytes]) -> tuple[Bytes, Places]:
    """Append storages that lie in the pickle itself to a copy of the file.

    Only small files have such storages: a pickle has at most 64 MB.
    """
    if not inline:
        return mapped, places
    found, parts, end = dict(places), [mapped], len(mapped)
    for root, data in inline.items():
        found[root] = (end, end + len(data))
        parts.append(np.frombuffer(data, np.uint8))
        end += len(data)
    return np.concatenate(parts), found


def _named(content: Any, path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors by name, and the integers."""
    if isinstance(content, Opaque):
        _refuse(path, f"it is an object of {content.name}, not tensors by name")
    if not isinstance(content, dict):
        _refuse(path, f"it holds a {type(content).__name__}, not tensors by name")
    inside = [content[key] for key in CONTAINERS if isinstance(content.get(key), dict)]
    table = inside[0] if inside else content
    tensors = {
        name: value for name, value in table.items() if type(name) is str and isinstance(value, StoredTensor)
    }
    if not tensors:
        shown = ", ".join(ascii(name)[:40] for name in list(table)[:5])
        _refuse(path, f"it holds no tensors by name; its keys are: {shown or 'none'}")
    numbers = {
        name: str(value)
        for name, value in content.items()
        if type(name) is str and type(value) is int and abs(value) < 2**63
    }
    return tensors, numbers


def _entry(tensor: StoredTensor, places: Places, name: str, path: Path) -> TensorEntry:
    """The location of a tensor in the file."""
    storage, size = tensor.storage, tensor.dtype.itemsize
    unit = 1 if storage.dtype is None else storage.dtype.itemsize
    if storage.root not in places:
        _refuse(path, f"the storage of tensor {ascii(name)[:100]} is not in the file; download it again")
    place = places[storage.root]
    start = place[0] + storage.offset * unit
    if start + storage.size * unit > place[1]:
        _refuse(path, f"the storage of tensor {ascii(name)[:100]} is shorter than stated; download it again")
    begin = start + tensor.offset * size
    sides = [side - 1 for side in tensor.shape]
    last = sum(side * stride for side, stride in zip(sides, tensor.strides, strict=True))
    end = begin if 0 in tensor.shape else begin + (last + 1) * size
    return TensorEntry(
        tensor.dtype, tensor.shape, begin, end, tuple(stride * size for stride in tensor.strides)
    )


def _refuse(path: Path, why: str) -> NoReturn:
    raise InvalidCheckpoint(f"'{path}' is not a file of weights that can be read: {why}")
