"""The compiled attention kernel: against numpy in f64, within graphs, and where it is absent."""

import gc
import shutil
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pochade.engines.attention_kernel as attention_kernel
from pochade.engines import openvino
from pochade.engines.attention_kernel import (
    AMX,
    DISABLED,
    F32_WIDE,
    INTEL,
    PATHS,
    WIDEST,
    describe_kernel,
    load_kernel,
)
from pochade.engines.openvino import OpenVinoEngine, device_features
from pochade.engines.openvino_attention import LONG, KernelUse
from pochade.engines.openvino_cache import BlobFolder
from pochade.int8 import grid
from pochade.models.layers import join_heads, split_heads

ROOT = Path(__file__).parents[2]
kernel_only = pytest.mark.skipif(load_kernel() is None, reason=describe_kernel())


BF16, BYTES, F32 = PATHS["bf16"], PATHS["bytes"], PATHS["f32"]
WAYS = ("bf16", "bytes", "f32", "f32, narrow")
ERRORS = {"bf16": 0.01, "bytes": 0.03, "f32": 3e-6, "f32, narrow": 3e-6}
"""One rounding to bf16 is 2**-9 of a number; a byte's is half of 1/127 of the largest of a row."""


def of(way):
    """The kernel's arguments for a way to compute products. Skips where this processor does not have it."""
    products, _, narrow = way.partition(", ")
    if products not in load_kernel().supported:
        pytest.skip(f"this processor does not compute attention in {products}")
    return {"products": products, "narrow": bool(narrow)}


def exact(query, key, value, heads):
    """softmax(Q K^T / sqrt(D)) V in f64."""
    split = [x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3).astype(np.float64)
             for x in (query, key, value)]  # fmt: skip
    scores = split[0] @ split[1].swapaxes(2, 3) / np.sqrt(split[0].shape[-1])
    scores -= scores.max(-1, keepdims=True)
    weights = np.exp(scores)
    result = weights / weights.sum(-1, keepdims=True) @ split[2]
    return result.transpose(0, 2, 1, 3).reshape(query.shape)


def inputs(rng, batch, heads, queries, keys, dim, scale=1.0):
    return [
        (rng.standard_normal((batch, tokens, heads * dim)) * size).astype(np.float32)
        for tokens, size in ((queries, scale), (keys, scale), (keys, 1.0))
    ]


def relative(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@kernel_only
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys", "dim"),
    [
        (2, 8, 128, 128, 40),
        (1, 5, 256, 256, 64),
        (2, 2, 96, 320, 80),
        (1, 2, 64, 128, 160),
        (1, 1, 50, 77, 256),
        (1, 3, 1, 1, 8),
        (1, 3, 333, 777, 24),
        (1, 2, 47, 65, 16),
        (1, 2, 49, 63, 32),
        (1, 2, 6, 129, 48),
        (1, 2, 7, 200, 56),
        (1, 1, 100, 100, 6),
        (1, 1, 100, 100, 37),
        (1, 2, 30, 90, 120),
        (1, 2, 30, 90, 104),
        (1, 1, 30, 90, 3),
    ],
)
def test_agrees_with_f64_in_every_shape(rng, way, batch, heads, queries, keys, dim):
    given = inputs(rng, batch, heads, queries, keys, dim)
    expected = exact(*given, heads)
    error = relative(load_kernel().attention(*given, heads, **of(way)), expected)
    assert error < ERRORS[way]


@kernel_only
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scale", [0.0, 1e-3, 3.0, 8.0, 30.0])
def test_flat_and_sharp_rows_and_those_beyond_what_needs_a_maximum(rng, way, scale):
    given = inputs(rng, 1, 2, 60, 300, 40, scale)
    result = load_kernel().attention(*given, 2, **of(way))
    assert np.isfinite(result).all()
    if scale <= 3:
        assert relative(result, exact(*given, 2)) < 5 * ERRORS[way]
    else:  # rounded scores choose among near equals: a weighted mean of values all the same
        assert np.abs(result).max() <= np.abs(given[2]).max() * 1.01


@kernel_only
def test_exponents_that_overflow_without_a_shift_are_exact_where_scores_are(rng):
    """Scores of some thousands, from numbers that bf16 holds exactly."""
    query, key, value = inputs(rng, 1, 1, 12, 70, 16)
    key[:] = 0
    key[0, np.arange(16), np.arange(16)] = 256.0
    query = np.eye(16, dtype=np.float32)[None, :12] * 64.0
    for products in load_kernel().supported - {"bytes"}:
        result = load_kernel().attention(query, key, value, 1, products=products)
        assert relative(result, exact(query, key, value, 1)) < ERRORS[products]


@kernel_only
@pytest.mark.parametrize("way", WAYS)
def test_a_common_offset_of_the_keys_changes_nothing(rng, way):
    given = inputs(rng, 1, 2, 64, 192, 40)
    moved = [given[0], given[1] + 50.0, given[2]]
    error = relative(load_kernel().attention(*moved, 2, **of(way)), exact(*given, 2))
    assert error < 5 * ERRORS[way]


@kernel_only
def test_bytes_take_dimensions_of_very_different_size(rng):
    of("bytes")
    query, key, value = inputs(rng, 1, 1, 128, 256, 64)
    key[..., 3] *= 100
    query[..., 3] /= 100
    error = relative(
        load_kernel().attention(query, key, value, 1, products="bytes"), exact(query, key, value, 1)
    )
    assert error < 0.03


@kernel_only
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(rng, way, which, what):
    given = inputs(rng, 1, 1, 64, 128, 40)
    given[which][0, 5, 7] = what
    result = load_kernel().attention(*given, 1, **of(way))
    assert not np.isfinite(result).all()


@kernel_only
def test_any_number_of_threads_gives_the_same_numbers(rng):
    given = inputs(rng, 2, 3, 200, 333, 40)
    for products in load_kernel().supported:
        results = [
            load_kernel().attention(*given, 3, products=products, threads=threads)
            for threads in (1, 2, 3, 16)
        ]
        assert all(np.array_equal(results[0], other) for other in results[1:])


@kernel_only
def test_sizes_that_are_not_served_are_refused(rng):
    given = inputs(rng, 1, 1, 8, 8, WIDEST + 8)
    for products in load_kernel().supported:
        with pytest.raises(ValueError, match="does not support"):
            load_kernel().attention(*given, 1, products=products)


def attend(ops, w, x):
    """Self-attention of two heads of 8."""
    q, k, v = (split_heads(ops, ops.linear(x, w(name, (16, 16))), 2) for name in "qkv")
    return join_heads(ops, ops.attention(q, k, v))


def graph_case(rng, precision):
    """Weights, and as many tokens as the kernel takes."""
    tensors = {name: rng.standard_normal((16, 16)).astype(np.float32) / 4 for name in "qkv"}
    return tensors, rng.standard_normal((1, LONG[precision], 16), dtype=np.float32)


def compiled(engine, tensors, x, key=""):
    return engine.compile(attend, tensors, {"x": (x.shape, "f32")}, key=key)


def node_types(run):
    return [node.get_rt_info()["layerType"].astype(str) for node in run.model.get_runtime_model().get_ops()]


@pytest.fixture(autouse=True)
def used_wherever_it_runs(monkeypatch):
    """Graphs use the kernel here even where OpenVINO's attention is faster."""

    def forced():
        kernel = load_kernel()
        return None if kernel is None else replace(kernel, paths=kernel.supported)

    monkeypatch.setattr(openvino, "load_kernel", forced)


def engine_in(precision, **options):
    if precision not in device_features().precisions or precision not in load_kernel().supported:
        pytest.skip(f"nothing computes in {precision} here")
    return OpenVinoEngine(precision=precision, **options)


BEST = device_features().best_precision


@kernel_only
@pytest.mark.parametrize(("precision", "error"), [("f32", 1e-5), ("bf16", 0.01), ("int8", 0.03)])
def test_a_graph_calls_it_and_agrees_with_the_graph_that_does_not(rng, monkeypatch, precision, error):
    tensors, x = graph_case(rng, "bf16" if precision == "int8" else precision)
    engine = engine_in("bf16" if precision == "int8" else precision, threads=1)
    if precision == "int8":
        engine = engine.quantized({name: grid(-4.0, 4.0, np.ones(16, np.float32)) for name in "qkv"})
    through = compiled(engine, tensors, x)
    monkeypatch.setattr(KernelUse, "serves", lambda *_: False)
    plain = compiled(engine, tensors, x)
    assert "Reference" in node_types(through)
    assert "Reference" not in node_types(plain)
    assert relative(through(x=x), plain(x=x)) < error


@kernel_only
def test_a_compiled_graph_comes_back_from_the_disk_with_it(rng, tmp_path):
    tensors, x = graph_case(rng, BEST)
    first = compiled(engine_in(BEST, cache_dir=tmp_path), tensors, x, "key")
    expected = first(x=x)
    again = compiled(engine_in(BEST, cache_dir=tmp_path), tensors, x, "key")
    assert "Reference" in node_types(again)
    assert np.array_equal(again(x=x), expected)
    assert len(list(tmp_path.rglob("*.blob"))) == 1


@kernel_only
@pytest.mark.parametrize("restored", [False, True])
def test_a_graph_that_is_no_longer_used_holds_no_weights(rng, tmp_path, monkeypatch, restored):
    """OpenVINO never frees an operation that was defined in Python, with all that its inputs come from."""
    tensors, x = graph_case(rng, BEST)
    engine = engine_in(BEST, cache_dir=tmp_path if restored else None)
    if restored:
        compiled(engine, tensors, x, "key")(x=x)
    mapped, load = [], BlobFolder.load

    def watched_load(self, name):
        blob = load(self, name)
        mapped.append(weakref.ref(blob))
        return blob

    monkeypatch.setattr(BlobFolder, "load", watched_load)
    graph = compiled(engine, tensors, x, "key")
    assert "Reference" in node_types(graph)
    expected = graph(x=x)
    held = mapped if restored else [weakref.ref(tensors[name]) for name in "qkv"]
    del graph, tensors
    gc.collect()
    assert held and all(reference() is None for reference in held)
    tensors, x = graph_case(np.random.default_rng(0), BEST)
    again, other = (compiled(OpenVinoEngine(precision=BEST), tensors, x) for _ in range(2))
    first = again(x=x)
    del again
    gc.collect()
    np.testing.assert_array_equal(other(x=x), first)  # one graph's end is not another's
    assert expected.shape == first.shape


@kernel_only
def test_without_the_kernel_a_graph_is_compiled_anew(rng, tmp_path, monkeypatch):
    tensors, x = graph_case(rng, BEST)
    engine = engine_in(BEST, cache_dir=tmp_path)
    expected = compiled(engine, tensors, x, "key")(x=x)
    monkeypatch.setenv(DISABLED, "1")
    load_kernel.cache_clear()
    try:
        other = compiled(engine, tensors, x, "key")
        assert "Reference" not in node_types(other)
        assert relative(other(x=x), expected) < 0.01
        assert len(list(tmp_path.rglob("*.blob"))) == 2
        assert DISABLED in describe_kernel()
    finally:
        load_kernel.cache_clear()


@kernel_only
def test_causal_and_short_attention_are_left_to_openvino(rng):
    tensors, x = graph_case(rng, BEST)

    def causal(ops, w, x):
        q, k, v = (split_heads(ops, ops.linear(x, w(name, (16, 16))), 2) for name in "qkv")
        return join_heads(ops, ops.attention(q, k, v, causal=True))

    engine = engine_in(BEST, threads=1)
    run = engine.compile(causal, tensors, {"x": (x.shape, "f32")})
    assert "Reference" not in node_types(run)
    assert "Reference" not in node_types(compiled(engine, tensors, x[:, :-1]))


@kernel_only
def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(attention_kernel, "VERSION", attention_kernel.VERSION + 1)
    load_kernel.cache_clear()
    try:
        assert load_kernel() is None
    finally:
        load_kernel.cache_clear()


@pytest.mark.parametrize(
    ("bits", "paths"),
    [
        (BF16 | BYTES | F32_WIDE | F32, {"bf16", "bytes", "f32"}),
        (BF16 | BYTES | F32_WIDE | F32 | AMX, {"f32"}),
        (BF16 | BYTES | F32_WIDE | F32 | AMX | INTEL, set()),
        (F32_WIDE | F32 | INTEL, set()),
        (F32_WIDE | F32, {"f32"}),
        (F32 | INTEL, {"f32"}),
        (F32, {"f32"}),
        (0, set()),
    ],
)
def test_what_openvino_computes_faster_is_left_to_it(bits, paths):
    """bf16 where the processor has tiles for it, and f32 on Intel's with AVX-512."""
    assert attention_kernel.paths_of(bits) == paths


@kernel_only
def test_a_processor_on_which_openvino_is_faster_in_all_says_so(monkeypatch):
    none = replace(load_kernel(), paths=frozenset())
    monkeypatch.setattr(attention_kernel, "load_kernel", lambda: none)
    monkeypatch.setattr(openvino, "load_kernel", lambda: none)
    assert describe_kernel() == "OpenVINO's, which is faster than the own kernel on this processor"
    assert OpenVinoEngine(precision=BEST).kernel_use() is None


def test_versions_of_source_and_module_are_the_same():
    source = Path(attention_kernel.__file__).with_name("attention.c").read_text(encoding="utf-8")
    assert f"#define VERSION {attention_kernel.VERSION}\n" in source


def test_a_library_that_is_not_there_or_damaged_is_no_fault(monkeypatch, tmp_path):
    for found in (None, tmp_path / "missing.so", tmp_path / "damaged.so"):
        (tmp_path / "damaged.so").write_bytes(b"\x7fELF, or nearly")
        monkeypatch.setattr(attention_kernel, "built_library", lambda found=found: found)
        load_kernel.cache_clear()
        assert load_kernel() is None
        assert "OpenVINO" in describe_kernel()
    monkeypatch.undo()
    load_kernel.cache_clear()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_source_compiles_without_warnings(tmp_path):
    source = Path(attention_kernel.__file__).with_name("attention.c")
    command = [
        "cc",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        source,
        "-o",
        tmp_path / "a.so",
        "-lm",
    ]
    subprocess.run(command, check=True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_on_other_processors_it_compiles_to_a_library_that_serves_nothing(tmp_path):
    source = Path(attention_kernel.__file__).with_name("attention.c")
    command = ["cc", "-O2", "-DPOCHADE_NO_INTRINSICS", "-shared", "-fPIC", source, "-o", tmp_path / "a.so"]
    subprocess.run(command, check=True)
    code = f"import ctypes; print(ctypes.CDLL({str(tmp_path / 'a.so')!r}).pochade_attention_path())"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "0\n"
    )


def test_setup_goes_on_without_a_compiler(tmp_path):
    """The compiled part is optional: a build whose compiler is missing ends well, with nothing built."""
    environment = {"PATH": str(tmp_path), "CC": str(tmp_path / "no-such-compiler")}
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "--build-lib",
        tmp_path,
        "--build-temp",
        tmp_path,
    ]
    pytest.importorskip("setuptools")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("attention.so*"))
