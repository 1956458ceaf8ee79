"""The header Idempotency-Key of POST /api/v1/jobs."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server.conftest import ANNS_KEY, Served

ANN = {"Authorization": f"Bearer {ANNS_KEY}"}


def post(served: Served, key: str, headers: dict[str, str] = ANN, **body: Any) -> httpx.Response:
    sent = {**headers, "Idempotency-Key": key}
    return httpx.post(f"{served.url}/api/v1/jobs", json={"prompt": "a fox", **body}, headers=sent, timeout=60)


def test_a_lost_answer_and_a_retry_make_one_job(shared: Served) -> None:
    first = post(shared, "one")
    again = post(shared, "one", label="")  # the same, said otherwise
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"] and again.json()["request"] == first.json()["request"]
    assert post(shared, "two").json()["id"] != first.json()["id"]


def test_retries_that_come_at_once_make_one_job(shared: Served) -> None:
    with ThreadPoolExecutor(12) as threads:
        replies = list(threads.map(lambda _: post(shared, "at once", label="at once"), range(12)))
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.json()["id"] for reply in replies}) == 1
    found = shared.http.get("/api/v1/jobs", params={"label": "at once"}, headers=ANN).json()["jobs"]
    assert len(found) == 1


def test_another_request_under_the_same_key_is_refused(shared: Served) -> None:
    assert post(shared, "mine").status_code == 202
    refused = post(shared, "mine", steps=3)
    assert refused.status_code == 422 and "Idempotency-Key" in refused.json()["error"]["message"]


def test_what_was_refused_leaves_its_key_free(shared: Served) -> None:
    assert post(shared, "corrected", steps=0).status_code == 422
    assert post(shared, "corrected", steps=3).status_code == 202


def test_a_job_that_was_removed_is_not_drawn_again(shared: Served) -> None:
    job = post(shared, "removed").json()["id"]
    found = {"state": "queued"}
    while found["state"] not in ("finished", "failed"):
        found = shared.http.get(f"/api/v1/jobs/{job}", headers=ANN).json()
    assert shared.http.delete(f"/api/v1/jobs/{job}", headers=ANN).status_code == 204
    assert post(shared, "removed").status_code == 409


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_that_are_none(shared: Served, key: str) -> None:
    assert post(shared, key).status_code == 422
