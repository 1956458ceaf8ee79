"""GGUF files, written here according to the specification, and damaged ones."""

import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from pochade.checkpoints.read import read_checkpoint
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint
from tests.loading.test_single_files import ours_of, theirs_of
from tests.pipeline.measure import least_psnr
from tests.single_files import ldm_state

F32, F16, Q4_0, Q4_1, Q8_0, BF16 = 0, 1, 2, 3, 8, 30


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def packed(values: np.ndarray, kind: int) -> tuple[bytes, np.ndarray]:
    """(the bytes, the numbers that they stand for), block by block in plain Python."""
    flat = values.astype(np.float32).reshape(-1)
    if kind in (F32, F16, BF16):
        stored = flat.astype({F32: np.float32, F16: np.float16, BF16: ml_dtypes.bfloat16}[kind])
        return stored.tobytes(), stored.astype(np.float32).reshape(values.shape)
    content, meant = b"", []
    for block in flat.reshape(-1, 32):
        most = block[np.abs(block).argmax()]
        scale = np.float16(abs(most) / 127 if kind == Q8_0 else -most / 8)
        whole = np.rint(block / np.float32(scale)) if scale else np.zeros(32)
        content += scale.tobytes()
        if kind == Q8_0:
            whole = whole.clip(-127, 127).astype(int)
            content += struct.pack("<32b", *whole)
        else:
            whole = whole.clip(-8, 7).astype(int)
            content += bytes((whole[i] + 8) | (whole[i + 16] + 8) << 4 for i in range(16))
        meant += [np.float16(float(scale) * int(number)) for number in whole]
    return content, np.array(meant, np.float32).reshape(values.shape)


def write(path: Path, tensors: dict[str, tuple[np.ndarray, int]], *pairs: bytes, alignment: int = 32) -> Any:
    """The file, and what its tensors are."""
    table, data, meant = b"", b"", {}
    for name, (values, kind) in tensors.items():
        sides = values.shape[::-1]
        data += b"\0" * (-len(data) % alignment)
        content, meant[name] = packed(values, kind)
        table += string(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, len(data))
        data += content
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + table
    path.write_bytes(head + b"\0" * (-len(head) % alignment) + data)
    return meant


@pytest.mark.parametrize("alignment", [32, 64])
def test_numbers(tmp_path: Path, alignment: int) -> None:
    rng = np.random.default_rng(0)
    shapes = {F32: (3, 5), F16: (7,), BF16: (2, 3, 1, 4), Q8_0: (6, 64), Q4_0: (4, 32)}
    tensors = {str(kind): (rng.standard_normal(shape), kind) for kind, shape in shapes.items()}
    tensors["zeros"] = (np.zeros((2, 32)), Q8_0)
    pairs = [
        pair("general.name", 8, string("a model")),
        pair("general.alignment", 4, struct.pack("<I", alignment)),
        pair("words", 9, struct.pack("<IQ", 8, 2) + string("a") + string("b")),
        pair("numbers", 9, struct.pack("<IQ3f", 6, 3, 1, 2, 3)),
    ]
    meant = write(tmp_path / "x.gguf", tensors, *pairs, alignment=alignment)
    file = open_tensors(tmp_path / "x.gguf")
    assert file.metadata == {"general.name": "a model"} and set(file) == set(tensors)
    for name, expected in meant.items():
        assert file[name].shape == expected.shape
        np.testing.assert_array_equal(file[name].astype(np.float32), expected, err_msg=name)
    spread = {kind: np.abs(meant[str(kind)] - tensors[str(kind)][0]).max() for kind in (Q8_0, Q4_0)}
    assert spread[Q8_0] < 0.02 and spread[Q4_0] < 0.4  # or the writer above would have been no check


def test_a_checkpoint(whole: Any, tmp_path: Path) -> None:
    """Matrices in blocks, the rest in f16: diffusers draw with the numbers that are meant."""
    made, path = whole("SD 1.5"), tmp_path / "model.gguf"
    tensors = {}
    for name, value in ldm_state(made.theirs).items():
        if value.is_floating_point():
            blocks = value.ndim == 2 and value.shape[-1] % 32 == 0 and "embedding" not in name
            tensors[name] = value.numpy(), Q8_0 if blocks else F16
    assert sum(kind == Q8_0 for _, kind in tensors.values()) > 50
    meant = write(path, tensors)
    state = {name: torch.from_numpy(value) for name, value in meant.items()}
    file = tmp_path / "same.ckpt"
    torch.save(state, file)
    unet = read_checkpoint(path).unet.tensors
    assert all(
        np.array_equal(unet[name], other) for name, other in read_checkpoint(file).unet.tensors.items()
    )
    np.testing.assert_array_equal(ours_of(path), ours_of(file))
    assert 30 < least_psnr(ours_of(path), theirs_of(made.theirs)) < 80


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "its version is neither 2 nor 3"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0), "ends within its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "ends within"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("a", 99, b""), "the unknown type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("a", 9, struct.pack("<IQ", 4, 2**62)), "ends within"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("a", 9, struct.pack("<IQ", 9, 1) * 9), "type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("a") + struct.pack("<I", 9), "has 9 dimensions"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("a") + struct.pack("<IQIQ", 1, 32, Q4_1, 0),
            "stored as ggml type 3; supported are F32, F16, Q4_0, Q8_0, BF16",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("a") + struct.pack("<IQIQ", 1, 33, Q8_0, 0),
            "rows of 33 numbers, which are not whole blocks",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("a") + struct.pack("<IQIQ", 1, 2**61, F32, 2**62),
            "lies beyond its end",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("general.alignment", 4, struct.pack("<I", 0)),
            "its alignment is 0",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=fault):
        open_tensors(tmp_path / "x.gguf")
