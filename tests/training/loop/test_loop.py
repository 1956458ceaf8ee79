"""The training loop: steps, gradients, log, and errors."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pochade.errors import InvalidRequest
from pochade.training.loop import ByStep, Loss, TrainingPlan, TrainingProgress, averaged, train
from pochade.training.loop.plan import learning_rate
from pochade.training.parameters import Parameters

PLAN = TrainingPlan(steps=12, learning_rate=0.1, warmup=2, save_every=4, log_every=1, averaging=0.5)


def start() -> Parameters:
    return {"a.weight": torch.full((3, 2), 2.0), "b.bias": torch.full((4,), -1.0)}


def loss(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
    """Pulls every parameter to random places around 0."""
    return sum(
        (tensor - torch.from_numpy(rng.normal(size=tuple(tensor.shape)).astype(np.float32))).square().mean()
        for tensor in parameters.values()
    )  # type: ignore[return-value]


def run(
    folder: Path, plan: TrainingPlan = PLAN, loss: Loss | ByStep = loss, **settings: Any
) -> list[TrainingProgress]:
    return list(train(loss, start(), plan, folder, **settings))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(folder: Path, other: Path) -> bool:
    return (folder / "state.safetensors").read_bytes() == (other / "state.safetensors").read_bytes()


def test_a_step_is_adamw_on_the_randomness_of_its_seed_and_number(tmp_path: Path) -> None:
    run(tmp_path, replace(PLAN, steps=3, clip=1e9, seed=7))

    expected = start()
    for tensor in expected.values():
        tensor.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [expected["a.weight"]], "weight_decay": PLAN.weight_decay},
            {"params": [expected["b.bias"]], "weight_decay": 0.0},
        ],
        betas=PLAN.betas,
    )
    means = {name: tensor.detach().clone() for name, tensor in expected.items()}
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(replace(PLAN, steps=3), step)
        optimizer.zero_grad()
        loss(expected, np.random.default_rng((7, step))).backward()
        optimizer.step()
        decay = min(PLAN.averaging, (1 + step) / (10 + step))
        for name, mean in means.items():
            mean.lerp_(expected[name].detach(), 1 - decay)
    for name, tensor in averaged(tmp_path).items():
        assert torch.allclose(tensor, means[name], atol=1e-6)


def test_the_rate_warms_up_and_falls_as_half_a_cosine() -> None:
    plan = TrainingPlan(steps=110, learning_rate=2.0, warmup=10, final_rate=0.1)
    assert [learning_rate(plan, step) for step in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
    assert learning_rate(plan, 60) == pytest.approx((2.0 + 0.2) / 2)
    assert learning_rate(plan, 109) == pytest.approx(0.2, abs=1e-3)


def test_with_a_cooldown_the_rate_stays_level_and_then_falls_in_a_line() -> None:
    plan = TrainingPlan(steps=100, learning_rate=2.0, warmup=10, final_rate=0.0, cooldown=0.2)
    assert [learning_rate(plan, step) for step in (10, 50, 80)] == [2.0, 2.0, 2.0]
    assert [learning_rate(plan, step) for step in (85, 90, 95)] == pytest.approx([1.5, 1.0, 0.5])
    # what came before the cooldown is the same for a longer run, so that it may be prolonged
    assert learning_rate(replace(plan, steps=1000), 79) == learning_rate(plan, 79)


def test_accumulation_averages_over_calls_with_randomness_of_their_own(tmp_path: Path) -> None:
    def both(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        """The two calls of a step as one loss: the second draws from (seed, step, 1)."""
        first, second = np.random.default_rng((0, both.step)), np.random.default_rng((0, both.step, 1))  # type: ignore[attr-defined]
        both.step += 1  # type: ignore[attr-defined]
        return (loss(parameters, first) + loss(parameters, second)) / 2

    both.step = 0  # type: ignore[attr-defined]
    twice = run(tmp_path / "accumulated", replace(PLAN, accumulation=2))
    once = run(tmp_path / "summed", loss=both)
    for one, other in zip(twice, once, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-5)
    expected = averaged(tmp_path / "summed")
    for name, tensor in averaged(tmp_path / "accumulated").items():
        assert torch.allclose(tensor, expected[name], atol=1e-6)


def test_gradients_are_clipped_together_or_apart(tmp_path: Path) -> None:
    def pull(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        return 30 * parameters["a.weight"].sum() + 0.1 * parameters["b.bias"].sum()

    def moments(name: str, plan: TrainingPlan) -> dict[str, float]:
        run(tmp_path / name, replace(plan, steps=1), pull)
        from pochade.checkpoints import safetensors

        stored = safetensors.read(tmp_path / name / "state.safetensors")
        # after one step the first moment is a tenth of the gradient
        return {name: float(stored[f"first.{name}"].flat[0]) / 0.1 for name in start()}

    norm = math.hypot(30 * math.sqrt(6), 0.1 * math.sqrt(4))
    together = moments("together", PLAN)
    assert together == pytest.approx({"a.weight": 30 / norm, "b.bias": 0.1 / norm}, rel=1e-4)
    apart = moments("apart", replace(PLAN, clip_apart=("b.",)))
    assert apart == pytest.approx({"a.weight": 1 / math.sqrt(6), "b.bias": 0.1}, rel=1e-4)
    assert lines(tmp_path / "together")[0]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert lines(tmp_path / "apart")[0]["gradient_norm"] == pytest.approx(30 * math.sqrt(6), rel=1e-5)


def test_a_parameter_without_a_gradient_stays_as_it_is(tmp_path: Path) -> None:
    def later(step: int) -> Loss:
        def some(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
            chosen = parameters if step >= 6 else {"b.bias": parameters["b.bias"]}
            return loss(chosen, rng)

        return some

    plan = replace(PLAN, weight_decay=0.5)
    run(tmp_path / "early", replace(plan, steps=6), ByStep(later))
    assert torch.equal(averaged(tmp_path / "early")["a.weight"], start()["a.weight"])
    # the two parameters have now been updated different numbers of times, and a resumed run remembers
    run(tmp_path / "whole", plan, ByStep(later))
    for progress in train(ByStep(later), start(), plan, tmp_path / "killed"):
        if progress.step == 9:
            break
    run(tmp_path / "killed", plan, ByStep(later))
    assert not torch.equal(averaged(tmp_path / "whole")["a.weight"], start()["a.weight"])
    assert same(tmp_path / "whole", tmp_path / "killed")


# --- the log ----------------------------------------------------------------------------------------


def test_the_log_tells_means_since_its_last_line(tmp_path: Path) -> None:
    run(tmp_path / "each")
    reports = run(tmp_path / "some", replace(PLAN, log_every=5, batch=8, accumulation=1))
    each, some = lines(tmp_path / "each"), lines(tmp_path / "some")
    assert [line["step"] for line in some] == [5, 10, 12]
    assert [line["step"] for line in some] == [report.step for report in reports]
    for line, steps in zip(some, (each[:5], each[5:10], each[10:]), strict=True):
        for name in ("loss", "gradient_norm"):
            assert line[name] == pytest.approx(np.mean([step[name] for step in steps]))
        assert line["learning_rate"] == steps[-1]["learning_rate"]
        assert line["pictures_per_second"] == pytest.approx(8 / line["seconds_per_step"])
    assert "pictures_per_second" not in each[0]


def test_the_log_of_a_killed_run_has_every_step_once(tmp_path: Path) -> None:
    for progress in train(loss, start(), PLAN, tmp_path):
        if progress.step == 7:
            break
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # so far it came
    assert lines_until_broken(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    progress = next(train(loss, start(), PLAN, tmp_path))
    assert progress.step == 5
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    run(tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 13))


def lines_until_broken(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()[:-1]]


# --- pieces of time ---------------------------------------------------------------------------------


def test_a_run_in_pieces_is_the_same_run(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    pieces = []
    while not pieces or pieces[-1][-1].step < PLAN.steps:
        pieces.append(run(tmp_path / "pieces", minutes=0.0))
    assert [[progress.step for progress in stage] for stage in pieces] == [[step] for step in range(1, 13)]
    assert same(tmp_path / "whole", tmp_path / "pieces")
    assert run(tmp_path / "pieces", minutes=1.0) == []


def test_a_piece_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("pochade.training.loop.run.time.monotonic", lambda: float(next(clock)))
    (last, *_) = run(tmp_path, replace(PLAN, steps=1000, log_every=1000), minutes=0.5)
    assert 5 < last.step < 30  # a few readings of the clock, of a second each, for every step
    again = run(tmp_path, replace(PLAN, steps=last.step + 1))
    assert [progress.step for progress in again] == [last.step + 1]


# --- samples ----------------------------------------------------------------------------------------


def test_samples_are_drawn_from_the_averaged_weights(tmp_path: Path) -> None:
    seen: dict[int, torch.Tensor] = {}

    def samples(parameters: Parameters, step: int) -> None:
        assert not torch.is_grad_enabled()
        seen[step] = parameters["b.bias"].clone()

    run(tmp_path, replace(PLAN, sample_every=5), samples=samples)
    assert list(seen) == [5, 10, 12]
    assert torch.equal(seen[12], averaged(tmp_path)["b.bias"])


def test_samples_that_fail_do_not_end_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(parameters: Parameters, step: int) -> None:
        raise ValueError(f"no picture at {step}")

    plan = replace(PLAN, sample_every=5)
    reports = run(tmp_path / "broken", plan, samples=broken)
    run(tmp_path / "sound", plan)
    assert reports[-1].step == 12
    assert same(tmp_path / "broken", tmp_path / "sound")
    errors = {
        line["step"]: line["samples_failed"] for line in lines(tmp_path / "broken") if "loss" not in line
    }
    assert errors == {step: f"ValueError: no picture at {step}" for step in (5, 10, 12)}
    assert capsys.readouterr().err.count("no picture at") == 1  # told once


# --- losses that are not finite ---------------------------------------------------------------------


def failing(at: set[int], value: float = math.nan) -> ByStep:
    def choose(step: int) -> Loss:
        return (lambda parameters, rng: loss(parameters, rng) * value) if step in at else loss

    return ByStep(choose)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_without_a_finite_loss_is_skipped_and_counted(tmp_path: Path, value: float) -> None:
    reports = run(tmp_path, loss=failing({3, 4, 8}, value))
    assert [report.skipped for report in reports] == [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert math.isnan(reports[3].loss)
    assert lines(tmp_path)[3]["loss"] is None
    assert all(tensor.isfinite().all() for tensor in averaged(tmp_path).values())


def test_a_gradient_that_is_not_finite_is_skipped_too(tmp_path: Path) -> None:
    def root(parameters: Parameters, rng: np.random.Generator) -> torch.Tensor:
        return loss(parameters, rng) + (0 * parameters["b.bias"]).sqrt().sum()  # 0, with a slope of infinity

    reports = run(tmp_path, loss=ByStep(lambda step: root if step == 2 else loss))
    assert reports[-1].skipped == 1
    assert all(tensor.isfinite().all() for tensor in averaged(tmp_path).values())


def test_a_skipped_step_is_skipped_again_by_the_resumed_run(tmp_path: Path) -> None:
    broken = failing({3, 4, 8})
    run(tmp_path / "whole", loss=broken)
    while not (reports := run(tmp_path / "pieces", loss=broken, minutes=0.0)) or reports[-1].step < 12:
        pass
    assert reports[-1].skipped == 3
    assert same(tmp_path / "whole", tmp_path / "pieces")


def test_too_many_of_them_in_a_row_end_the_training(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=30, patience=3)
    assert run(tmp_path / "two", plan, failing({5, 6, 8, 9}))[-1].step == 30
    with pytest.raises(
        InvalidRequest, match=r"since step 5: the loss is nan .* lower the learning rate 0\.1"
    ):
        run(tmp_path / "three", plan, failing({5, 6, 7}))
    assert averaged(tmp_path / "three").keys() == start().keys()  # what was saved is still there


@pytest.mark.parametrize("name", ["accumulation", "save_every", "log_every", "patience", "rewarmup"])
def test_a_plan_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} is 0; it must be at least 1"):
        replace(PLAN, **{name: 0})
