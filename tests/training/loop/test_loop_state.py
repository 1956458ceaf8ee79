"""States on disk: older, damaged, of another run, and portable ones."""

import errno
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pochade.checkpoints import safetensors
from pochade.errors import InvalidCheckpoint, InvalidRequest, OutputError
from pochade.training.loop import TrainingPlan, TrainingProgress, averaged, portable, train, write_portable
from pochade.training.loop.plan import learning_rate
from pochade.training.parameters import Parameters

PLAN = TrainingPlan(steps=12, learning_rate=0.1, warmup=2, save_every=4, log_every=1, rewarmup=3)
STATE = "state.safetensors"


def start() -> Parameters:
    generator = torch.Generator().manual_seed(3)
    return {"a.weight": torch.randn(3, 2, generator=generator), "b.bias": torch.full((4,), -1.0)}


def loss(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
    return sum(
        (tensor - torch.from_numpy(rng.normal(size=tuple(tensor.shape)).astype(np.float32))).square().mean()
        for _, tensor in sorted(parameters.items())
    )  # type: ignore[return-value]


def run(
    folder: Path, plan: TrainingPlan = PLAN, until: int = 12, parameters: Parameters | None = None
) -> TrainingProgress:
    """Train until a step, as if killed there; saved was the last multiple of four."""
    for progress in train(loss, start() if parameters is None else parameters, plan, folder):
        if progress.step == until:
            break
    return progress


def same(folder: Path, other: Path) -> bool:
    return (folder / STATE).read_bytes() == (other / STATE).read_bytes()


# --- the whole state --------------------------------------------------------------------------------


def test_a_state_of_before_there_were_counts_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "old", until=6)
    tensors = {
        name: np.array(array)
        for name, array in safetensors.read(tmp_path / "old" / STATE).items()
        if name not in ("began", "skipped", "in_a_row", "updates")
    }
    assert {name.split(".")[0] for name in tensors} == {"parameters", "averaged", "first", "second", "step"}
    safetensors.write(tmp_path / "old" / STATE, tensors)
    run(tmp_path / "old")
    assert same(tmp_path / "whole", tmp_path / "old")


def test_the_order_of_the_parameters_does_not_matter(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "turned", until=6)
    run(tmp_path / "turned", parameters=dict(reversed(start().items())))
    assert same(tmp_path / "whole", tmp_path / "turned")


def test_more_steps_and_other_intervals_are_welcome(tmp_path: Path) -> None:
    run(tmp_path, until=6)
    assert run(tmp_path, replace(PLAN, steps=20, save_every=3, log_every=2), until=0).step == 20


def test_another_seed_is_refused(tmp_path: Path) -> None:
    run(tmp_path, until=2)
    run(tmp_path, replace(PLAN, seed=5), until=6)  # nothing was saved yet, so nothing was lost
    with pytest.raises(InvalidRequest, match="began with seed 5, and the plan now says seed 6; keep 5"):
        run(tmp_path, replace(PLAN, seed=6))
    assert json.loads((tmp_path / "plan.json").read_text())["seed"] == 5
    assert run(tmp_path, replace(PLAN, seed=5)).step == 12


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({**start(), "c.bias": torch.zeros(2)}, r"'c\.bias' is only here; keep the settings"),
        ({"a.weight": torch.zeros(3, 2)}, r"'b\.bias' is only there"),
        ({**start(), "b.bias": torch.zeros(5)}, r"'b\.bias' is \(4,\) there and \(5,\) here"),
        ({f"x{i}": torch.zeros(1) for i in range(9)}, r"\(and 8 more\)"),
    ],
)
def test_other_parameters_are_refused(tmp_path: Path, parameters: Parameters, complaint: str) -> None:
    run(tmp_path, until=6)
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(InvalidRequest, match=complaint) as raised:
        run(tmp_path, parameters=parameters)
    assert str(tmp_path / STATE) in str(raised.value)
    assert (tmp_path / STATE).read_bytes() == before


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_state_that_is_cut_off_is_named(tmp_path: Path, length: int) -> None:
    run(tmp_path, until=6)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:length])
    for reading in (
        lambda: run(tmp_path),
        lambda: averaged(tmp_path),
        lambda: write_portable(tmp_path, tmp_path),
    ):
        with pytest.raises(InvalidCheckpoint, match=r"state\.safetensors.*Put a copy.*or delete it"):
            reading()
    (tmp_path / STATE).unlink()
    assert run(tmp_path).step == 12


@pytest.mark.parametrize("name", ["step", "began", "updates", "second.b.bias"])
def test_a_state_with_a_hole_is_named(tmp_path: Path, name: str) -> None:
    run(tmp_path, until=6)
    tensors = {key: np.array(array) for key, array in safetensors.read(tmp_path / STATE).items()}
    tensors[name] = np.zeros(7, np.float32)
    safetensors.write(tmp_path / STATE, tensors)
    with pytest.raises(InvalidCheckpoint, match=rf"state\.safetensors.*'{name}'.*Put a copy"):
        run(tmp_path)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    run(tmp_path, until=6)
    (tmp_path / "plan.json").write_text('{"see')
    with pytest.raises(InvalidCheckpoint, match=r"plan\.json' is damaged; delete it if .* seed 0"):
        run(tmp_path)


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """No file can grow beyond this, as the operating system sees it."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_state_whole(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "full", until=6)
    before = (tmp_path / "full" / STATE).read_bytes()
    with (
        full_disk(bytes_left=len(before) - 50),
        pytest.raises(OutputError, match=r"state\.safetensors' could not be written") as raised,
    ):
        run(tmp_path / "full", replace(PLAN, log_every=1000), until=0)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EFBIG
    assert (tmp_path / "full" / STATE).read_bytes() == before
    run(tmp_path / "full")
    assert same(tmp_path / "whole", tmp_path / "full")


def test_a_full_disk_under_the_log_is_said(tmp_path: Path) -> None:
    with full_disk(bytes_left=1000), pytest.raises(OutputError, match=r"log\.jsonl' could not be written"):
        run(tmp_path, replace(PLAN, save_every=1000))
    assert run(tmp_path).step == 12


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"run' could not be written"):
        run(tmp_path / "file" / "run")


# --- travelling -------------------------------------------------------------------------------------


def test_a_run_travels_and_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "here", until=9)
    files = write_portable(tmp_path / "here", tmp_path / "there")
    assert [path.name for path in files] == ["travel-1-of-1.safetensors", "plan.json"]

    reached = averaged(tmp_path / "here")  # at step 8
    arrived = averaged(tmp_path / "there")
    parameters = start()
    first = next(train(loss, parameters, replace(PLAN, learning_rate=0.0), tmp_path / "there"))
    assert first.step == 9
    for name, tensor in reached.items():
        assert arrived[name].dtype == torch.float32
        assert torch.equal(arrived[name], tensor.half().float())
        assert torch.equal(parameters[name].detach(), arrived[name])


def test_it_warms_up_again_with_a_new_optimizer(tmp_path: Path) -> None:
    run(tmp_path / "here", until=9)
    write_portable(tmp_path / "here", tmp_path / "there")
    rates = [progress.learning_rate for progress in train(loss, start(), PLAN, tmp_path / "there")]
    assert rates == pytest.approx(
        [learning_rate(PLAN, step) * share for step, share in ((8, 1 / 3), (9, 2 / 3), (10, 1), (11, 1))]
    )
    stored = safetensors.read(tmp_path / "there" / STATE)
    assert (int(stored["step"]), int(stored["began"]), stored["updates"].tolist()) == (12, 8, [4, 4])


def test_a_run_that_travelled_and_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run(tmp_path / "here", until=5)
    for name in ("whole", "killed"):
        write_portable(tmp_path / "here", tmp_path / name)
    plan = replace(PLAN, save_every=2)
    run(tmp_path / "whole", plan)
    run(tmp_path / "killed", plan, until=7)
    run(tmp_path / "killed", plan)
    assert same(tmp_path / "whole", tmp_path / "killed")


def test_whichever_is_further_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "here", until=5)
    run(tmp_path / "ahead", until=9)
    write_portable(tmp_path / "ahead", tmp_path / "here")
    assert next(train(loss, start(), PLAN, tmp_path / "here")).step == 9
    write_portable(tmp_path / "here", tmp_path / "here")  # of step 4: nothing was saved since
    run(tmp_path / "here", until=9)
    assert next(train(loss, start(), PLAN, tmp_path / "here")).step == 9
    run(tmp_path / "whole")
    run(tmp_path / "here")
    assert same(tmp_path / "whole", tmp_path / "here")


def test_pieces_stay_below_16_mb_and_together_below_60(tmp_path: Path) -> None:
    # 25 million parameters, one of them alone larger than a piece
    rng = np.random.default_rng(0)
    shapes = {"embedding.weight": (20_000, 512), **{f"layer.{i}.weight": (640, 640) for i in range(36)}}
    assert 24.9e6 < sum(math.prod(shape) for shape in shapes.values()) < 25.1e6
    weights = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    files = portable.pack(weights, 7, tmp_path)
    sizes = [path.stat().st_size for path in files]
    assert max(sizes) < 16_000_000
    assert sum(sizes) < 60_000_000
    step, arrived = portable.unpack(tmp_path) or (0, {})
    assert step == 7
    assert arrived.keys() == weights.keys()
    for name, weight in weights.items():
        assert np.array_equal(arrived[name], weight.astype(np.float16)), name


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A run in three files."""
    monkeypatch.setattr(portable, "FILE_BYTES", 8)
    run(tmp_path / "here", until=5)
    return write_portable(tmp_path / "here", tmp_path / "there")[:-1]


def test_a_set_with_a_gap_is_refused(several: list[Path]) -> None:
    assert len(several) == 3
    several[1].unlink()
    with pytest.raises(InvalidCheckpoint, match=r"missing: travel-2-of-3\.safetensors.*copy all files"):
        run(several[0].parent)


def test_a_mixed_set_is_refused(several: list[Path]) -> None:
    run(several[0].parent, until=9)
    other = several[0].parent.parent / "other"
    write_portable(several[0].parent, other)
    several[1].write_bytes((other / several[1].name).read_bytes())
    with pytest.raises(InvalidCheckpoint, match="steps: 4, 8"):
        run(several[0].parent)


def test_a_damaged_piece_is_named(several: list[Path]) -> None:
    several[1].write_bytes(several[1].read_bytes()[:-3])
    with pytest.raises(InvalidCheckpoint, match=r"travel-2-of-3\.safetensors"):
        run(several[0].parent)


def test_a_new_set_takes_the_place_of_the_old_one(
    several: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    run(several[0].parent.parent / "here", until=9)
    write_portable(several[0].parent.parent / "here", several[0].parent)
    assert sorted(path.name for path in several[0].parent.iterdir()) == [
        "plan.json",
        "travel-1-of-1.safetensors",
    ]


def test_travelled_weights_of_another_model_are_refused(several: list[Path]) -> None:
    with pytest.raises(InvalidRequest, match=r"travel-\*.*'b\.bias' is \(4,\) there and \(5,\) here"):
        run(several[0].parent, parameters={**start(), "b.bias": torch.zeros(5)})


def test_a_weight_too_large_for_half_precision_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"'a\.weight' goes up to 70000, beyond half precision"):
        portable.pack({"a.weight": np.array([[1.0, -7e4]], np.float32)}, 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_never_ran_cannot_travel(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="does not exist"):
        write_portable(tmp_path / "nowhere", tmp_path / "there")
