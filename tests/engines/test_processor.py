"""Detection of CPU features from synthetic CPUID data."""

from pathlib import Path

import openvino as ov
import pytest

from pochade.engines.cpu_features import instructions
from pochade.engines.openvino import OpenVinoEngine, device_features, features_of

X86_AMX = "fpu avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            f"flags\t\t: {X86_AMX}",
            ["AVX2", "AVX-512", "VNNI", "AVX-512 BF16", "AVX-512 FP16", "AMX BF16", "AMX INT8"],
        ),
        ("flags\t\t: fpu avx2 avx_vnni", ["AVX2", "VNNI"]),
        ("flags\t\t: fpu sse2", []),
        ("flags\t\t: fpu amx_tile", []),  # tiles alone multiply nothing
        ("Features\t: fp asimd asimdhp sve bf16 i8mm", ["NEON", "NEON FP16", "SVE", "BF16", "I8MM"]),
        ("bugs\t\t: amx_bf16", ["AVX-512"]),  # of the next processor, which has a line of flags
    ],
)
def test_instructions(tmp_path: Path, line: str, found: list[str]) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\nflags\t\t: avx512f\n")
    assert instructions(file) == found
    assert instructions(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("device", "listed", "chosen", "precisions", "best"),
    [
        ("cpu", ["FP32", "FP16", "INT8", "BIN"], ov.Type.f16, ("f32", "f16"), "f16"),  # ARM
        ("cpu", ["FP32", "INT8"], ov.Type.f32, ("f32",), "f32"),  # ARM of before 8.2, x86
        ("cpu", ["FP32", "BF16", "INT8"], ov.Type.f32, ("f32",), "f32"),  # emulated
        ("cpu", ["FP32", "BF16", "INT8"], ov.Type.bf16, ("f32", "bf16"), "bf16"),
        ("cpu", ["FP32", "FP16", "BF16"], ov.Type.bf16, ("f32", "bf16", "f16"), "bf16"),  # AMX
        ("cpu", ["FP32", "FP16"], ov.Type.f32, ("f32", "f16"), "f32"),
        ("gpu", ["FP32", "FP16"], ov.Type.f16, ("f32", "f16"), "f16"),
    ],
)
def test_f16_is_taken_where_it_is_native_and_the_default(device, listed, chosen, precisions, best):
    features = features_of(device, "a processor", listed, chosen)
    assert features.precisions == precisions
    assert features.best_precision == best


def test_more_range_is_another_engine_of_the_same_kind():
    engine = OpenVinoEngine(threads=1)
    assert engine.with_f32_range() is engine and engine.precision == "f32"
    narrow = OpenVinoEngine(threads=1)
    narrow._precision = "f16"  # as on a processor that has it
    wide = narrow.with_f32_range()
    assert wide.precision == ("bf16" if "bf16" in device_features().precisions else "f32")
    assert wide._properties["INFERENCE_NUM_THREADS"] == 1
    assert (narrow.precision, narrow.with_f32_range().precision) == ("f16", wide.precision)
