"""A restricted pickle interpreter that can only build tensors and plain data.

A pickle is a program. Python's unpickler imports any module and calls anything in it, so a model file can run
arbitrary code. This interpreter knows the names that torch files consist of and never imports any of them.
Functions in this file implement their calls. Objects left by training frameworks are not built: an empty
`Opaque` replaces them. Any other name is an error.

Time and memory are bounded by the size of the pickle and the number of its steps; nothing is built that is
larger than the bytes that describe it.
"""

import io
import math
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pochade.checkpoints.pickle_values import (
    DTYPES,
    NUMPY_TYPES,
    STORAGE_MODULES,
    STORAGES,
    Global,
    NumpyArray,
    NumpyType,
    Opaque,
    ParameterTable,
    StoredTensor,
    TensorStorage,
)
from pochade.errors import InvalidCheckpoint

MAX_PICKLE_BYTES = 64_000_000
MAX_STEPS = 4_000_000  # the largest checkpoints with their optimizer take half a million
MAX_RANK = 32
MAX_PROTOCOL = 5
MAX_KEY = 2**32  # of a number in a dictionary; larger ones could be chosen to collide

# Objects that training frameworks store next to the weights. They are not built.
TRAINING_MODULES = (
    "pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "torchmetrics", "omegaconf",
    "torch.optim", "torch.nn", "ldm", "sgm", "diffusers", "transformers", "accelerate", "argparse", "pathlib",
    "typing", "enum", "datetime", "uuid",
)  # fmt: skip
TRAINING_OBJECTS = {
    *((module, name) for module in ("builtins", "__builtin__") for name in (
        "set", "frozenset", "list", "dict", "tuple", "int", "float", "bool", "str", "bytes", "complex",
        "object", "slice", "range", "long", "unicode",
    )),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    ("numpy", "ndarray"), ("collections", "defaultdict"),
    ("collections", "Counter"), ("collections", "deque"), ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"), ("torch", "device"), ("torch", "Size"), ("torch", "Tensor"),
    ("torch.serialization", "_get_layout"), ("torch.torch_version", "TorchVersion"),
}  # fmt: skip


class _Mark:
    """The mark on the stack in front of the items of a container."""


MARK = _Mark()


class Machine:
    """Interprets consecutive pickles in `stream`. where: the file's name for messages."""

    def __init__(self, stream: io.BytesIO, where: Path) -> None:
        self.stream = stream
        self.where = where
        self.steps = 0
        self.storages: list[TensorStorage] = []  # all referenced storages
        self.inline: dict[str, bytes] = {}  # storages inside the pickle: root -> bytes

    def run(self) -> Any:
        """Return the object of the next pickle. Raises InvalidCheckpoint and no other exception."""
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(self.stream):
                self._spend(1)
                if opcode.name == "STOP":
                    return self._pop()
                step = STEPS.get(opcode.name)
                if step is None:
                    self.refuse(f"it uses the opcode {opcode.name}, which weights do not need")
                step(self, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidCheckpoint(
                f"'{self.where}' is a damaged pickle ({type(error).__name__}: {str(error)[:100]}); fetch it"
                " again"
            ) from error
        self.refuse("it has no STOP opcode")

    def refuse(self, why: str) -> NoReturn:
        """Raise InvalidCheckpoint. Nothing in the pickle has been executed."""
        raise InvalidCheckpoint(
            f"'{self.where}' is a pickle that cannot be read: {why}. Nothing in it was executed; use a"
            " safetensors file of the model if there is one"
        )

    # --- the stack --------------------------------------------------------------------------------

    def _spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            self.refuse(f"it takes more than {MAX_STEPS:,} steps")

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a mark instead of a value")
        return value

    def _pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (value := self.stack.pop()) is not MARK:
            items.append(value)
        return items[::-1]

    def _top(self) -> Any:
        if self.stack[-1] is MARK:
            raise ValueError("a mark instead of a value")
        return self.stack[-1]

    # --- containers -------------------------------------------------------------------------------

    def put_items(self, items: list[Any]) -> None:
        """Add alternating keys and values to the dictionary on top of the stack."""
        target = self._top()
        if isinstance(target, Opaque):
            return
        if type(target) is not dict or len(items) % 2:
            raise ValueError(f"items for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Tensors have string keys. Hashing a tuple as a key would recurse to an unbounded depth.
            if type(key) is str or (type(key) is int and abs(key) < MAX_KEY):
                target[key] = value

    def append(self, items: list[Any]) -> None:
        """Extend the list on top of the stack."""
        target = self._top()
        if isinstance(target, Opaque):
            return
        if type(target) is not list:
            raise ValueError(f"elements for a {type(target).__name__}")
        target.extend(items)

    # --- names and calls --------------------------------------------------------------------------

    def name(self, module: Any, name: Any) -> None:
        """Push a global name, if it is one that files of weights use."""
        if type(module) is not str or type(name) is not str:
            self.refuse("it contains a global name that is not text")
        known = (
            (module, name) in CALLS
            or (module, name) in TRAINING_OBJECTS
            or (module in STORAGE_MODULES and name in STORAGES)
            or (module == "torch" and name in DTYPES)
            or any(module == each or module.startswith(f"{each}.") for each in TRAINING_MODULES)
        )
        if not known or "." in name:
            shown = ascii(f"{module}.{name}"[:100])[1:-1]
            self.refuse(f"it imports '{shown}', which weights do not need and which may be an attack")
        self.stack.append(Global(module, name))

    def call(self, function: Any, arguments: Any) -> None:
        """Push the result of a call: a tensor or dictionary for a known name, else an `Opaque`."""
        if not isinstance(function, (Global, Opaque)):
            self.refuse(f"it calls a {type(function).__name__}")
        if type(arguments) is not tuple:
            raise ValueError("a call needs a tuple of arguments")
        known = CALLS.get((function.module, function.name)) if isinstance(function, Global) else None
        if known is not None:
            self.stack.append(known(self, arguments))
        else:
            self.stack.append(Opaque(str(function) if isinstance(function, Global) else function.name))

    def build(self, state: Any) -> None:
        """Set the state of the object on top of the stack; it only matters for numpy arrays and parameter
        tables."""
        target = self._top()
        if isinstance(target, ParameterTable):
            given = state.get("_parameters") if type(state) is dict else None
            if type(given) is dict:
                self._spend(len(given))
                target.update({name: value for name, value in given.items() if type(name) is str})
        elif isinstance(target, NumpyType):
            if type(state) is tuple and len(state) > 1 and type(state[1]) is str:
                target.order = state[1]
        elif isinstance(target, NumpyArray):
            if type(state) is tuple and len(state) == 5 and type(state[4]) is bytes:
                _, target.shape, target.dtype, target.fortran, target.data = state
        elif not isinstance(target, (Opaque, StoredTensor)) and type(target) is not dict:
            self.refuse(f"it sets the state of a {type(target).__name__}")

    def persistent(self, persistent_id: Any) -> None:
        """Push the storage of `("storage", type, key, device, size)`, or the name in `("module", class, file,
        source)`, by which versions before 1.6 refer to classes of networks."""
        if (
            type(persistent_id) is tuple
            and len(persistent_id) == 4
            and persistent_id[0] == "module"
            and isinstance(persistent_id[1], Global)
        ):
            self.stack.append(persistent_id[1])
            return
        if (
            type(persistent_id) is not tuple
            or len(persistent_id) not in (5, 6)
            or persistent_id[0] != "storage"
        ):
            self.refuse("it has a persistent id that is not a tensor storage")
        kind, key, size = persistent_id[1], persistent_id[2], persistent_id[4]
        if not isinstance(kind, Global) or kind.module not in STORAGE_MODULES or kind.name not in STORAGES:
            self.refuse("it has a storage of an unknown type")
        if type(key) is not str or not key.isalnum() or len(key) > 32:  # old files number by address
            self.refuse(f"it has a storage with the impossible key {ascii(key)[:60]}")
        view = persistent_id[5] if len(persistent_id) == 6 else None
        offset = 0
        if view is not None:
            if type(view) is not tuple or len(view) != 3 or not _are_counts(view[1:]):
                self.refuse("it has a storage with an impossible view")
            offset, size = view[1], view[2]
        if not _are_counts((size,)):
            self.refuse(f"it has a storage of impossible size {ascii(size)[:60]}")
        self.storages.append(TensorStorage(key, STORAGES[kind.name], size, offset))
        self.stack.append(self.storages[-1])

    # --- memory -----------------------------------------------------------------------------------

    def put(self, place: Any) -> None:
        self.memo[place] = self._top()

    def get(self, place: Any) -> None:
        self.stack.append(self.memo[place])


# --- calls ----------------------------------------------------------------------------------------------


def _tensor(machine: Machine, arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_tensor, and _v2 with more arguments, which are ignored."""
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, TensorStorage) or storage.dtype is None:
        machine.refuse("it has a tensor without a storage of its type")
    return _checked(machine, storage, storage.dtype, storage.size, (offset, shape, strides))


def _typed_tensor(machine: Machine, arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_tensor_v3, whose storage is bytes."""
    storage, offset, shape, strides, _, _, kind = arguments[:7]
    if not isinstance(storage, TensorStorage) or not isinstance(kind, Global) or kind.name not in DTYPES:
        machine.refuse("it has a tensor of an unknown type")
    dtype = DTYPES[kind.name]
    size = storage.size // dtype.itemsize if storage.dtype is None else storage.size
    return _checked(machine, storage, dtype, size, (offset, shape, strides))


def _checked(
    machine: Machine, storage: TensorStorage, dtype: np.dtype[Any], size: int, window: tuple[Any, Any, Any]
) -> StoredTensor:
    """Check that a tensor lies inside a storage of `size` elements and contains each at most once."""
    offset, shape, strides = window
    if (
        type(shape) is not tuple
        or type(strides) is not tuple
        or len(shape) != len(strides)
        or len(shape) > MAX_RANK
        or not _are_counts((offset, *shape, *strides))
    ):
        machine.refuse("it has a tensor of an impossible shape")
    count = math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if count and (last >= size or count > size):
        machine.refuse(f"it has a tensor of shape {shape} that does not fit its storage of {size:,} numbers")
    return StoredTensor(storage, dtype, offset, shape, strides)


def _parameter(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    """torch._utils._rebuild_parameter: returns the tensor."""
    return arguments[0]


def _subclass(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with attributes, which are ignored."""
    function, _, inner = arguments[:3]
    build = PLAIN_TENSORS.get(function.name) if isinstance(function, Global) else None
    if build is None or type(inner) is not tuple:
        machine.refuse("it has a tensor of an unknown kind")
    return build(machine, inner)


def _dictionary(machine: Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """collections.OrderedDict, empty or from a list of pairs."""
    if not arguments:
        return {}
    (pairs,) = arguments
    if type(pairs) is not list:
        raise ValueError("an ordered dictionary without a list")
    machine._spend(len(pairs))  # copying counts, so that a short pickle cannot copy a long list many times
    result: dict[Any, Any] = {}
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise ValueError("an ordered dictionary without pairs")
        if type(pair[0]) is str:
            result[pair[0]] = pair[1]
    return result


def _parameter_table(machine: Machine, arguments: tuple[Any, ...]) -> ParameterTable:
    """torch.nn.ParameterDict, whose attributes hold the tensors (see `Machine.build`)."""
    return ParameterTable()


def _encoded(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    """_codecs.encode: how protocol 2 writes bytes."""
    if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] not in ("latin1", "latin-1"):
        return Opaque("_codecs.encode")
    machine._spend(len(arguments[0]) // 64)  # it copies
    return arguments[0].encode("latin-1")


def _no_bytes(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    """bytes(), which is how protocol 2 writes empty bytes."""
    return Opaque("bytes") if arguments else b""


def _numpy_type(machine: Machine, arguments: tuple[Any, ...]) -> Any:
    """numpy.dtype("f4", ...)."""
    code = arguments[0] if arguments else None
    return NumpyType(code.lstrip("<>=|")) if type(code) is str else Opaque("numpy.dtype")


def _numpy_array(machine: Machine, arguments: tuple[Any, ...]) -> NumpyArray:
    """numpy's _reconstruct; its state follows (see `Machine.build`)."""
    return NumpyArray()


def _device_tensor(machine: Machine, arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_device_tensor_from_numpy: what torch writes for tensors on Metal and on TPUs."""
    array, kind = arguments[:2]
    if not isinstance(array, NumpyArray) or not isinstance(array.dtype, NumpyType):
        machine.refuse("it has a tensor made of something that is not an array")
    if array.dtype.code not in NUMPY_TYPES or array.dtype.order not in ("<", "|", "="):
        machine.refuse(f"it has a tensor of numpy's type {ascii(array.dtype.code)[:20]}, or big-endian")
    if not isinstance(kind, Global) or kind.module != "torch" or kind.name not in DTYPES:
        machine.refuse("it has a tensor of an unknown type")
    dtype, data = np.dtype(array.dtype.code), array.data
    if kind.name == "bfloat16" and dtype == np.float32:  # numpy has no bfloat16, so torch writes f32
        machine._spend(len(data) // 64)  # it copies
        dtype = DTYPES[kind.name]
        data = np.frombuffer(data[: len(data) // 4 * 4], "<f4").astype(dtype).tobytes()
    if DTYPES[kind.name] != dtype:
        machine.refuse(f"it has a tensor of {kind.name} in an array of {dtype.name}")
    if type(array.shape) is not tuple or len(array.shape) > MAX_RANK or not _are_counts(array.shape):
        machine.refuse("it has a tensor of an impossible shape")
    sides = array.shape if array.fortran else array.shape[::-1]
    steps = [1]
    for side in sides[:-1]:
        steps.append(steps[-1] * max(side, 1))
    strides = tuple(steps if array.fortran else steps[::-1])[: len(array.shape)]
    storage = TensorStorage(f"inline {len(machine.inline)}", dtype, len(data) // dtype.itemsize)
    machine.inline[storage.root] = data
    return _checked(machine, storage, dtype, storage.size, (0, array.shape, strides))


def _device_tensor_of_tensor(machine: Machine, arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_device_tensor_from_cpu_tensor, in later versions: a TPU tensor stored as a CPU
    tensor, with its type."""
    tensor, kind = arguments[:2]
    if not isinstance(tensor, StoredTensor):
        machine.refuse("it has a tensor made of something that is not a tensor")
    if not isinstance(kind, Global) or DTYPES.get(kind.name) != tensor.dtype:
        machine.refuse(f"it converts a tensor of {tensor.dtype.name} to another type")
    return tensor


def _unreadable(kind: str) -> "Call":
    """Return a call that refuses a kind of tensor that is never used for weights."""

    def refuse(machine: Machine, arguments: tuple[Any, ...]) -> NoReturn:
        machine.refuse(f"it has a {kind} tensor, which is not read")

    return refuse


def _are_counts(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


Call = Callable[[Machine, tuple[Any, ...]], Any]

PLAIN_TENSORS: Mapping[str, Call] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _typed_tensor,
}
CALLS: Mapping[tuple[str, str], Call] = {
    **{("torch._utils", name): call for name, call in PLAIN_TENSORS.items()},
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _device_tensor,
    ("torch._utils", "_rebuild_xla_tensor"): _device_tensor,  # the former name
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _device_tensor_of_tensor,
    ("torch._utils", "_rebuild_sparse_tensor"): _unreadable("sparse"),
    ("torch._utils", "_rebuild_qtensor"): _unreadable("quantized"),
    ("torch._utils", "_rebuild_nested_tensor"): _unreadable("nested"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _unreadable("meta"),
    ("torch.nn.modules.container", "ParameterDict"): _parameter_table,
    ("_codecs", "encode"): _encoded,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "dtype"): _numpy_type,
    ("numpy.core.multiarray", "_reconstruct"): _numpy_array,
    ("numpy._core.multiarray", "_reconstruct"): _numpy_array,
    ("collections", "OrderedDict"): _dictionary,
}


# --- the opcodes ----------------------------------------------------------------------------------------


def _push(machine: Machine, value: Any) -> None:
    machine.stack.append(value)


def _protocol(machine: Machine, version: int) -> None:
    if version > MAX_PROTOCOL:
        machine.refuse(f"it has the unknown protocol {version}")


def _global(machine: Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.name(module, name)


def _stack_global(machine: Machine, _: None) -> None:
    name, module = machine._pop(), machine._pop()
    machine.name(module, name)


def _reduce(machine: Machine, _: None) -> None:
    arguments, function = machine._pop(), machine._pop()
    machine.call(function, arguments)


def _new_with_keywords(machine: Machine, _: None) -> None:
    machine._pop()
    _reduce(machine, None)


def _old_class(machine: Machine, _: None) -> None:
    kind, *arguments = machine._pop_to_mark()
    machine.call(kind, tuple(arguments))


def _instance(machine: Machine, argument: str) -> None:
    arguments = tuple(machine._pop_to_mark())
    _global(machine, argument)
    machine.call(machine._pop(), arguments)


def _build(machine: Machine, _: None) -> None:
    machine.build(machine._pop())


def _tuple(machine: Machine, count: int) -> None:
    items = [machine._pop() for _ in range(count)]
    machine.stack.append(tuple(items[::-1]))


def _dict(machine: Machine, _: None) -> None:
    items = machine._pop_to_mark()
    machine.stack.append({})
    machine.put_items(items)


def _set_item(machine: Machine, _: None) -> None:
    value, key = machine._pop(), machine._pop()
    machine.put_items([key, value])


def _append(machine: Machine, _: None) -> None:
    machine.append([machine._pop()])


def _frozen_set(machine: Machine, _: None) -> None:
    machine._pop_to_mark()
    machine.stack.append(Opaque("frozenset"))


Step = Callable[[Machine, Any], object]

STEPS: Mapping[str, Step] = {
    "PROTO": _protocol,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.stack.append(MARK),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine._pop_to_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine._top()),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _push),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"), _push),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _push),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "LIST": lambda machine, _: machine.stack.append(machine._pop_to_mark()),
    "APPEND": _append,
    "APPENDS": lambda machine, _: machine.append(machine._pop_to_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine._pop_to_mark())),
    "TUPLE1": lambda machine, _: _tuple(machine, 1),
    "TUPLE2": lambda machine, _: _tuple(machine, 2),
    "TUPLE3": lambda machine, _: _tuple(machine, 3),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.put_items(machine._pop_to_mark()),
    "EMPTY_SET": lambda machine, _: machine.stack.append(Opaque("set")),
    "ADDITEMS": lambda machine, _: machine._pop_to_mark(),
    "FROZENSET": _frozen_set,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.put),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "OBJ": _old_class,
    "INST": _instance,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.persistent(machine._pop()),
}
"""Opcode -> implementation. Extensions, out-of-band buffers and text persistent ids are missing: weights do
not need them."""
