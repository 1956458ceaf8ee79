"""The disk cache of compiled graphs: hits, invalidation and failures."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pochade import settings
from pochade.engines import openvino, openvino_cache, openvino_ops
from pochade.engines.openvino import OpenVinoEngine
from pochade.engines.openvino_cache import SEAL_BYTES, BlobFolder
from pochade.errors import InvalidCheckpoint
from tests.test_layers import imports

NOTHING = {}
"""Weights that no graph can be built from: whatever compiles with them came from the disk."""


def line(ops, w, x):
    return ops.linear(x, w("weight", (8, 4)))


def pair(ops, w, x):
    return (line(ops, w, x),)


@pytest.fixture
def tensors(rng):
    return {"weight": rng.standard_normal((8, 4), dtype=np.float32)}


def compile_with(folder, tensors, *, rows=3, key="line", function=line, **options):
    engine = OpenVinoEngine(cache_dir=folder, threads=1, **options)
    return engine.compile(function, tensors, {"x": ((rows, 4), "f32")}, key=key)


def blobs(folder):
    return sorted((folder / "openvino").iterdir()) if (folder / "openvino").exists() else []


def test_the_second_compilation_needs_no_weights_and_gives_the_same_numbers(tmp_path, tensors, rng):
    x = rng.standard_normal((3, 4), dtype=np.float32)
    first = compile_with(tmp_path, tensors)(x=x)
    second = compile_with(tmp_path, NOTHING)(x=x)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(second, x @ tensors["weight"].T, rtol=1e-5, atol=1e-6)
    assert [path.suffix for path in blobs(tmp_path)] == [".blob"]


def test_pages_of_the_weights_are_given_back_after_compiling_and_after_writing(
    tmp_path, tensors, monkeypatch
):
    gone = []
    monkeypatch.setattr(openvino_ops, "release_pages", gone.append)
    graph = OpenVinoEngine(threads=1).compile(line, tensors, {"x": ((3, 4), "f32")})
    assert any(np.shares_memory(array, tensors["weight"]) for array in gone)
    gone.clear()
    with (tmp_path / "graph").open("wb") as file:
        graph.export(file)
    assert any(np.shares_memory(array, tensors["weight"]) for array in gone)


def test_a_graph_may_be_kept_beside_the_work_once_it_was_used(tmp_path, tensors):
    x = np.ones((3, 4), np.float32)
    graph = compile_with(tmp_path, tensors, keep_later=True)
    assert blobs(tmp_path) == []
    first = graph(x=x)
    writing = [thread for thread in threading.enumerate() if thread.name == "keeping a compiled graph"]
    for thread in writing:
        thread.join()
    assert [path.suffix for path in blobs(tmp_path)] == [".blob"]
    np.testing.assert_array_equal(graph(x=x), first)
    np.testing.assert_array_equal(compile_with(tmp_path, NOTHING, keep_later=True)(x=x), first)
    assert len(blobs(tmp_path)) == 1


def test_a_process_that_ends_after_one_result_has_kept_its_graph(tmp_path):
    source = f"""
import numpy as np
from pathlib import Path
from pochade.engines.openvino import OpenVinoEngine
engine = OpenVinoEngine(cache_dir=Path({str(tmp_path)!r}), keep_later=True)
engine.compile(lambda ops, w, x: x + 1, {{}}, {{"x": ((3,), "f32")}}, key="k")(x=np.zeros(3))
"""
    subprocess.run([sys.executable, "-c", source], check=True)
    assert [path.suffix for path in blobs(tmp_path)] == [".blob"]


def test_a_tuple_is_a_tuple_from_the_disk_too(tmp_path, tensors):
    x = np.ones((3, 4), np.float32)
    compile_with(tmp_path, tensors, function=pair)
    restored = compile_with(tmp_path, NOTHING, function=pair)(x=x)
    assert isinstance(restored, tuple) and len(restored) == 1


def test_several_inputs_keep_their_names(tmp_path):
    def function(ops, w, b, a):
        return a - b, a, b * 2

    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.full(3, 7, np.float32)}
    inputs = {"a": ((3,), "f32"), "b": ((3,), "f32")}
    for _ in range(2):
        results = OpenVinoEngine(cache_dir=tmp_path).compile(function, {}, inputs, key="k")(**arrays)
        np.testing.assert_array_equal(results, [arrays["a"] - arrays["b"], arrays["a"], arrays["b"] * 2])


@pytest.mark.parametrize("changed", [{"key": "other weights"}, {"rows": 5}, {"key": ""}])
def test_another_key_or_shape_is_compiled_anew(tmp_path, tensors, changed):
    compile_with(tmp_path, tensors)
    with pytest.raises(InvalidCheckpoint):
        compile_with(tmp_path, NOTHING, **changed)


@pytest.mark.skipif("bf16" not in openvino.device_features().precisions, reason="no bf16 arithmetic here")
def test_another_precision_is_compiled_anew(tmp_path, tensors):
    compile_with(tmp_path, tensors)
    with pytest.raises(InvalidCheckpoint):
        compile_with(tmp_path, NOTHING, precision="bf16")
    compile_with(tmp_path, tensors, precision="bf16")
    compile_with(tmp_path, NOTHING, precision="bf16")
    assert len(blobs(tmp_path)) == 2


@pytest.mark.skipif("bf16" not in openvino.device_features().precisions, reason="no bf16 arithmetic here")
def test_rounding_f32_weights_for_the_disk_changes_no_result(tmp_path, rng):
    tensors = {
        "conv": rng.standard_normal((32, 16, 3, 3), dtype=np.float32),
        "scale": rng.standard_normal(32, dtype=np.float32),
        "linear": rng.standard_normal((64, 32), dtype=np.float32),
    }

    def function(ops, w, x):
        x = ops.conv2d(x, w("conv", (32, 16, 3, 3)), w("scale", (32,)), padding=(1, 1, 1, 1))
        x = ops.group_norm(ops.silu(x), w("scale", (32,)), w("scale", (32,)), 8, 1e-5)
        return ops.gelu(ops.linear(ops.transpose(x, (0, 2, 3, 1)), w("linear", (64, 32))))

    x = rng.standard_normal((2, 16, 8, 8), dtype=np.float32)
    inputs = {"x": (x.shape, "f32")}
    engine = OpenVinoEngine(precision="bf16", cache_dir=tmp_path, threads=1)
    kept = engine.compile(function, tensors, inputs, key="k")(x=x)
    np.testing.assert_array_equal(kept, engine.compile(function, tensors, inputs)(x=x))
    (path,) = blobs(tmp_path)
    assert path.stat().st_size < 2.2 * sum(array.size for array in tensors.values()) + 50_000


@pytest.mark.parametrize("input_type", ["i64", "f32"])
def test_the_type_of_an_input_is_part_of_the_name(tmp_path, tensors, input_type):
    def function(ops, w, ids):
        return ops.embedding(ids, w("weight", (8, 4)))

    engine = OpenVinoEngine(cache_dir=tmp_path)
    engine.compile(function, tensors, {"ids": ((1, 2), "i64")}, key="k")
    if input_type == "i64":
        engine.compile(function, NOTHING, {"ids": ((1, 2), "i64")}, key="k")
    else:
        with pytest.raises(InvalidCheckpoint):
            engine.compile(function, NOTHING, {"ids": ((1, 2), "f32")}, key="k")


@pytest.mark.parametrize("what", ["source", "openvino", "processor", "release"])
def test_a_change_of_code_or_machine_never_meets_an_old_blob(tmp_path, tensors, monkeypatch, what):
    source = tmp_path / "model.py"
    source.write_text("x = 1")
    monkeypatch.setattr(openvino, "sources", lambda: [source])
    compile_with(tmp_path, tensors)
    compile_with(tmp_path, NOTHING)
    if what == "source":
        source.write_text("x = 2")
    elif what == "openvino":
        monkeypatch.setattr(openvino.ov, "get_version", lambda: "another")
    elif what == "processor":
        here = openvino.device_features()
        monkeypatch.setattr(
            openvino, "device_features", lambda device: dataclasses.replace(here, name="another")
        )
    else:
        monkeypatch.setattr(openvino, "release", lambda: "another")
    with pytest.raises(InvalidCheckpoint):
        compile_with(tmp_path, NOTHING)


def test_the_sources_are_those_that_shape_a_graph():
    names = {f"{path.parent.name}/{path.name}" for path in openvino.sources()}
    assert {"models/unet.py", "engines/openvino.py", "engines/openvino_cache.py", "pochade/ops.py"} <= names
    # 8-bit products, and what the weights that become constants are made of
    assert {"pochade/int8.py", "pochade/weights.py", "adapters/deltas.py", "checkpoints/gguf.py"} <= names
    assert not any("torch" in name for name in names if name.startswith("engines"))


SHAPE_NOTHING = {"engines/host", "errors", "settings", "mapping", "engines/cpu_features"}
"""What the engine and the models import besides: words, places, how a file is read, and what the processor
can do, which is in the name by itself."""


def imported(path):
    """The files of the package that a file imports."""
    package = Path(openvino.__file__).parents[1]
    for name, _ in imports(path.read_text()):
        parts = name.split(".")
        for end in (len(parts), len(parts) - 1):  # a module, or something in one
            file = package.parent.joinpath(*parts[:end]).with_suffix(".py")
            if parts[0] == "pochade" and file.exists():
                yield file


def test_all_that_models_and_engine_import_is_among_the_sources():
    package = Path(openvino.__file__).parents[1]
    sources = set(openvino.sources())
    graph = [path for path in sources if path.parent.name in ("models", "engines", "pochade")]
    assert len(graph) > 15
    for path in graph:
        for file in imported(path):
            known = file.relative_to(package).with_suffix("").as_posix() in SHAPE_NOTHING
            assert file in sources or known, f"{path.name} imports {file.name}"


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "empty":
        data = bytearray()
    elif how == "short":
        data = data[:10]
    elif how == "truncated":
        data = data[: len(data) // 2]
    elif how == "last byte missing":
        del data[-1]
    elif how == "a bit flipped":
        data[len(data) // 2] ^= 1
    elif how == "zeroes":
        data = bytearray(len(data))
    path.write_bytes(data)


@pytest.mark.parametrize(
    "how", ["empty", "short", "truncated", "last byte missing", "a bit flipped", "zeroes"]
)
def test_a_damaged_blob_is_replaced(tmp_path, tensors, how):
    expected = compile_with(tmp_path, tensors)(x=np.ones((3, 4)))
    (path,) = blobs(tmp_path)
    damage(path, how)
    with pytest.raises(InvalidCheckpoint):
        compile_with(tmp_path, NOTHING)
    assert blobs(tmp_path) == []
    np.testing.assert_array_equal(compile_with(tmp_path, tensors)(x=np.ones((3, 4))), expected)
    compile_with(tmp_path, NOTHING)


def test_a_sealed_blob_that_openvino_refuses_is_replaced(tmp_path, tensors):
    compile_with(tmp_path, tensors)
    (path,) = blobs(tmp_path)
    BlobFolder(tmp_path / "openvino").store(path.stem, lambda file: file.write(b"of another kind" * 100))
    compile_with(tmp_path, tensors)
    restored = compile_with(tmp_path, NOTHING)  # without weights: only a sound blob can compute
    np.testing.assert_allclose(restored(x=np.eye(3, 4)), tensors["weight"].T[:3], rtol=1e-6)


def test_a_folder_that_cannot_be_made_costs_the_caching_only(tmp_path, tensors):
    (tmp_path / "taken").write_text("a file where the folder should be")
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="POCHADE_CACHE"):
            compiled = compile_with(tmp_path / "taken", tensors)
        np.testing.assert_allclose(compiled(x=np.eye(3, 4)), tensors["weight"].T[:3], rtol=1e-6)


@pytest.fixture
def full_disk():
    """Files may not grow past 64 KiB: writing on fails, as it does where a disk is full."""
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("rows", [2**11 + 64, 2**17])  # it is full while the file is closed, or long before
def test_a_full_disk_costs_the_caching_only(tmp_path, rng, full_disk, rows):
    weight = rng.standard_normal((rows, 8), dtype=np.float32)

    def function(ops, w, x):
        return ops.linear(x, w("weight", weight.shape))

    engine = OpenVinoEngine(cache_dir=tmp_path, threads=1)
    with pytest.warns(RuntimeWarning, match=r"not kept in .*File too large.*POCHADE_CACHE"):
        compiled = engine.compile(function, {"weight": weight}, {"x": ((8, 8), "f32")}, key="k")
    np.testing.assert_array_equal(compiled(x=np.eye(8)), weight.T)
    assert blobs(tmp_path) == []


COMPILE = """
import sys
from pathlib import Path
import numpy as np
from pochade.engines.openvino import OpenVinoEngine
engine = OpenVinoEngine(cache_dir=Path(sys.argv[1]), threads=1)
weight = np.arange(2**20, dtype=np.float32).reshape(2**10, 2**10)
inputs = {"x": ((1, 2**10), "f32")}

def function(ops, w, x):
    return ops.linear(x, w("w", weight.shape))

for _ in range(3):
    line = engine.compile(function, {"w": weight}, inputs, key="k")
    assert line(x=np.eye(1, 2**10))[0, 5] == weight[5, 0]
"""


def test_two_processes_may_compile_the_same_at_once(tmp_path):
    command = [sys.executable, "-W", "error", "-c", COMPILE, str(tmp_path)]
    root = Path(openvino.__file__).parents[2]
    running = [subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert [path.suffix for path in blobs(tmp_path)] == [".blob"]


# --- the folder itself, with small files -----------------------------------------------------------------


def write(size, value=0):
    return lambda file: file.write(bytes([value]) * size)


def names(folder):
    return sorted(path.stem for path in folder.iterdir())


def test_the_least_recently_used_goes_first(tmp_path):
    folder = BlobFolder(tmp_path, budget_bytes=3 * (100 + SEAL_BYTES))
    for age, name in enumerate("abc"):
        assert folder.store(name, write(100))
        os.utime(folder.path(name), (1000 + age, 1000 + age))
    assert folder.load("a") is not None  # so b is the oldest now
    assert folder.store("d", write(100))
    assert names(tmp_path) == ["a", "c", "d"]
    assert folder.store("e", write(100 + 100 + SEAL_BYTES))  # as large as two: c goes, and then a
    assert names(tmp_path) == ["d", "e"]


def test_a_budget_that_is_just_enough_removes_nothing(tmp_path):
    folder = BlobFolder(tmp_path, budget_bytes=2 * (100 + SEAL_BYTES))
    folder.store("a", write(100))
    folder.store("b", write(100))
    assert names(tmp_path) == ["a", "b"]


def test_one_that_is_larger_than_the_whole_budget_is_not_kept(tmp_path):
    folder = BlobFolder(tmp_path, budget_bytes=500)
    assert folder.store("small", write(100))
    with pytest.warns(RuntimeWarning, match="more than the cache may hold"):
        assert not folder.store("large", write(500))
    assert names(tmp_path) == ["small"]


def test_what_an_interrupted_process_left_is_cleared_but_not_what_another_is_writing(tmp_path):
    old, new = tmp_path / "writing-old.part", tmp_path / "writing-new.part"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    BlobFolder(tmp_path).store("a", write(10))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.blob", "writing-new.part"]


def test_a_failure_while_writing_leaves_nothing(tmp_path):
    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.warns(RuntimeWarning, match="No space left"):
        assert not BlobFolder(tmp_path).store("a", fail)
    assert list(tmp_path.iterdir()) == []


def test_another_error_while_writing_is_not_hidden_and_leaves_nothing(tmp_path):
    def fail(file):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        BlobFolder(tmp_path).store("a", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_meets_half_a_blob(tmp_path):
    folder, stop = BlobFolder(tmp_path), threading.Event()

    def keep_writing(value):
        while not stop.is_set():
            folder.store("a", write(200_000, value))

    writers = [threading.Thread(target=keep_writing, args=(value,)) for value in (1, 2)]
    for writer in writers:
        writer.start()
    seen = set()
    deadline = time.monotonic() + 20
    try:
        while len(seen) < 2 and time.monotonic() < deadline:
            blob = folder.load("a")
            if blob is not None:
                assert len(blob) == 200_000
                seen.add(blob.min())
                assert blob.min() == blob.max()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert seen == {1, 2}


def test_a_mapped_blob_survives_its_removal(tmp_path):
    folder = BlobFolder(tmp_path)
    folder.store("a", write(100, 7))
    blob = folder.load("a")
    folder.discard("a")
    assert folder.load("a") is None
    if sys.platform != "win32":
        assert blob.tobytes() == b"\x07" * 100


def test_the_mapping_can_be_written_to_without_changing_the_file(tmp_path):
    folder = BlobFolder(tmp_path)
    folder.store("a", write(100, 7))
    folder.load("a")[:] = 1
    assert folder.load("a").tobytes() == b"\x07" * 100


# --- settings ---------------------------------------------------------------------------------------------


def test_the_cache_lies_where_the_environment_says(tmp_path):
    assert settings.cache_dir({"POCHADE_CACHE": str(tmp_path / "here")}) == tmp_path / "here"
    assert not (tmp_path / "here").exists()
    assert settings.cache_dir({"POCHADE_CACHE": "~/here"}) == Path.home() / "here"


@pytest.mark.parametrize("environ", [{}, {"POCHADE_CACHE": ""}])
def test_the_cache_lies_in_the_users_cache_folder_otherwise(environ):
    assert "pochade" in settings.cache_dir(environ).parts
    assert settings.cache_dir(environ).is_absolute()


# --- graphs that may never be wanted again ----------------------------------------------------------------


@pytest.mark.parametrize("keep_later", [False, True])
def test_a_graph_of_passing_interest_is_kept_from_its_second_compilation_on(
    tmp_path, tensors, rng, keep_later
):
    x = rng.standard_normal((3, 4), dtype=np.float32)

    def use(weights, **options):
        engine = OpenVinoEngine(cache_dir=tmp_path, threads=1, keep_later=keep_later)
        inputs = {"x": ((3, 4), "f32")}
        kept_before = engine.keeps(inputs, key="line")
        graph = engine.compile(line, weights, inputs, key="line", **options)
        result = graph(x=x)
        graph.wait_stored()
        suffixes = {path.suffix for path in blobs(tmp_path)}
        return result, kept_before, suffixes, graph.restored

    first, kept, found, _ = use(tensors, on_second_use=True)
    assert not kept and found == {".seen"}
    second, kept, found, _ = use(tensors, on_second_use=True)
    assert not kept and found == {".seen", ".blob"}
    third, kept, _, restored = use(NOTHING, on_second_use=True)
    assert kept and restored
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_marks_of_what_was_used_once_are_few_and_take_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_cache, "MARKS", 3)
    folder = BlobFolder(tmp_path, budget_bytes=200)
    for age, name in enumerate("abcd"):
        assert not folder.seen_before(name)
        os.utime(tmp_path / f"{name}.seen", (1000 + age, 1000 + age))
    assert folder.seen_before("c") and folder.seen_before("d") and not folder.seen_before("a")
    assert names(tmp_path) == ["a", "c", "d"]
    assert folder.store("blob", write(100)), "marks do not count"
    assert names(tmp_path) == ["a", "blob", "c", "d"]


def test_where_no_mark_can_be_left_nothing_is_kept_and_nothing_fails(tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder = BlobFolder(tmp_path / "file")
    assert not folder.seen_before("a") and not folder.seen_before("a")


def test_room_is_made_before_a_blob_is_written(tmp_path):
    """So the disk's budget is kept all along, whoever looks."""
    size = 100 + SEAL_BYTES
    folder = BlobFolder(tmp_path, budget_bytes=3 * size)
    for age, name in enumerate("abc"):
        folder.store(name, write(100))
        os.utime(folder.path(name), (1000 + age, 1000 + age))
    seen = []

    def look(file):
        seen.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        file.write(bytes(100))

    assert folder.store("d", look, expected_bytes=size)
    assert seen == [2 * size] and names(tmp_path) == ["b", "c", "d"]
    with pytest.warns(RuntimeWarning, match="more than the cache may hold"):
        assert not folder.store("e", look, expected_bytes=4 * size)
    assert len(seen) == 1 and names(tmp_path) == ["b", "c", "d"], "nothing went for what is too large anyhow"


def test_a_blob_that_becomes_larger_than_expected_makes_room_as_it_grows(tmp_path):
    size = 100 + SEAL_BYTES
    folder = BlobFolder(tmp_path, budget_bytes=3 * size)
    for age, name in enumerate("abc"):
        folder.store(name, write(100))
        os.utime(folder.path(name), (1000 + age, 1000 + age))
    seen = []

    def grow(file):
        for _ in range(2):
            file.write(bytes(100))
            file.flush()
            seen.append(sum(path.stat().st_size for path in tmp_path.iterdir()))

    assert folder.store("d", grow, expected_bytes=size)
    assert max(seen) <= 3 * size and names(tmp_path) == ["c", "d"]

    def never_ending(file):
        while True:
            file.write(bytes(100))

    with pytest.warns(RuntimeWarning, match="more than the cache may hold"):
        assert not folder.store("e", never_ending, expected_bytes=size)
    assert "e" not in names(tmp_path)


def test_what_another_process_is_writing_counts(tmp_path):
    folder = BlobFolder(tmp_path, budget_bytes=400)
    folder.store("a", write(100))
    (tmp_path / "writing-another.part").write_bytes(bytes(250))
    folder.store("b", write(100))
    assert names(tmp_path) == ["b", "writing-another"]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_it_is_known_beforehand_how_large_a_blob_will_be(tmp_path, precision):
    from pochade.engines.openvino import device_features

    if precision not in device_features().precisions:
        pytest.skip(f"no {precision} here")
    weight = np.ones((8192, 4096), np.float32)
    engine = OpenVinoEngine(cache_dir=tmp_path, precision=precision)

    def function(ops, w, x):
        return ops.linear(x, w("w", (8192, 4096)))

    inputs = {"x": ((2, 4096), "f32")}
    graph = engine._compiled(function, {"w": weight}, inputs, round_to_bf16=precision == "bf16")
    path = tmp_path / "graph"
    with path.open("wb") as file:
        graph.export(file)
    assert path.stat().st_size * 0.95 < graph.export_bytes < path.stat().st_size * 1.1
