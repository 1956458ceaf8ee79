"""The safetensors reader and writer, compared with the safetensors package, and on damaged files."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from pochade.checkpoints import safetensors
from pochade.checkpoints.check import FiniteTensors
from pochade.checkpoints.safetensors_header import DTYPES
from pochade.errors import InvalidCheckpoint, OutputError

F32_4 = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def build(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file byte by byte, right or wrong."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return {
        "b.f32": generator.normal(size=(3, 5)).astype(np.float32),
        "a.f16": generator.normal(size=(7,)).astype(np.float16),
        "f64": generator.normal(size=(2, 1, 2)),
        "i64": np.arange(-3, 3),
        "i32": np.arange(5, dtype=np.int32),
        "u8": np.arange(3, dtype=np.uint8),
        "bool": np.array([True, False, True]),
        "scalar": np.array(2.5, dtype=np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "ünïcode 狐": np.ones((1,), dtype=np.float32),
    }


# --- right files ----------------------------------------------------------------------------------


def test_the_package_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.write(path, tensors(), {"format": "pt", "title": "füchse"})
    back = load_file(path)
    assert back.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert back[name].dtype == tensor.dtype
        np.testing.assert_array_equal(back[name], tensor)
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt", "title": "füchse"}


def test_we_read_what_the_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(tensors(), path, {"format": "pt"})
    back = safetensors.read(path)
    assert back.metadata == {"format": "pt"}
    assert back.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        np.testing.assert_array_equal(back[name], tensor)


@pytest.mark.parametrize(
    "kind", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64], ids=str
)
def test_types_that_numpy_cannot_name_go_both_ways(kind: torch.dtype, tmp_path: Path) -> None:
    given_ = torch.linspace(-3, 3, 24).reshape(4, 6).to(kind)
    save_torch({"x": given_}, tmp_path / "theirs.safetensors")
    read = safetensors.read(tmp_path / "theirs.safetensors")["x"]
    wide = torch.complex128 if kind.is_complex else torch.float64
    np.testing.assert_array_equal(read.astype(str(wide).split(".")[-1]), given_.to(wide).numpy())
    safetensors.write(tmp_path / "ours.safetensors", {"x": read})
    back = load_torch(tmp_path / "ours.safetensors")["x"]
    assert back.dtype == kind
    assert torch.equal(back.to(wide), given_.to(wide))


def test_every_type_survives_a_round_trip(tmp_path: Path) -> None:
    given_ = {kind: np.arange(1, 3).astype(dtype) for kind, dtype in DTYPES.items()}
    safetensors.write(tmp_path / "a.safetensors", given_)
    back = safetensors.read(tmp_path / "a.safetensors")
    assert set(back) == set(DTYPES)
    for kind, dtype in DTYPES.items():
        assert back[kind].dtype == dtype
        assert back[kind].tobytes() == given_[kind].tobytes()


def test_big_endian_and_strided_arrays_are_written_in_order(tmp_path: Path) -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    safetensors.write(tmp_path / "a.safetensors", {"t": table.T, "big": table.astype(">f4"), "s": table[::2]})
    back = load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(back["t"], table.T)
    np.testing.assert_array_equal(back["big"], table)
    np.testing.assert_array_equal(back["s"], table[::2])


def test_arrays_are_windows_that_never_write_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"x": np.arange(4, dtype=np.float32)})
    before = path.read_bytes()
    file = safetensors.read(path)
    first = file["x"]
    assert np.shares_memory(first, file.mapped)
    assert type(first) is np.ndarray and first.flags.writeable and first.flags.aligned
    first[0] = 9
    assert file["x"][0] == 9
    assert path.read_bytes() == before
    del file  # the array keeps the mapping alive
    assert first.tolist() == [9, 1, 2, 3]


def test_what_we_write_is_aligned_and_always_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    safetensors.write(one, tensors())
    safetensors.write(two, dict(reversed(tensors().items())))
    assert one.read_bytes() == two.read_bytes()
    file = safetensors.read(one)
    assert all(np.shares_memory(file[name], file.mapped) for name in file if file[name].size)


def test_a_tensor_at_an_odd_address_is_copied_for_engines(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    about = {
        "u8": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "f32": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
        "bf16": {"dtype": "BF16", "shape": [2], "data_offsets": [9, 13]},
    }
    raw = json.dumps(about).encode()
    raw += b" " * (-len(raw) % 8)
    half = np.array([1, -2], dtype=ml_dtypes.bfloat16)
    path.write_bytes(build(raw, b"\7" + np.array([1.5, 2.5], "<f4").tobytes() + half.tobytes()))
    file = safetensors.read(path)
    assert all(np.shares_memory(file[name], file.mapped) for name in file)  # to ask for a shape reads nothing
    ours = FiniteTensors(file, path)
    assert ours["f32"].tolist() == [1.5, 2.5] and ours["f32"].flags.aligned
    assert ours["bf16"].astype(np.float32).tolist() == [1, -2] and ours["bf16"].flags.aligned
    assert np.shares_memory(ours["u8"], file.mapped)
    assert not np.shares_memory(ours["f32"], file.mapped)


def test_neither_reading_nor_writing_holds_the_tensors_again(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    large = {name: np.ones((1 << 22,), dtype=ml_dtypes.bfloat16) for name in "abcd"}  # 32 MiB
    tracemalloc.start()
    try:
        safetensors.write(path, large)
        file = safetensors.read(path)
        touched = [file[name][0] for name in file]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert touched == [1, 1, 1, 1]
    assert peak < 1 << 20


def test_a_file_without_tensors(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "a.safetensors", {}, {"note": "nothing"})
    file = safetensors.read(tmp_path / "a.safetensors")
    assert len(file) == 0 and file.metadata == {"note": "nothing"}
    assert file.get("x") is None


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"x": np.zeros(3)})
    before = path.read_bytes()

    class Failing(dict[str, Any]):
        """Its tensors can be described, but not read a second time: as when a disk fails halfway."""

        def __getitem__(self, name: str) -> Any:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"a\.safetensors' could not be written: No space left"):
        safetensors.write(path, Failing(x=np.ones(3)))
    with pytest.raises(OutputError, match=r"tensor 'x' of type complex128; use float32"):
        safetensors.write(path, {"x": np.ones(3, dtype=complex)})
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]


def test_writing_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"could not be written: No such file or directory; check that"):
        safetensors.write(tmp_path / "nowhere" / "a.safetensors", {})


# --- wrong files ----------------------------------------------------------------------------------

DAMAGED = {
    "empty file": (b"", r"it has 0 bytes"),
    "cut off in the length": (b"\x10\0\0", r"it has 3 bytes"),
    "cut off in the header": (build({"x": F32_4}, bytes(16))[:30], r"claims 62 bytes, the file has 30"),
    "cut off in the data": (
        build({"x": F32_4}, bytes(15)),
        r"tensor 'x' lies at 0 to 16 of 15 bytes; the file is cut off",
    ),
    "header longer than allowed": (build(b"{}", b"", 100_000_001), r"claims 100,000,001 bytes; at most 100,"),
    "header of 2**64 - 1 bytes": (b"\xff" * 16, r"claims 18,446,744,073,709,551,615 bytes; at most"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"'git lfs pull'"),
    "pickled": (b"PK\x03\x04\x00\x00\x08\x08" + bytes(40), r"it is a pickled PyTorch file"),
    "web page": (b"<!DOCTYPE html><html>not found</html>", r"it is a web page"),
    "header is no JSON": (build(b'{"x": '), r"header is not JSON"),
    "header is no UTF-8": (build(b'{"\xff": 1}'), r"header is not JSON"),
    "header is nested too deep": (build(b'{"x":' * 100_000), r"header is not JSON"),
    "header holds an endless number": (build(b'{"x": ' + b"9" * 5000 + b"}"), r"header is not JSON"),
    "header is a list": (build(b"[1, 2, 3]"), r"begins with b'\[1, 2, 3' instead of a brace"),
    "header is two objects": (build(b"{}{}"), r"header is not JSON"),
    "name twice": (
        build(
            b'{"x":' + json.dumps(F32_4).encode() + b',"x":' + json.dumps(F32_4).encode() + b"}", bytes(16)
        ),
        r"names 'x' twice",
    ),
    "metadata no table": (build({"__metadata__": ["a"]}), r"'__metadata__' is not a table of strings"),
    "metadata of numbers": (build({"__metadata__": {"a": 1}}), r"'__metadata__' is not a table of strings"),
    "tensor no table": (build({"x": 3}), r"tensor 'x' needs 'dtype', 'shape' and 'data_offsets'; it has 3"),
    "no shape": (
        build({"x": {"dtype": "F32", "data_offsets": [0, 4]}}),
        r"tensor 'x' needs 'dtype', 'shape'",
    ),
    "unknown type": (
        build({"x": {**F32_4, "dtype": "F7"}}, bytes(16)),
        r"'x' has the unknown type 'F7'; known",
    ),
    "type no string": (build({"x": {**F32_4, "dtype": []}}, bytes(16)), r"'x' has the unknown type \[\]"),
    "negative shape": (build({"x": {**F32_4, "shape": [-4]}}, bytes(16)), r"impossible shape \[-4\]"),
    "shape of truth values": (
        build({"x": {**F32_4, "shape": [True]}}, bytes(16)),
        r"impossible shape \[True\]",
    ),
    "shape of floats": (build({"x": {**F32_4, "shape": [4.0]}}, bytes(16)), r"impossible shape \[4.0\]"),
    "shape no list": (build({"x": {**F32_4, "shape": "4"}}, bytes(16)), r"impossible shape '4'"),
    "shape of rank 33": (build({"x": {**F32_4, "shape": [1] * 33}}, bytes(16)), r"impossible shape"),
    "shape beyond memory": (build({"x": {**F32_4, "shape": [2**61, 0]}}, bytes(16)), r"impossible shape"),
    "shape does not fit": (
        build({"x": {**F32_4, "shape": [2, 3]}}, bytes(16)),
        r"tensor 'x', F32 \[2, 3\], needs 24 bytes, but its offsets span 16",
    ),
    "offsets backwards": (build({"x": {**F32_4, "data_offsets": [16, 0]}}, bytes(16)), r"offsets \[16, 0\]"),
    "offsets negative": (build({"x": {**F32_4, "data_offsets": [-16, 0]}}, bytes(16)), r"offsets \[-16, 0\]"),
    "one offset": (build({"x": {**F32_4, "data_offsets": [0]}}, bytes(16)), r"impossible offsets \[0\]"),
    "offsets beyond the file": (
        build({"x": {**F32_4, "data_offsets": [2**62, 2**62 + 16]}}, bytes(16)),
        r"tensor 'x' lies at .* of 16 bytes; the file is cut off",
    ),
    "overlap": (
        build({"x": F32_4, "y": {**F32_4, "data_offsets": [8, 24]}}, bytes(24)),
        r"tensor 'y' lies at 8 to 24 of 24 bytes and overlaps the one before it, which ends at 16",
    ),
    "same place": (build({"x": F32_4, "y": F32_4}, bytes(16)), r"tensor 'y' .* overlaps"),
    "hole at the start": (
        build({"x": {**F32_4, "data_offsets": [4, 20]}}, bytes(20)),
        r"tensor 'x' lies at 4 to 20 of 20 bytes and leaves a gap",
    ),
    "hole in the middle": (
        build({"x": F32_4, "y": {**F32_4, "data_offsets": [17, 33]}}, bytes(33)),
        r"tensor 'y' .* leaves a gap after the one before it, which ends at 16",
    ),
    "bytes at the end": (build({"x": F32_4}, bytes(19)), r"3 bytes follow the last tensor"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_named_and_explained(case: str, tmp_path: Path) -> None:
    content, message = DAMAGED[case]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=message) as caught:
        safetensors.read(path)
    assert "broken.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"missing\.safetensors' does not exist; check the path"):
        safetensors.read(tmp_path / "missing.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"is a folder; name the safetensors file inside it"):
        safetensors.read(tmp_path)
    with pytest.raises(InvalidCheckpoint, match=r"cannot be read"):
        safetensors.read(tmp_path / ("x" * 300))


def _valid() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "conv.weight": F32_4,
        "conv.bias": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [16, 24]},
        "none": {"dtype": "I64", "shape": [0], "data_offsets": [24, 24]},
    }
    return build(header, bytes(range(24)))


@st.composite
def damages(draw: st.DrawFn) -> bytes:
    """A valid file with bytes flipped, overwritten with what matters in JSON, removed, doubled, cut off."""
    content = bytearray(_valid())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["set", "json", "cut", "remove", "double", "length"]))
        if kind == "set":
            content[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "json":
            content[place : place + 1] = draw(
                st.sampled_from(list(b'0123456789-eE.,:[]{}"\\tfn '))
            ).to_bytes()
        elif kind == "cut":
            del content[place:]
        elif kind == "remove":
            del content[place : place + draw(st.integers(1, 20))]
        elif kind == "double":
            content[place:place] = content[place : place + draw(st.integers(1, 80))]
        else:
            content[:8] = draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")
    return bytes(content)


def test_no_damage_raises_anything_but_our_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"

    @settings(max_examples=1500, deadline=None)
    @given(damages())
    def check(content: bytes) -> None:
        path.unlink(missing_ok=True)  # an earlier mapping keeps its own file
        path.write_bytes(content)
        try:
            file = safetensors.read(path)
        except InvalidCheckpoint as error:
            assert "broken.safetensors" in str(error)
            return
        # What passes must be coherent: every byte of data in exactly one tensor, all of it readable.
        arrays = [file[name] for name in file]
        assert sum(array.nbytes for array in arrays) == len(content) - file.header.data_start
        assert sum(len(array.tobytes()) for array in arrays) == sum(array.nbytes for array in arrays)

    check()


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=3),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), inner, max_size=4),
                st.fixed_dictionaries(
                    {"dtype": st.sampled_from(["F32", "U8"]), "shape": inner, "data_offsets": inner}
                ),
            ),
            max_leaves=8,
        ),
        min_size=1,
        max_size=4,
    ),
    st.binary(max_size=16),
)
def test_no_json_raises_anything_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any], data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "json.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(build(header, data))
    try:
        file = safetensors.read(path)
    except InvalidCheckpoint as error:
        assert "json.safetensors" in str(error)
    else:
        assert sum(file[name].nbytes for name in file) == len(data)
