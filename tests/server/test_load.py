"""Two hundred concurrent clients. POCHADE_JOBS sets the number of jobs; 2,000 is the full size."""

import asyncio
import os
import statistics
import time

import httpx
import psutil
import pytest

from tests.server.conftest import Served, Start

JOBS = int(os.environ.get("POCHADE_JOBS", "400"))
CLIENTS = 200
STATUS_S = 0.1


@pytest.mark.slow
def test_no_job_is_lost_and_memory_stays(pretending: Start) -> None:
    served = pretending(limits={"own_queue": 5000})
    memory = psutil.Process(served.process.pid)
    states, times = asyncio.run(crowd(served, JOBS // 2, {"prompt": "0 fox", "steps": 1}))
    before = memory.memory_info().rss
    more, more_times = asyncio.run(crowd(served, JOBS - JOBS // 2, {"prompt": "0 fox", "steps": 1}))
    after = memory.memory_info().rss
    states, times = states + more, times + more_times
    print(f"{len(states)} jobs; status p50 {statistics.median(times):.3f} p95 {p95(times):.3f} s")
    print(f"server: {before / 1e6:.0f} MB, then {after / 1e6:.0f} MB")
    assert states == ["finished"] * JOBS
    assert after < before * 1.3 + 20e6
    assert "Traceback" not in served.log.read_text()


@pytest.mark.slow
def test_status_is_quick_while_a_picture_is_drawn(serving: Start) -> None:
    served = serving()
    served.until(served.submit(prompt="a fox", steps=2)["id"])
    job = served.submit(prompt="a fox", steps=150, count=20)["id"]
    served.until(job, "running")
    times = []
    before = served.processor_s()
    while len(times) < 200:
        began = time.monotonic()
        assert served.http.get("/api/v1/status").status_code == 200
        times.append(time.monotonic() - began)
        time.sleep(0.02)
    spent = (served.processor_s() - before) / len(times)
    assert served.job(job)["state"] == "running"
    print(f"status while drawing: p50 {statistics.median(times):.4f} p95 {p95(times):.4f} s")
    assert spent < STATUS_S  # of the processor, with all that the drawing tells meanwhile


@pytest.mark.slow
def test_real_pictures_for_a_crowd(serving: Start) -> None:
    served = serving()
    states, times = asyncio.run(crowd(served, 60, {"prompt": "a fox", "steps": 2}))
    print(f"real: status p50 {statistics.median(times):.3f} p95 {p95(times):.3f} s")
    assert states == ["finished"] * 60


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


async def crowd(served: Served, jobs: int, body: dict[str, object]) -> tuple[list[str], list[float]]:
    """So many jobs by CLIENTS clients at once: how each ended, and how long each question for status took.

    A 429 is a stated limit: one waits as long as it says.
    """
    waiting = iter(range(jobs))
    states: list[str] = []
    times: list[float] = []

    async def asked(client: httpx.AsyncClient, method: str, path: str, **options: object) -> httpx.Response:
        while True:
            reply = await client.request(method, path, **options)  # type: ignore[arg-type]
            if reply.status_code != 429:
                assert reply.status_code < 400, reply.text
                return reply
            await asyncio.sleep(float(reply.headers["retry-after"]))

    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=120) as http:
            for _ in waiting:
                job = (await asked(http, "POST", "/api/v1/jobs", json=body)).json()["id"]
                state = "queued"
                while state in ("queued", "running"):
                    await asyncio.sleep(0.5)
                    began = time.monotonic()
                    reply = await http.get("/api/v1/status")
                    if reply.status_code == 200:
                        times.append(time.monotonic() - began)
                    state = (await asked(http, "GET", f"/api/v1/jobs/{job}")).json()["state"]
                states.append(state)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return states, times
