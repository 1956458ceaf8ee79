"""Malicious pickles. None may execute code, read another file, or take long.

Each attack is written in both formats of torch. Its effect is checked: the file that it would write, and an
audit hook that records every import, process and opened file.
"""

import io
import os
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pochade.checkpoints import torch_files  # noqa: F401 - imported when it is needed, which the hook would see
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint

MARK_FILE = "pochade-was-here"
COMMAND = f"touch {MARK_FILE}"

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


# --- writing ----------------------------------------------------------------------------------------------


def archive(
    program: bytes, members: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.writestr("x/data.pkl", program)
        for name, content in (members or {"x/data/0": bytes(64)}).items():
            file.writestr(name, content)
    return out.getvalue()


def legacy(program: bytes) -> bytes:
    parts = [pickle.dumps(part, 2) for part in (MAGIC, 1001, SYSTEM)]
    return b"".join([*parts, program, pickle.dumps(["0"], 2), struct.pack("<q", 16), bytes(64)])


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def called(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def storage(
    kind: bytes = b"ctorch\nFloatStorage\n", key: bytes | None = None, size: int = 16, name: str = "storage"
) -> bytes:
    return b"(" + text(name) + kind + (text("0") if key is None else key) + text("cpu") + number(size) + b"tQ"


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    offset: int = 0, shape: tuple[int, ...] = (2, 2), strides: tuple[int, ...] = (2, 1), stored: bytes = b""
) -> bytes:
    return called(
        "torch._utils",
        "_rebuild_tensor_v2",
        stored or storage(),
        number(offset),
        numbers(*shape),
        numbers(*strides),
        b"\x89",
        called("collections", "OrderedDict"),
    )


def table(value: bytes) -> bytes:
    """The program of {"a": value}."""
    return b"\x80\x02}" + text("a") + value + b"s."


def nested(depth: int) -> bytes:
    return b")" + b"\x85" * depth


# --- the attacks ------------------------------------------------------------------------------------------


class Reduced:
    """What anybody would write first."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (COMMAND,)


CALLS: dict[str, bytes] = {
    "os.system": table(called("os", "system", text(COMMAND))),
    "posix.system": table(called("posix", "system", text(COMMAND))),
    "pickle of Python": pickle.dumps({"a": Reduced()}, 2),
    "pickle of Python, protocol 4": pickle.dumps({"a": Reduced()}, 4),
    "eval": table(called("builtins", "eval", text(f"__import__('os').system('{COMMAND}')"))),
    "exec of Python 2": table(called("__builtin__", "exec", text(f"open('{MARK_FILE}', 'w')"))),
    "open": table(called("builtins", "open", text(MARK_FILE), text("w"))),
    "io.open": table(called("io", "open", text(MARK_FILE), text("w"))),
    "__import__": table(called("builtins", "__import__", text("antigravity"))),
    "getattr": table(called("builtins", "getattr", b"cos\nsystem\n", text("__call__"))),
    "getattr of an allowed one": table(
        called("builtins", "getattr", b"ccollections\nOrderedDict\n", text("__init__"))
    ),
    "subprocess": table(called("subprocess", "Popen", text(COMMAND))),
    "webbrowser": table(called("webbrowser", "open", text("http://localhost"))),
    "runpy": table(called("runpy", "run_path", text("evil.py"))),
    "importlib": table(called("importlib", "import_module", text("antigravity"))),
    "codecs": table(called("codecs", "decode", text("x"), text("unicode_escape"))),
    "ctypes": table(called("ctypes", "CDLL", text("libc.so.6"))),
    "nested load of torch": table(
        called("torch.storage", "_load_from_bytes", b"B" + struct.pack("<I", 4) + b"evil")
    ),
    "torch.load": table(called("torch", "load", text("evil.pt"))),
    "torch.hub": table(called("torch.hub", "load", text("evil/evil"), text("x"))),
    "torch.jit": table(called("torch.jit", "load", text("evil.pt"))),
    "numpy.load": table(called("numpy", "load", text("evil.npy"))),
    "numpy's exec": table(called("numpy.testing._private.utils", "runstring", text("x"), b"}")),
    "numpy.memmap": table(called("numpy", "memmap", text("/etc/passwd"))),
    "shutil.rmtree": table(called("shutil", "rmtree", text("/nowhere"))),
    "dotted name": table(called("collections", "OrderedDict.fromkeys", text("x"))),
    "dotted name below a left-over": table(called("typing", "sys.modules", text("x"))),
    "an attribute of a left-over's module": table(called("pathlib", "os.system", text(COMMAND))),
    "STACK_GLOBAL": table(text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R"),
    "STACK_GLOBAL of a built name": table(
        called("_codecs", "encode", text("os"), text("latin1")) + text("system") + b"\x93" + b")R"
    ),
    "STACK_GLOBAL of bytes": table(b"C\x02os" + text("system") + b"\x93" + b")R"),
    "INST": table(b"(" + text(COMMAND) + b"ios\nsystem\n"),
    "OBJ": table(b"(cos\nsystem\n" + text(COMMAND) + b"o"),
    "NEWOBJ": table(b"cos\nsystem\n" + text(COMMAND) + b"\x85\x81"),
    "NEWOBJ_EX": table(b"cos\nsystem\n)}\x92"),
    "a call of what a call gave": table(
        called("builtins", "getattr", text("x"), text("y"))[:-1] + b"R" + text(COMMAND) + b"\x85R"
    ),
    "a call of a dictionary": table(called("collections", "OrderedDict") + text("x") + b"\x85R"),
    "a call of a text": table(text("os.system") + text(COMMAND) + b"\x85R"),
    "BUILD of a name": table(b"ccollections\nOrderedDict\n}" + text("__code__") + b"K\x01sb"),
    "BUILD of a name's slots": table(
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}" + text("__globals__") + b"}stb"
    ),
    "BUILD of a text": table(text("x") + b"}" + text("__class__") + b"K\x01sb"),
    "BUILD of a list": table(b"]}b"),
    "a registered extension": table(b"\x82\x01"),
    "a persistent name in text": table(b"Pstorage\n"),
    "persistent: another kind": table(storage(name="module")),
    "persistent: no tuple": table(text("0") + b"Q"),
    "persistent: a type of another module": table(storage(kind=b"cbuiltins\nbytes\n")),
    "persistent: a type as text": table(storage(kind=text("FloatStorage"))),
    "persistent: a type that is a call": table(storage(kind=called("collections", "OrderedDict"))),
    "persistent: a path": table(tensor(stored=storage(key=text("../../../etc/passwd")))),
    "persistent: a path upwards": table(tensor(stored=storage(key=text("..")))),
    "persistent: an absolute path": table(tensor(stored=storage(key=text("/etc/passwd")))),
    "persistent: a key that is no text": table(tensor(stored=storage(key=number(0)))),
    "persistent: a key that is not there": table(tensor(stored=storage(key=text("7")))),
    "a storage of negative size": table(tensor(stored=storage(size=-16))),
    "a storage larger than the file": table(tensor(shape=(10**9,), strides=(1,), stored=storage(size=10**9))),
    "a tensor with a negative offset": table(tensor(offset=-1)),
    "a tensor with a negative stride": table(tensor(offset=8, strides=(-2, 1))),
    "a tensor with a negative side": table(tensor(shape=(-2, 2))),
    "a tensor past its storage": table(tensor(offset=13)),
    "a tensor past all numbers": table(tensor(shape=(2**60, 2**60), strides=(2**60, 1))),
    "a tensor that repeats one number": table(tensor(shape=(10**6, 10**6), strides=(0, 0))),
    "a tensor of 2**70 sides": table(tensor(offset=2**70)),
    "a tensor of another kind": table(
        called("torch._tensor", "_rebuild_from_type_v2", b"cbuiltins\nint\n", b"cbuiltins\nint\n", b")", b"N")
    ),
    "a tensor in a tensor in a tensor": table(
        called(
            "torch._tensor",
            "_rebuild_from_type_v2",
            b"ctorch._tensor\n_rebuild_from_type_v2\n",
            b"ctorch\nTensor\n",
            nested(5000),
            b"N",
        )
    ),
    "an empty stack": b"\x80\x020000.",
    "a mark as a value": table(b"("),
    "a memo that is not there": table(b"h\x07"),
    "no end": b"\x80\x02}",
    "an unknown protocol": b"\x80\x09}.",
    "an unknown instruction": b"\x80\x02\xff.",
    "a text longer than the file": b"\x80\x02X\xff\xff\xff\x7fa.",
    "a text of exabytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "bytes of exabytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "a number of exabytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
    "a number of many digits": table(b"L" + b"9" * 100_000 + b"L\n"),
    "a step counter that never ends": b"\x80\x02" + b"N0" * 2_100_000 + b".",
    "a copy of a long list, over and over": table(
        b"ccollections\nOrderedDict\n0](" + (text("k") + b"K\x01\x86") * 20_000 + b"e"
        b"q\x010" + b"ccollections\nOrderedDict\nh\x01\x85R0" * 4_000 + b"N"
    ),
}  # fmt: skip

# Left-overs are let pass, and nothing is made of them.
HARMLESS: dict[str, bytes] = {
    "a path object": table(tensor() + b"s" + text("b") + called("pathlib", "PosixPath", text("/etc/passwd"))),
    "a set of a million": table(tensor() + b"s" + text("b") + called("builtins", "set", b"]")),
    "bytes by a codec": table(
        tensor() + b"s" + text("b") + called("_codecs", "encode", text("x" * 1000), text("latin1"))
    ),
    "attributes of a dictionary": table(
        tensor() + b"s" + text("b") + called("collections", "OrderedDict") + b"}" + text("items") + b"Nsb"
    ),
    "a memo of four billion": table(tensor() + b"r\xff\xff\xff\xff"),
    "a tuple of great depth": table(tensor() + b"s" + text("b") + nested(100_000)),
    "a tuple of great depth as a key": table(tensor() + b"s" + nested(100_000) + b"K\x01"),
    "a list that holds itself": table(tensor() + b"s" + text("b") + b"]q\x01h\x01a"),
    "numbers that collide": table(
        tensor() + b"s" + text("b") + b"}("
        + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(50_000)) + b"u"
    ),
}  # fmt: skip


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Nothing is imported, started or opened but the file itself."""
    seen: list[str] = []
    active = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not active:
            return
        if event in ("os.system", "subprocess.Popen", "exec", "compile", "ctypes.dlopen", "socket.connect"):
            seen.append(event)
        elif event in ("import", "open") and not str(arguments[0]).startswith(str(folder)):
            seen.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)
    try:
        yield
    finally:
        active = False
    assert seen == []


FORMATS = pytest.mark.parametrize("form", [archive, legacy], ids=["archive", "before 1.6"])


@FORMATS
@pytest.mark.parametrize("program", CALLS.values(), ids=CALLS)
def test_attacks(program: bytes, form: Callable[[bytes], bytes], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.ckpt"
    path.write_bytes(form(program))
    began = time.thread_time()
    with watched(tmp_path), pytest.raises(InvalidCheckpoint, match=r"model\.ckpt' is") as caught:
        open_tensors(path)
    assert time.thread_time() - began < 60  # of the processor: without the limits some would take hours
    assert os.listdir(tmp_path) == ["model.ckpt"]
    assert len(str(caught.value)) < 600


@FORMATS
@pytest.mark.parametrize("program", HARMLESS.values(), ids=HARMLESS)
def test_what_is_let_pass_does_nothing(program: bytes, form: Callable[[bytes], bytes], tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(form(program))
    tracemalloc.start()
    try:
        with watched(tmp_path):
            read = open_tensors(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read["a"].tolist() == [[0, 0], [0, 0]]
    assert peak < 300_000_000


def test_the_watch_sees_what_it_is_for(tmp_path):
    """Python's own machine, given the same, is caught."""
    with pytest.raises(AssertionError, match=r"os\.system"), watched(tmp_path):
        pickle.loads(CALLS["os.system"].replace(COMMAND.encode(), b"true".ljust(len(COMMAND))))


# --- archives ---------------------------------------------------------------------------------------------

GOOD = table(tensor())


def changed_size(packed: int, unpacked: int) -> bytes:
    """An archive whose table of contents lies about the sizes of a storage."""
    raw = bytearray(archive(GOOD))
    at = raw.rindex(b"x/data/0") - 46
    struct.pack_into("<II", raw, at + 20, packed, unpacked)
    return bytes(raw)


def with_end(size: int, begin: int) -> bytes:
    raw = bytearray(archive(GOOD))
    struct.pack_into("<II", raw, raw.rindex(b"PK\5\6") + 12, size, begin)
    return bytes(raw)


ARCHIVES: dict[str, tuple[bytes, str]] = {
    "a bomb": (
        archive(GOOD, {"x/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED),
        "compressed or encrypted",
    ),
    "a member larger than the file": (changed_size(10**9, 10**9), "ends after the file"),
    "sizes that disagree": (changed_size(64, 10**9), "compressed or encrypted"),
    "a storage that is too short": (archive(GOOD, {"x/data/0": bytes(15)}), "shorter than stated"),
    "no storage": (archive(GOOD, {"x/version": b"3"}), "is not in the file"),
    "a storage elsewhere": (archive(GOOD, {"x/../x/data/0": bytes(64)}), "is not in the file"),
    "a storage above": (archive(GOOD, {"../data/0": bytes(64)}), "is not in the file"),
    "two pickles": (archive(GOOD, {"y/data.pkl": GOOD}), "holds 2 members named data.pkl"),
    "a pickle above": (archive(GOOD, {"../data.pkl": GOOD}), "holds 2 members named data.pkl"),
    "a table of contents past the end": (with_end(1000, 10**9), "central directory claims"),
    "an endless table of contents": (with_end(2**31, 0), "central directory claims"),
    "no table of contents": (archive(GOOD)[:-30], "central directory"),
}


@pytest.mark.parametrize(("content", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_archives(content: bytes, message: str, tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with watched(tmp_path), pytest.raises(InvalidCheckpoint, match=message):
        open_tensors(path)


def test_two_members_of_one_name(tmp_path):
    raw = archive(GOOD, {"x/data/0": bytes(64), "x/data/1": bytes(64)}).replace(b"x/data/1", b"x/data/0")
    (tmp_path / "model.ckpt").write_bytes(raw)
    with pytest.raises(InvalidCheckpoint, match="two members with the name"):
        open_tensors(tmp_path / "model.ckpt")


def test_what_the_attacks_are_made_of_is_read(tmp_path):
    """So that they are refused for what they do, and not for how they are written."""
    for form in (archive, legacy):
        (tmp_path / "model.ckpt").write_bytes(form(GOOD))
        assert open_tensors(tmp_path / "model.ckpt")["a"].shape == (2, 2)
