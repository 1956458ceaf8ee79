"""The calculations and records of the benchmarks, independent of the machine's speed."""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from measure.machine import busy_seconds, describe_machine, versions
from measure.record import ENOUGH, Measured, append, disturbed, is_quiet, ratio, ratios, record
from measure.tables import starts, table, times, verdicts
from measure.worker import Contender, Phases, Turn, Worker, in_own_process, take_turns
from pochade.engines.openvino_ops import Constants, build
from pochade.weights import View
from unet import relative_error
from unet_layers import layers, node_seconds

BENCH = Path(__file__).parents[2] / "bench"


SCRIPTS = [
    pytest.param(path.stem, marks=[pytest.mark.slow] if path.stem == "gpu" else [])  # imports diffusers
    for path in sorted(BENCH.glob("*.py"))
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_can_say_what_it_is_for(script):
    """Scripts share code; one that was moved is missed at once."""
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{script}.py"), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert "--quick" in done.stdout  # `make bench-all ARGS=--quick` gives it to each


@pytest.mark.slow
@pytest.mark.parametrize("script", ["changes", "compare", "draw", "first_step", "server_life"])
def test_the_smallest_form_runs_and_records_nothing(script, tmp_path):
    results = tmp_path / "results.jsonl"
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{script}.py"), "--quick", "--results", str(results)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BENCH.parent), "POCHADE_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    assert (" s" in done.stdout) and not results.exists()


@pytest.mark.slow
def test_the_script_for_gpus_runs_on_a_processor_and_records_nothing(tmp_path):
    results = tmp_path / "results.jsonl"
    words = ["--quick", "--eager", "--device", "cpu", "--precision", "f32", "--rounds", "2"]
    done = subprocess.run(
        [sys.executable, str(BENCH / "gpu.py"), *words, "--results", str(results)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BENCH.parent), "POCHADE_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("--- ")] == [
        "--- parity",
        "--- memory",
        "--- xl",
        "--- speed",
    ]
    assert done.stdout.endswith("everything as expected\n") and not results.exists()


def measured(seconds, others_s=None, **changes):
    fields = {
        "seconds": seconds,
        "processor_s": [2 * s for s in seconds],
        "others_s": [0.0] * len(seconds) if others_s is None else others_s,
        "error": 0.01,
        "threads": 2,
        "phases": {"load": 0.5},
        "peak_bytes": 10**9,
    }
    return Measured(**{**fields, **changes})


def test_the_ratio_is_that_of_the_medians():
    ours, peer = measured([9.0, 2.0, 1.0, 2.5, 2.0]), measured([4.0, 5.0, 4.0, 3.0, 30.0])
    assert ratio(ours, peer) == 0.5
    assert ratios({"ours": ours, "a": peer, "b": ours}, "ours") == {"a": 0.5, "b": 1.0}


def test_disturbed_evaluations_do_not_count_where_enough_are_undisturbed():
    contender = measured([2.0] * ENOUGH + [9.0] * 7, [0.1] * ENOUGH + [5.0] * 7)
    assert contender.counted == [2.0] * ENOUGH
    assert contender.median == 2.0
    assert disturbed({"it": contender}) == []


def test_all_evaluations_count_where_too_few_are_undisturbed():
    contender = measured([2.0] * (ENOUGH - 1) + [9.0] * 7, [0.1] * (ENOUGH - 1) + [5.0] * 7)
    assert len(contender.counted) == ENOUGH + 6
    assert contender.median == 9.0
    assert disturbed({"it": contender}) == ["it"]


@pytest.mark.parametrize(
    ("others_s", "quiet"), [(0.0, True), (0.19, True), (0.2, False), (3.0, False), (None, True)]
)
def test_an_evaluation_is_quiet_if_others_took_less_than_a_tenth_of_its_time(others_s, quiet):
    assert is_quiet(2.0, others_s) is quiet


def test_a_record_is_one_line_of_json_that_keeps_every_number(tmp_path):
    contender = measured([1.0, 2.0, 3.00000049], [0.0, 0.0, None])
    entry = record("unet", {"ours": contender}, rounds=3, latent=(2, 4, 64, 64))
    append(tmp_path / "new" / "unet.jsonl", entry)
    append(tmp_path / "new" / "unet.jsonl", entry)
    lines = (tmp_path / "new" / "unet.jsonl").read_text().splitlines()
    assert len(lines) == 2
    read = json.loads(lines[0])
    assert (read["benchmark"], read["rounds"], read["latent"]) == ("unet", 3, [2, 4, 64, 64])
    found = read["contenders"]["ours"]
    assert found["seconds"] == [1.0, 2.0, 3.0]
    assert found["others_s"] == [0.0, 0.0, None]
    assert (found["median"], found["counted"], found["peak_bytes"]) == (2.0, 3, 10**9)
    assert found["phases"] == {"load": 0.5}


def test_tables_are_aligned_and_show_every_ratio():
    lines = table([("", "a"), ("name", "1.25")]).splitlines()
    assert lines == ["         a", "----------", "name  1.25"]
    pair = {"ours": measured([1.0] * 5), "peer": measured([4.0] * 5)}
    ours, peer = (line.split() for line in times(pair).splitlines()[2:])
    assert ours[:8] == ["A", "ours", "1.000", "1.000-1.000", "5", "of", "5", "1.000"]
    assert (ours[8], peer[7], peer[8]) == ("0.250", "4.000", "1.000")


def test_starts_show_what_a_first_start_took_in_brackets():
    both = measured([1.0], first_phases={"load": 7.0}, first_peak_bytes=3 * 10**9)
    assert starts({"it": both}, ["load"]).splitlines()[2].split() == [
        "it",
        "0.50",
        "(7.00)",
        "1.00",
        "(3.00)",
        "GB",
    ]
    assert starts({"it": measured([1.0])}, ["none"]).splitlines()[2].split() == ["it", "-", "1.00", "GB"]


@pytest.mark.parametrize(("target", "says"), [(0.51, ": met"), (0.5, ": met"), (0.49, ": MISSED")])
def test_a_target_is_met_up_to_its_value(target, says):
    pair = {"ours": measured([1.0] * 5), "peer": measured([2.0] * 5)}
    (line,) = verdicts(pair, "ours", {"peer": target, "absent": 1.0})
    assert line.endswith(says)


def test_no_target_is_decided_on_a_busy_machine():
    pair = {"ours": measured([1.0] * 5), "peer": measured([2.0] * 5, [2.0] * 5)}
    (line,) = verdicts(pair, "ours", {"peer": 1.0})
    assert "not decided" in line


def test_the_machine_is_described():
    machine = describe_machine()
    assert 1 <= machine["cores"] <= os.cpu_count()
    assert machine["memory_bytes"] > 2**28
    assert versions(["pytest", "no-such-package"]) == {
        "python": platform.python_version(),
        "pytest": pytest.__version__,
        "no-such-package": "none",
    }


def test_busy_seconds_leave_idle_and_waiting_out(tmp_path):
    tick = 1 / os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 20 300 99999 88888 4000 50000 600000 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert busy_seconds(stat) == pytest.approx(654321 * tick)
    assert busy_seconds(tmp_path / "absent") is None


def with_a_child():
    """A contender whose work is done by a process that it starts."""
    work = [sys.executable, "-c", "print(sum(range(10**7)))"]
    return Contender(lambda: subprocess.run(work, capture_output=True, check=True).stdout, {}, threads=1)


def test_processes_that_a_contender_starts_are_its_own_work():
    worker = Worker(with_a_child)
    turn = worker.turn()
    worker.close()
    assert int(turn.result) == sum(range(10**7))
    assert turn.processor_s > 0.3 * turn.seconds  # waiting alone would take none


def counting(start):
    """A contender for the tests: each evaluation returns the next number."""
    phases = Phases()
    with phases("load"):
        numbers = iter(range(start, 100))
    return Contender(lambda: next(numbers), phases.seconds, threads=1)


def failing():
    raise ValueError("no weights here")


def dying():
    os._exit(3)


def test_a_worker_evaluates_on_command_in_a_process_of_its_own():
    worker = Worker(counting, 7)
    assert worker.ready.threads == 1
    assert list(worker.ready.phases) == ["load"]
    turns = [worker.turn() for _ in range(3)]
    assert [turn.result for turn in turns] == [7, 8, 9]
    assert all(turn.seconds > 0 for turn in turns)
    assert worker.close() > 2**20
    assert not multiprocessing.active_children()


def test_what_fails_in_a_worker_is_told():
    with pytest.raises(RuntimeError, match="ValueError: no weights here"):
        Worker(failing)
    with pytest.raises(RuntimeError, match="failing ended with status 1"):
        in_own_process(failing)
    with pytest.raises(RuntimeError, match="ended with status 3"):
        Worker(dying)


class Scripted:
    """Stands for a worker: some turns are disturbed. log: who had a turn, in order."""

    def __init__(self, name, others_s, log):
        self.name, self.others_s, self.log = name, iter(others_s), log

    def turn(self):
        self.log.append(self.name)
        return Turn(1.0, 1.0, next(self.others_s), None)


def test_contenders_alternate_until_each_has_enough_quiet_turns():
    log = []
    workers = {
        "a": Scripted("a", [9, 9, 0.0, 0.0, 0.0, 0.0, 0.0], log),
        "b": Scripted("b", [0.0, 0.0, 9, 0.0, 9, 0.0, 0.0], log),
    }
    turns = take_turns(workers, rounds=2)
    assert log == ["a", "b"] * 6  # two to warm up, then b's second quiet turn is the fourth
    assert [turn.others_s for turn in turns["b"]] == [9, 0.0, 9, 0.0]
    assert len(turns["a"]) == 4


def test_turns_end_on_a_machine_that_is_never_quiet():
    workers = {"a": Scripted("a", [9] * 99, [])}
    assert len(take_turns(workers, rounds=2)["a"]) == 6


def test_relative_error():
    assert relative_error([[3.0, 4.5]], [[3.0, 4.0]]) == pytest.approx(0.1)


def test_phases_are_timed_by_name():
    phases = Phases()
    with phases("wait"):
        time.sleep(0.01)
    assert phases.seconds["wait"] >= 0.01


def of_every_kind(ops, w, x, text):
    y = ops.conv2d(x, w("wide", (16, 8, 3, 3)), None, padding=(1, 1, 1, 1))
    y = ops.conv2d_doubled(
        ops.conv2d(y, w("narrow", (16, 16, 1, 1)), None), w("doubled", (16, 16, 3, 3)), None
    )
    tokens = ops.transpose(ops.reshape(y, (2, 16, 16 * 16)), (0, 2, 1))
    tokens = ops.reshape(ops.linear(tokens, w("linear", (32, 16))), (2, 1, 256, 32))
    return ops.attention(ops.attention(tokens, tokens, tokens), text, text)


def test_products_are_divided_by_kind_and_none_is_lost():
    shapes = {"wide": (16, 8, 3, 3), "narrow": (16, 16, 1, 1), "doubled": (16, 16, 3, 3), "linear": (32, 16)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    inputs = {"x": ((2, 8, 8, 8), "f32"), "text": ((2, 1, 77, 32), "f32")}
    graph = build(of_every_kind, View(tensors, bind=Constants()), inputs)
    found = Counter()
    for layer in layers(graph).values():
        found[layer.kind] += layer.products
    assert found == {
        "3x3 convolution": 2 * 8 * 8 * 16 * 8 * 9
        + 4 * 2 * 8 * 8 * 16 * 16 * 4,  # four of 2x2 for a doubled one
        "1x1 convolution": 2 * 8 * 8 * 16 * 16,
        "linear": 2 * 256 * 16 * 32,
        "self-attention": 2 * (2 * 256 * 256 * 32),
        "cross-attention": 2 * (2 * 256 * 77 * 32),
    }
    arrays = {name: np.ones(shape, np.float32) for name, (shape, _) in inputs.items()}
    seconds = node_seconds(graph, arrays, "f32", threads=1, rounds=2)
    assert set(found) < set(seconds) and all(seconds[kind] > 0 for kind in found)
