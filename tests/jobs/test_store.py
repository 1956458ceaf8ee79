"""Jobs are taken in their order and are over exactly once, whoever dies."""

import random
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from pochade.errors import OutputError
from pochade.jobs import accounts, cost, history, store
from pochade.jobs.cost import Work
from pochade.jobs.database import Database, StoreBusy, StoreFailed
from pochade.jobs.fair_queue import upcoming
from pochade.jobs.records import CANCELLED, FAILED, FINISHED, LANES, QUEUED, RUNNING
from pochade.jobs.storage import Storage
from tests.jobs.conftest import Studio

# --- who comes next -----------------------------------------------------------------------------------


def test_of_one_owner_the_oldest_comes_first(studio: Studio) -> None:
    jobs = [studio.submit() for _ in range(3)]
    assert [studio.taken().job.id for _ in jobs] == jobs
    assert studio.take() is None


def test_the_higher_lane_comes_first_whoever_waits_in_the_lower_one(studio: Studio) -> None:
    slow = studio.submit("ann", "batch")
    quick = studio.submit("bob", "interactive")
    later = studio.submit("bob", "interactive")
    assert [studio.taken().job.id for _ in range(3)] == [quick, later, slow]


def test_owners_take_turns_however_many_jobs_one_has(studio: Studio) -> None:
    many = [studio.submit("ann") for _ in range(5)]
    few = [studio.submit("bob") for _ in range(2)]
    order = [studio.taken().job.id for _ in range(7)]
    assert order == [many[0], few[0], many[1], few[1], many[2], many[3], many[4]]


def test_who_was_served_the_longest_ago_comes_first_also_after_a_pause(studio: Studio) -> None:
    for owner in ("ann", "bob", "cid"):
        studio.submit(owner)
        studio.taken()
    waiting = {owner: studio.submit(owner) for owner in ("cid", "bob", "ann")}
    assert [studio.taken().job.owner for _ in range(3)] == ["ann", "bob", "cid"]
    assert len(waiting) == 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(sorted(LANES))), max_size=14),
    before=st.lists(st.sampled_from("abcd"), max_size=4),
)
def test_the_predicted_line_is_the_one_that_is_taken(
    jobs: list[tuple[str, str]], before: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    storage = Storage(tmp_path_factory.mktemp("line")).make()
    studio = Studio(Database(storage.database), storage)
    for owner in before:
        studio.submit(owner)
        studio.taken()
    for owner, lane in jobs:
        studio.submit(owner, lane)
    waiting = [job for job in history.active_jobs(studio.database) if job.state == QUEUED]
    predicted = [job.id for job in upcoming(waiting, store.served_last(studio.database))]
    assert [studio.taken().job.id for _ in jobs] == predicted
    studio.database.close()


def test_many_threads_take_each_job_once(studio: Studio) -> None:
    jobs = [studio.submit(random.choice("abc")) for _ in range(60)]
    taken: list[str] = []

    def work(name: str) -> None:
        other = Database(studio.storage.database)
        while (lease := store.take(other, name, f"{name}{len(taken)}", studio.now)) is not None:
            taken.append(lease.job.id)
            store.finish(other, lease, [], studio.now)
        other.close()

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(jobs)


# --- leases ---------------------------------------------------------------------------------------------


def test_a_finished_job_and_its_pictures_come_at_once_and_once(studio: Studio) -> None:
    job = studio.submit()
    lease = studio.taken()
    store.finish(studio.database, lease, studio.drawn(lease, 2), studio.now)
    found = history.find_job(studio.database, job)
    assert found is not None and found.state == FINISHED and found.attempts == 1
    pictures = history.pictures_of(studio.database, [job])[job]
    assert [picture.seed for picture in pictures] == [2**63, 2**63 + 1]
    for end in (
        lambda: store.finish(studio.database, lease, studio.drawn(lease), studio.now),
        lambda: store.fail(studio.database, lease, "late", studio.now),
    ):
        with pytest.raises(store.LeaseLost):
            end()
    assert len(history.pictures_of(studio.database, [job])[job]) == 2


def test_a_silent_worker_loses_its_job_and_what_it_draws_counts_no_more(studio: Studio) -> None:
    job = studio.submit()
    silent = studio.taken("silent")
    assert store.reclaim(studio.database, studio.now) == []
    studio.now += store.LEASE_S + 1
    (back,) = store.reclaim(studio.database, studio.now)
    assert (back.job, back.state) == (job, QUEUED)
    second = studio.taken("second")
    assert second.job.id == job and second.job.attempts == 2
    with pytest.raises(store.LeaseLost):
        store.heartbeat(studio.database, job, silent.token, studio.now)
    with pytest.raises(store.LeaseLost):
        store.finish(studio.database, silent, studio.drawn(silent), studio.now)
    assert history.pictures_of(studio.database, [job])[job] == []
    store.finish(studio.database, second, studio.drawn(second), studio.now)
    assert len(history.pictures_of(studio.database, [job])[job]) == 1


def test_a_heartbeat_holds_the_lease(studio: Studio) -> None:
    studio.submit()
    lease = studio.taken()
    for _ in range(5):
        studio.now += store.LEASE_S * 0.9
        store.heartbeat(studio.database, lease.job.id, lease.token, studio.now)
        assert store.reclaim(studio.database, studio.now) == []


def test_a_job_that_kills_its_workers_has_failed_after_three(studio: Studio) -> None:
    job = studio.submit()
    for death in range(1, 4):
        studio.taken(f"w{death}")
        (back,) = store.reclaim(studio.database, studio.now, lambda worker, name=f"w{death}": worker == name)
        assert back.state == (QUEUED if death < 3 else FAILED)
    found = history.find_job(studio.database, job)
    assert found is not None and found.error is not None and "died or hung 3 times" in found.error
    assert studio.take() is None


def test_a_job_that_is_given_back_keeps_its_place_and_that_is_no_death(studio: Studio) -> None:
    jobs = [studio.submit() for _ in range(2)]
    for _ in range(5):
        lease = studio.taken()
        assert lease.job.id == jobs[0]
        assert store.release(studio.database, lease.job.id, lease.token)
    assert not store.release(studio.database, lease.job.id, lease.token)
    found = history.find_job(studio.database, jobs[0])
    assert found is not None and (found.state, found.deaths, found.started) == (QUEUED, 0, None)


def test_cancelling(studio: Studio) -> None:
    first, second = studio.submit(), studio.submit()
    assert store.cancel(studio.database, second, "bob", studio.now) is None
    assert store.cancel(studio.database, second, "ann", studio.now) == QUEUED
    lease = studio.taken()
    assert store.cancel(studio.database, first, "ann", studio.now) == RUNNING
    assert history.find_job(studio.database, first).state == RUNNING  # type: ignore[union-attr]
    # Whoever draws it dies before it has heard: it is not drawn again.
    (back,) = store.reclaim(studio.database, studio.now, lambda worker: True)
    assert (back.job, back.state) == (lease.job.id, CANCELLED)
    assert store.cancel(studio.database, first, "ann", studio.now) == CANCELLED
    assert studio.take() is None


def test_a_job_that_is_to_be_cancelled_is_when_it_is_given_back(studio: Studio) -> None:
    job = studio.submit()
    lease = studio.taken()
    store.cancel(studio.database, job, "ann", studio.now)
    assert store.release(studio.database, job, lease.token)
    assert history.find_job(studio.database, job).state == CANCELLED  # type: ignore[union-attr]


# --- the file -------------------------------------------------------------------------------------------


def test_a_foreign_or_later_file_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("no database, but long enough to be looked at " * 20)
    with pytest.raises(OutputError, match="cannot be opened"):
        Database(text)
    later = tmp_path / "later.sqlite"
    with sqlite3.connect(later) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputError, match="later version"):
        Database(later)


@pytest.mark.parametrize(
    "name", ["run?1", "run#1", "100%41", "a b", "file:x?mode=memory", ":memory:", "ü", "user:word@host"]
)
def test_a_folder_of_any_name_holds_its_own_jobs_and_no_others(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / name, Path(name), Path("odd", name)):
        storage = Storage(root).make()
        database = Database(storage.database)
        accounts.choose(database, "ann", {str(root): 1})
        assert str(root) in accounts.choices_of(database, "ann")
        database.close()
        assert storage.database.is_file()
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert found == {name, "odd"}  # nothing beside the folder


def test_folders_that_differ_behind_a_question_mark_are_not_shared(tmp_path: Path) -> None:
    first, second = (Database(Storage(tmp_path / name).make().database) for name in ("run?1", "run?2"))
    accounts.choose(first, "ann", {"a": 1})
    assert accounts.choices_of(second, "ann") == {}
    first.close()
    second.close()


def test_a_full_disk_is_said_to_be_one_and_nothing_is_half_kept(studio: Studio) -> None:
    job = studio.submit()
    lease = studio.taken()
    full(studio.database)
    with pytest.raises(StoreFailed, match="disk is full; free some space"):
        studio.submit(words="fox " * 100_000)
    with pytest.raises(StoreFailed, match="disk is full"):
        store.finish(studio.database, lease, studio.drawn(lease, 500), studio.now)
    found = history.find_job(studio.database, job)
    assert found is not None and found.state == RUNNING
    assert history.pictures_of(studio.database, [job]) == {job: []}


def test_a_store_that_another_process_holds_is_busy_not_broken(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pochade.jobs.database.BUSY_S", 0.05)
    impatient = Database(studio.storage.database)
    with studio.database.write(), pytest.raises(StoreBusy, match="another process has been writing"):
        accounts.choose(impatient, "ann", {"a": 1})
    accounts.choose(impatient, "ann", {"a": 1})
    impatient.close()


def test_a_damaged_store_is_said_to_be_one(studio: Studio) -> None:
    studio.submit()
    studio.database.close()
    content = bytearray(studio.storage.database.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    studio.storage.database.write_bytes(content)
    with pytest.raises(OutputError, match="damaged"):
        history.active_jobs(Database(studio.storage.database))


def test_a_mistake_in_a_query_is_not_called_a_full_disk(studio: Studio) -> None:
    with pytest.raises(OperationalError), studio.database.write() as connection:
        connection.exec_driver_sql("SELECT nothing FROM nowhere")


def full(database: Database) -> None:
    """Let the file grow no more: SQLite then says what it says of a full disk."""

    def limit(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # which is: as many as there are

    event.listen(database._engine, "connect", limit)
    database._engine.dispose()


# --- how long it will take --------------------------------------------------------------------------------


WORK = Work(width=512, height=512, evaluations=40, count=1)


def test_the_first_guess_goes_by_the_size_of_the_model(studio: Studio) -> None:
    small, large = (cost.predict(studio.database, "new", WORK, size) for size in (40_000_000, 4_000_000_000))
    assert 0.1 < small < 5 < large < 500
    assert large > 50 * small


def test_what_was_drawn_teaches_what_comes(studio: Studio) -> None:
    for _ in range(12):
        studio.submit()
        lease = studio.taken()
        store.finish(studio.database, lease, [], studio.now, WORK, 21.0)
    assert cost.predict(studio.database, "starter", WORK, 10**9) == pytest.approx(21.0, rel=0.01)
    double = Work(width=512, height=512, evaluations=40, count=2)
    assert cost.predict(studio.database, "starter", double, 10**9) == pytest.approx(42.0, rel=0.01)
    # A size that was never drawn goes by the model's rate; another model by its file.
    half = Work(width=256, height=512, evaluations=40, count=1)
    assert cost.predict(studio.database, "starter", half, 10**9) == pytest.approx(10.5, rel=0.02)
    assert cost.predict(studio.database, "other", WORK, 10**9) == pytest.approx(21.05, rel=0.01)


def test_a_clock_that_jumped_teaches_nothing(studio: Studio) -> None:
    for seconds in (-5.0, 0.0, 1e12):
        studio.submit()
        lease = studio.taken()
        store.finish(studio.database, lease, [], studio.now, WORK, seconds)
    assert cost.predict(studio.database, "starter", WORK, 10**9) == pytest.approx(21.05)
