"""Files of `torch.save`, in the current format and that before 1.6, with other objects of training
frameworks."""

import collections
import io
import mmap
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from pochade.checkpoints.check import FiniteTensors
from pochade.checkpoints.fingerprint import fingerprint
from pochade.checkpoints.folder import read_component
from pochade.checkpoints.read import read_checkpoint
from pochade.checkpoints.weight_files import open_tensors
from pochade.errors import InvalidCheckpoint
from tests.checkpoints.test_single_file import assert_same
from tests.single_files import ldm_state

DTYPES = {
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.bool: np.bool_,
    torch.complex64: np.complex64,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
}

FORMATS = pytest.mark.parametrize("new", [True, False], ids=["archive", "before 1.6"])


def write(path: Path, content: Any, new: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return path


@FORMATS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type(dtype, new, tmp_path):
    if dtype in (torch.uint16,) and not new:
        pytest.skip("younger than that format")
    tensor = torch.arange(-3, 9).reshape(3, 4).to(torch.float32).to(dtype)
    read = open_tensors(write(tmp_path / "x.ckpt", {"a": tensor, "b": tensor[1:] == 0}, new))
    assert read["a"].dtype == DTYPES[dtype] and read["b"].dtype == np.bool_
    raw = tensor.contiguous().view(torch.uint8).numpy().tobytes()
    assert read["a"].tobytes() == raw and read["a"].shape == (3, 4)


@FORMATS
def test_windows_on_one_storage(new, tmp_path):
    """torch keeps what several tensors share, and how each of them looks at it."""
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "whole": whole,
        "rows": whole[1:3],
        "columns": whole[:, ::2],
        "turned": whole.T,
        "one": whole[2, 3],
        "none": whole[:0],
        "parameter": torch.nn.Parameter(whole + 1),
    }
    read = open_tensors(write(tmp_path / "x.pt", tensors, new))
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor.detach().numpy())
        ours = FiniteTensors(read, tmp_path)[name]
        assert ours.flags.c_contiguous and ours.flags.aligned
        np.testing.assert_array_equal(ours, tensor.detach().numpy())
    read["rows"][0, 0] = 7  # the same bytes of the file, not a copy
    assert read["whole"][1, 0] == 7


@FORMATS
def test_the_tensors_are_mapped_and_told_apart(new, tmp_path):
    path = write(tmp_path / "x.pt", {"a": torch.ones(1000)}, new)
    first = open_tensors(path)
    assert isinstance(first.mapped.base.obj, mmap.mmap)
    assert np.shares_memory(first["a"], first.mapped)
    before = fingerprint([first])
    write(path, {"a": torch.full((1000,), 2.0)}, new)
    assert fingerprint([open_tensors(path)]) != before


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "bin", ""])
def test_the_content_decides_and_not_the_suffix(suffix, tmp_path):
    read = open_tensors(write(tmp_path / f"x.{suffix}", {"a": torch.ones(3)}))
    assert read["a"].tolist() == [1, 1, 1]


@pytest.fixture
def lightning(monkeypatch):
    """A package that is not installed where the file is read."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")

    class ModelCheckpoint:
        def __init__(self) -> None:
            self.best, self.where = 0.5, Path("x")

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = module.__name__, "ModelCheckpoint"
    module.ModelCheckpoint = ModelCheckpoint  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return ModelCheckpoint


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_checkpoint_of_a_trainer(new, protocol, lightning, tmp_path, monkeypatch):
    state = collections.OrderedDict(a=torch.ones(3), b=torch.zeros(2))
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    content = {
        "state_dict": state,
        "global_step": 875000,
        "pytorch-lightning_version": "1.4.2",
        "callbacks": {lightning: {"best": np.float64(0.1), "places": {Path("x"), 3}, "when": np.int64(4)}},
        "model": lightning(),
        "optimizer_states": [optimizer.state_dict()],
        "seen": {1, 2},
        "default": collections.defaultdict(list, {"x": [1]}),
        "generator": torch.get_rng_state(),
        (1, (2, 3)): "a key that names nothing",
    }
    path = tmp_path / "x.ckpt"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    for name in list(sys.modules):
        if name.startswith("pytorch_lightning"):
            monkeypatch.delitem(sys.modules, name)
    read = open_tensors(path)
    assert set(read) == {"a", "b"} and read["a"].tolist() == [1, 1, 1]
    assert read.metadata == {"global_step": "875000"}
    assert not any(name.startswith("pytorch_lightning") for name in sys.modules)


# --- whole checkpoints ------------------------------------------------------------------------------------


@pytest.fixture
def made(whole):
    return whole("SD 1.5")


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_whole_checkpoint(new, dtype, made, tmp_path):
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in ldm_state(made.theirs).items()
    }
    path = write(tmp_path / "model.ckpt", {"state_dict": state, "global_step": 470000}, new)
    assert_same(read_checkpoint(path), made.theirs, dtype)


def test_sd2_that_stopped_where_the_smaller_one_did(whole, tmp_path):
    second = whole("SD 2.1").theirs
    for step, expected in ((875000, "epsilon"), (140000, "v_prediction")):
        path = write(tmp_path / "model.ckpt", {"state_dict": ldm_state(second), "global_step": step})
        assert read_checkpoint(path).scheduler["prediction_type"] == expected


def test_a_folder_of_pickled_weights(made, tmp_path):
    made.theirs.save_pretrained(tmp_path, safe_serialization=False)
    if not (tmp_path / "text_encoder/pytorch_model.bin").exists():  # transformers 5 write no pickles
        (tmp_path / "text_encoder/model.safetensors").unlink()
        write(tmp_path / "text_encoder/pytorch_model.bin", made.theirs.text_encoder.state_dict())
    assert not list(tmp_path.rglob("*.safetensors"))
    assert_same(read_checkpoint(tmp_path), made.theirs)


def test_pickled_shards(made, tmp_path):
    made.theirs.unet.save_pretrained(tmp_path, safe_serialization=False, max_shard_size="500KB")
    assert (tmp_path / "diffusion_pytorch_model.bin.index.json").exists()
    component = read_component(tmp_path, "unet")
    expected = made.theirs.unet.state_dict()
    assert set(component.tensors) == set(expected)
    assert all(np.array_equal(component.tensors[name], value.numpy()) for name, value in expected.items())


# --- what is damaged, or something else -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": 1}, r"holds no tensors by name; its keys are: 'x'"),
        ([torch.ones(1)], r"it holds a list, not tensors by name"),
        (torch.nn.Linear(2, 2), r"an object of torch\.nn\.modules\.linear\.Linear, not|persistent id"),
    ],
)
@FORMATS
def test_what_holds_no_tensors(content, message, new, tmp_path):
    with pytest.raises(InvalidCheckpoint, match=message):
        open_tensors(write(tmp_path / "x.pt", content, new))


def test_a_plain_pickle_and_a_zip_of_pictures(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InvalidCheckpoint, match=r"was not written by torch\.save"):
        open_tensors(tmp_path / "x.pkl")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("cat.png", b"PNG")
    with pytest.raises(InvalidCheckpoint, match=r"holds 0 members named data\.pkl instead of one"):
        open_tensors(tmp_path / "x.zip")


def test_a_program_of_torchscript(tmp_path):
    path = write(tmp_path / "x.pt", {"a": torch.ones(1)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/code/__torch__.py", b"def forward(self): pass")
    with pytest.raises(InvalidCheckpoint, match=r"it is a TorchScript program"):
        open_tensors(path)


@FORMATS
def test_no_damage_raises_anything_but_our_error(new, tmp_path):
    """Cut off anywhere, or with any byte changed, a file is refused or read: nothing else happens."""
    whole = write(tmp_path / "x.pt", {"a": torch.ones(40), "b": torch.zeros(3, 3)}, new).read_bytes()
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "y.pt", 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(1, len(whole))] if rng.random() < 0.3 else damaged)
        try:
            for tensor in open_tensors(path).values():
                tensor.sum()
        except InvalidCheckpoint as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100


def test_a_big_endian_archive(tmp_path):
    path = write(tmp_path / "x.pt", {"a": torch.ones(1)})
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    path.write_bytes(out.getvalue())
    with pytest.raises(InvalidCheckpoint, match=r"its numbers are big-endian"):
        open_tensors(path)


# --- embeddings as their trainers save them ---------------------------------------------------------------


@FORMATS
@pytest.mark.parametrize("parameter", [True, False])
def test_a_parameter_dictionary(parameter, new, tmp_path):
    """What the first trainer of embeddings saved, and many after it."""
    table = torch.arange(8.0).reshape(2, 4)
    inside = torch.nn.ParameterDict({"*": torch.nn.Parameter(table) if parameter else table})
    content = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": inside, "step": 3}
    file = open_tensors(write(tmp_path / "word.pt", content, new))
    assert list(file) == ["*"] and file.metadata["step"] == "3"
    np.testing.assert_array_equal(file["*"], table)
    alone = open_tensors(write(tmp_path / "alone.pt", inside, new))
    np.testing.assert_array_equal(alone["*"], table)


def test_a_parameter_dictionary_as_torch_1_11_pickled_it(tmp_path):
    """An OrderedDict in `_parameters`, and no `_keys`."""
    inside = torch.nn.ParameterDict()
    parameters = collections.OrderedDict([("*", torch.nn.Parameter(torch.ones(2, 4)))])
    inside.__dict__.update({"_parameters": parameters})
    inside.__dict__.pop("_keys", None)
    file = open_tensors(write(tmp_path / "word.pt", {"string_to_param": inside}))
    np.testing.assert_array_equal(file["*"], np.ones((2, 4)))


class OnMetal:
    """Pickles as torch does a tensor on Metal: by way of numpy."""

    def __init__(self, tensor, device="mps"):
        self.array, self.dtype, self.device = tensor.numpy(), tensor.dtype, device

    def __reduce_ex__(self, protocol):
        rebuild = torch._utils._rebuild_device_tensor_from_numpy
        return rebuild, (self.array, self.dtype, self.device, False)


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.int64, torch.bool])
def test_tensors_of_a_mac(dtype, new, tmp_path):
    table = torch.arange(24).reshape(2, 3, 4).to(dtype)
    turned = OnMetal(table)
    turned.array = np.asfortranarray(turned.array)
    content = {
        "mac": OnMetal(table), "turned": turned, "one": OnMetal(torch.tensor(3.0)), "plain": torch.ones(3),
        "empty": OnMetal(torch.ones(0, 4)),
    }  # fmt: skip
    file = open_tensors(write(tmp_path / "x.pt", content, new))
    for name in ("mac", "turned"):
        np.testing.assert_array_equal(file[name], table.numpy())
        assert file[name].dtype == table.numpy().dtype
    assert file["one"] == 3 and file["empty"].shape == (0, 4)
    np.testing.assert_array_equal(file["plain"], np.ones(3))


class Rebuilt:
    """Pickles as a call of torch's."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce_ex__(self, protocol):
        return self.function, self.arguments


@FORMATS
def test_tensors_of_other_devices(new, tmp_path):
    """bfloat16 goes as f32, since numpy has none; later versions write tensors of TPUs by way of tensors."""
    table = torch.tensor([[1.0, -0.5], [3.140625, 0.0]])
    content = {
        "bf16": Rebuilt(
            torch._utils._rebuild_device_tensor_from_numpy, table.numpy(), torch.bfloat16, "mps", 0
        ),
        "tpu": Rebuilt(
            torch._utils._rebuild_device_tensor_from_cpu_tensor, table.half(), torch.float16, "xla:0", False
        ),
    }
    file = open_tensors(write(tmp_path / "x.pt", content, new))
    assert (file["bf16"].dtype.name, file["tpu"].dtype.name) == ("bfloat16", "float16")
    for name in content:
        np.testing.assert_array_equal(file[name].astype(np.float32), table)


def test_a_tensor_of_a_tpu_under_its_old_name(tmp_path):
    path = write(tmp_path / "x.pt", {"*": OnMetal(torch.ones(2, 4))})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            old = content.replace(b"_rebuild_device_tensor_from_numpy", b"_rebuild_xla_tensor")
            archive.writestr(name, old if name.endswith("data.pkl") else content)
    np.testing.assert_array_equal(open_tensors(path)["*"], np.ones((2, 4)))


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_that_are_no_weights_are_not_called_an_attack(kind, tmp_path):
    tensor = torch.ones(2, 2).to_sparse() if kind == "sparse" else torch.ones(2, 2, device="meta")
    with pytest.raises(InvalidCheckpoint, match=rf"it has a {kind} tensor, which is not read"):
        open_tensors(write(tmp_path / "x.pt", {"a": tensor}))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (
            (torch.ones(2), torch.float16, "xla", False),
            r"converts a tensor of float32 to another",
        ),
        (("x", torch.float16, "xla", False), r"made of something that is not a tensor"),
        ((torch.ones(2), "float32", "xla", False), r"to another type"),
    ],
)
def test_damaged_tensors_of_other_devices(arguments, fault, tmp_path):
    content = {"a": Rebuilt(torch._utils._rebuild_device_tensor_from_cpu_tensor, *arguments)}
    with pytest.raises(InvalidCheckpoint, match=fault):
        open_tensors(write(tmp_path / "x.pt", content))


def test_an_embedding_of_a_mac(tmp_path):
    content = {"string_to_param": {"*": OnMetal(torch.ones(2, 4))}, "name": "ink"}
    np.testing.assert_array_equal(open_tensors(write(tmp_path / "ink.pt", content))["*"], np.ones((2, 4)))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"dtype": torch.float16}, r"a tensor of float16 in an array of float32"),
        ({"array": np.ones(4, ">f4")}, r"big-endian"),
        ({"array": np.array(["x"])}, r"numpy's type 'U1'"),
        ({"array": [1.0]}, r"a tensor made of something that is not an array"),
        ({"dtype": "float32"}, r"a tensor of an unknown type"),
    ],
)
def test_a_damaged_tensor_of_a_mac(change, fault, tmp_path):
    tensor = OnMetal(torch.ones(4))
    vars(tensor).update(change)
    with pytest.raises(InvalidCheckpoint, match=fault):
        open_tensors(write(tmp_path / "x.pt", {"a": tensor}))
