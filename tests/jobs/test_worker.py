"""What a worker does with a job when the store, the disk or a word of the server fails it."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy.exc import IntegrityError

from pochade.errors import InvalidRequest, OutputError
from pochade.jobs import history, store, worker
from pochade.jobs.catalogue import Folders
from pochade.jobs.database import StoreFailed
from pochade.jobs.job_request import read_job_request
from pochade.jobs.orders import Order
from pochade.jobs.records import CANCELLED, FAILED, FINISHED, QUEUED, Job
from pochade.jobs.runner import Batch, Event, JobRunner, Read, StopSignal
from pochade.jobs.worker import Worker, WorkerSettings
from pochade.prompts.extra_networks import extra_networks
from pochade.prompts.parse import parse_prompt
from tests.calls import calls_of
from tests.jobs.conftest import Studio


class OneJob:
    """Draws one job, after which its worker ends. fault: raised in place of a picture."""

    def __init__(self, studio: Studio, fault: BaseException | None = None) -> None:
        self.fault, self.drawn, self.forgotten = fault, 0, 0
        self.output = io.BytesIO()
        settings = WorkerSettings(
            name="w", storage=studio.storage, folders=Folders(), options={}, prepare=False
        )
        self.worker = Worker(settings, self, self.output, lambda: studio.now, lambda n: "ab" * n)

    def prepare(self, model: str | None) -> Iterator[Event]:
        yield from ()

    def forget(self) -> None:
        self.forgotten += 1

    def draw(self, order: Order, read: Read, stop_signal: StopSignal) -> Iterator[Event]:
        self.drawn += 1
        image = Image.new("RGB", (8, 8), (200, 100, 50))
        yield Batch([image, image], [1, 2], ["a fox\nSteps: 4"] * 2, "a fox")
        if self.fault is not None:
            raise self.fault

    def run(self) -> list[dict[str, Any]]:
        """Until the job is over; what was told."""
        original = self.worker._job

        def job(lease: store.Lease) -> None:
            original(lease)
            self.worker._leaving = True

        self.worker._job = job  # type: ignore[method-assign]
        self.worker.run()
        return [json.loads(line) for line in self.output.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S", "LOOK_S"):
        monkeypatch.setattr(worker, name, 0.01)


def failing(times: int, error: Exception, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which raises so many times before it does what it does."""
    left = [times]

    def tried(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return function(*arguments, **options)

    return tried


def disk_full(studio: Studio) -> StoreFailed:
    return StoreFailed(studio.storage.database, "could not be written", "the disk is full; free some space")


def found(studio: Studio, job: str) -> Job:
    row = history.find_job(studio.database, job)
    assert row is not None
    return row


def files(studio: Studio) -> list[str]:
    return sorted(path.name for path in studio.storage.outputs.glob("*/*"))


@pytest.mark.parametrize("times", [1, 7])
def test_pictures_that_the_store_does_not_take_now_are_kept_until_it_does(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    job = studio.submit()
    monkeypatch.setattr(store, "finish", failing(times, disk_full(studio), store.finish))
    runner = OneJob(studio)
    told = runner.run()
    assert found(studio, job).state == FINISHED and runner.drawn == 1
    pictures = history.pictures_of(studio.database, [job])[job]
    assert len(pictures) == 2
    assert all(studio.storage.output(picture.path).is_file() for picture in pictures)
    kinds = [event["event"] for event in told if event["event"] != "here"]
    assert kinds == ["ready", "started", *["waiting"] * times, "finished"]


def test_a_mistake_in_what_is_kept_is_tried_again_and_then_fails_the_job(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake = IntegrityError("INSERT", {}, ValueError("NOT NULL"))
    first, second = studio.submit(), studio.submit()
    finish = store.finish
    monkeypatch.setattr(store, "finish", failing(2, mistake, finish))
    OneJob(studio).run()
    assert found(studio, first).state == FINISHED
    monkeypatch.setattr(store, "finish", failing(9, mistake, finish))
    OneJob(studio).run()
    failed = found(studio, second)
    assert failed.state == FAILED and failed.error is not None and "IntegrityError" in failed.error
    assert files(studio) == [f"{first}.1-0.png", f"{first}.1-1.png"]


@pytest.mark.parametrize(
    ("fault", "reason", "no_room"),
    [
        (
            OutputError("'/a/b.png' could not be written: No space left on device"),
            "on the server's disk",
            True,
        ),
        (OSError(28, "No space left on device"), "on the server's disk: No space left", True),
        (InvalidRequest("steps is 0"), "steps is 0", False),
        (ZeroDivisionError(), "ZeroDivisionError", False),
    ],
)
def test_a_failure_is_kept_with_its_reason_once_the_store_takes_it(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, fault: Exception, reason: str, no_room: bool
) -> None:
    job = studio.submit()
    monkeypatch.setattr(store, "fail", failing(3, disk_full(studio), store.fail))
    told = OneJob(studio, fault).run()
    failed = found(studio, job)
    assert failed.state == FAILED and failed.error is not None
    assert reason in failed.error and "/a/" not in failed.error and "OperationalError" not in failed.error
    assert told[-1]["event"] == "failed" and told[-1]["no_room"] is no_room
    assert files(studio) == []


def test_a_store_from_which_nothing_can_be_taken_is_asked_again(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = studio.submit()
    monkeypatch.setattr(store, "take", failing(3, disk_full(studio), store.take))
    OneJob(studio).run()
    assert found(studio, job).state == FINISHED


def test_a_cancel_after_a_job_was_taken_and_before_that_was_told_counts(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, take = studio.submit(), store.take

    def taken_and_cancelled(*arguments: Any, **options: Any) -> store.Lease | None:
        lease = take(*arguments, **options)
        assert store.cancel(studio.database, job, "ann", studio.now) == "running"
        return lease

    monkeypatch.setattr(store, "take", taken_and_cancelled)
    runner = OneJob(studio)
    told = runner.run()
    assert found(studio, job).state == CANCELLED and runner.drawn == 0
    assert told[-1] == {"event": "cancelled", "job": job}


def test_a_cancel_of_which_no_word_came_is_heard_with_the_next_heartbeat(studio: Studio) -> None:
    runner = OneJob(studio)
    studio.submit()
    lease = studio.taken()
    runner.worker._lease = lease
    runner.worker._ask_store(lease)
    assert runner.worker._stop_signal() is None
    store.cancel(studio.database, lease.job.id, "ann", studio.now)
    runner.worker._ask_store(lease)
    assert runner.worker._stop_signal() == "cancel"


def test_a_job_that_was_taken_away_while_the_store_was_full_is_drawn_anew_and_once(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, finish = studio.submit(), store.finish

    def too_late(*arguments: Any) -> None:
        store.reclaim(studio.database, studio.now + 2 * store.LEASE_S)
        finish(*arguments)

    monkeypatch.setattr(store, "finish", too_late)
    told = OneJob(studio).run()
    assert told[-1] == {"event": "lost", "job": job}
    assert found(studio, job).state == QUEUED and files(studio) == []


def test_workers_that_are_known_to_be_at_work_keep_their_jobs(studio: Studio) -> None:
    studio.submit()
    studio.taken("busy")
    studio.now += 2 * store.LEASE_S
    assert store.reclaim(studio.database, studio.now, alive={"busy"}) == []
    assert len(store.reclaim(studio.database, studio.now, alive={"other"})) == 1


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "lines", ["", '{"do": "wake"}\n{"do": "sto', "[]\n", '{"do": "cancel"}\n', "\ud800\n"]
)
def test_a_worker_ends_with_what_the_server_says_also_in_the_middle_of_a_line(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    def leave() -> None:
        raise Left

    runner = OneJob(studio)
    monkeypatch.setattr(runner.worker, "leave", leave)
    runner.worker._lease = studio.taken() if studio.submit() else None
    with pytest.raises(Left):
        runner.worker.listen(io.StringIO(lines))


@pytest.mark.parametrize(
    "error", [InvalidRequest("no such model"), RuntimeError("CUDA"), OSError("gone"), MemoryError()]
)
def test_a_model_that_cannot_be_loaded_ahead_does_not_end_the_worker(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    runner = OneJob(studio)

    def prepare(model: str | None) -> Iterator[Event]:
        raise error
        yield

    monkeypatch.setattr(runner, "prepare", prepare)
    object.__setattr__(runner.worker.settings, "prepare", True)
    job = studio.submit()
    runner.run()
    assert found(studio, job).state == FINISHED


def test_the_folders_are_looked_through_again_when_the_server_did(studio: Studio) -> None:
    runner = OneJob(studio)
    studio.submit()
    runner.worker._rescan.set()
    runner.run()
    assert runner.forgotten == 1 and not runner.worker._rescan.is_set()


def test_an_idle_worker_tells_that_it_is_there(studio: Studio) -> None:
    runner = OneJob(studio)
    runner.worker._emit_idle()
    runner.worker._emit_idle()  # not more often than the heart beats
    assert [json.loads(line) for line in runner.output.getvalue().splitlines()] == [{"event": "here"}]


def test_the_prompts_of_a_job_are_parsed_once(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("POCHADE_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("POCHADE_CACHE", str(tmp_path / "cache"))
    request = {
        "prompt": "a [red:blue:1] apple AND a pear",
        "negative_prompt": "ugly",
        "seed": 1,
        "steps": 1,
        "width": 32,
        "height": 32,
    }
    job = studio.submit(
        order=Order(kind="txt2img", model="starter", request=read_job_request(request)).text()
    )
    drawing = OneJob(studio)
    drawing.worker.runner = JobRunner(Folders(), engine="numpy", device="cpu", precision="f32")
    with calls_of(parse_prompt, extra_networks) as called:
        drawing.run()
    row = found(studio, job)
    assert row.state == FINISHED, row.error
    assert called["parse_prompt"] == [request["prompt"], "ugly"]
    assert called["extra_networks"] == []
