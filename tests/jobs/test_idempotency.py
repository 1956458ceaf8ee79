"""A request that is sent again because its answer was lost makes one job."""

from pathlib import Path

import pytest
from sqlalchemy import inspect

from pochade.jobs import history, idempotency, store
from pochade.jobs.database import Database
from pochade.jobs.idempotency import KEPT_S, KeyReused, RepeatedRequest, once
from pochade.jobs.records import Job
from pochade.jobs.tables import idempotency_keys
from tests.jobs.conftest import Studio

FOX = once("key", "a fox")


def accept(studio: Studio, asked: idempotency.IdempotencyKey, owner: str = "ann") -> str:
    """A job with a key; its id."""
    studio.made += 1
    job = f"20251124-{studio.made:010x}"
    values = {"kind": "txt2img", "model": "starter", "label": "", "order": "{}", "cost": 1.0}
    store.accept(
        studio.database,
        Job(id=job, owner=owner, lane=1, state="queued", created=studio.now, **values),  # type: ignore[arg-type]
        "",
        asked,
    )
    return job


def test_a_key_stands_for_one_job_of_one_user(studio: Studio) -> None:
    first = accept(studio, FOX)
    assert idempotency.find(studio.database, "ann", FOX, studio.now) == first
    assert idempotency.find(studio.database, "bob", FOX, studio.now) is None
    with pytest.raises(RepeatedRequest) as again:
        accept(studio, FOX)
    assert again.value.job == first
    assert len(history.active_jobs(studio.database)) == 1, "a refused job was kept"
    assert accept(studio, FOX, "bob") != first
    assert accept(studio, once("another key", "a fox")) != first


def test_a_key_with_another_request_is_refused(studio: Studio) -> None:
    accept(studio, FOX)
    for ask in (
        lambda: idempotency.find(studio.database, "ann", once("key", "a hen"), studio.now),
        lambda: accept(studio, once("key", "a hen")),
    ):
        with pytest.raises(KeyReused, match="another request"):
            ask()
    assert len(history.active_jobs(studio.database)) == 1


def test_after_a_day_a_key_is_free_again(studio: Studio) -> None:
    first = accept(studio, FOX)
    studio.now += KEPT_S - 1
    assert idempotency.find(studio.database, "ann", FOX, studio.now) == first
    studio.now += 2
    assert idempotency.find(studio.database, "ann", FOX, studio.now) is None
    assert accept(studio, FOX) != first
    with studio.database.read() as connection:
        assert len(connection.execute(idempotency_keys.select()).all()) == 1


def test_keys_and_requests_are_kept_as_hashes(studio: Studio) -> None:
    accept(studio, once("a secret key", "a secret prompt"))
    stored = b"".join(file.read_bytes() for file in studio.storage.root.glob("jobs.sqlite*"))
    assert b"a secret" not in stored


def test_a_store_of_before_goes_on_working(studio: Studio) -> None:
    old = studio.submit()
    with studio.database.write() as connection:
        idempotency_keys.drop(connection)
    studio.database.close()
    path: Path = studio.storage.database
    studio.database = Database(path)
    assert [job.id for job in history.active_jobs(studio.database)] == [old]
    assert accept(studio, FOX) == idempotency.find(studio.database, "ann", FOX, studio.now)
    with studio.database.read() as connection:
        assert inspect(connection).has_table("idempotency_keys")
