"""SIGKILL at random moments under load: every accepted job is finished exactly once, or fails with a reason.

POCHADE_KILLS sets the number of kills; 100 is the full size.
"""

import os
import random
import signal
import sqlite3
import threading
import time

import httpx
import pytest
from PIL import Image

from tests.server.conftest import Served, Start

KILLS = int(os.environ.get("POCHADE_KILLS", "12"))
CLIENTS = 4


class Load:
    """Clients that submit small jobs until they are stopped. accepted: the ids that they were given."""

    def __init__(self, served: Served) -> None:
        self.served, self.accepted, self.stopped = served, list[str](), threading.Event()
        self.http = httpx.Client(base_url=served.url, timeout=10)
        self.threads = [threading.Thread(target=self._submit, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.http.close()

    def _submit(self, client: int) -> None:
        chance = random.Random(client)
        while not self.stopped.wait(chance.uniform(0.02, 0.3)):
            body = {"prompt": "0.005 fox", "steps": chance.randint(1, 20), "count": chance.randint(1, 3)}
            try:
                reply = self.http.post("/api/v1/jobs", json=body)
            except httpx.TransportError:
                continue
            if reply.status_code == 202:
                self.accepted.append(reply.json()["id"])


@pytest.mark.slow
def test_whoever_is_killed_whenever_no_job_is_lost_or_drawn_twice(pretending: Start) -> None:
    served, chance = pretending(limits={"own_queue": 5000}), random.Random(11)
    killed = {"server": 0, "worker": 0, "both": 0}
    with Load(served) as load:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.1, 1.5))
            whom = chance.choice(["server", "worker", "both"])
            workers = served.workers()
            if whom in ("worker", "both"):
                for worker in workers:
                    os.kill(worker, signal.SIGKILL)
            if whom in ("server", "both"):
                served.kill()
                time.sleep(chance.choice([0.0, 0.5]))
                served.start()
            killed[whom] += 1
    assert sum(killed.values()) == KILLS
    check(served, load.accepted, 600 + 5 * KILLS)


def check(served: Served, accepted: list[str], timeout_s: float) -> None:
    """Everything that was accepted is over, once, and its pictures are whole; nothing else lies about."""
    assert len(set(accepted)) == len(accepted) > KILLS
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if not sum(
            served.http.get("/api/v1/status").json()["queue"][state] for state in ("queued", "running")
        ):
            break
        time.sleep(0.5)
    states: dict[str, int] = {}
    for job in accepted:
        found = served.job(job)
        states[found["state"]] = states.get(found["state"], 0) + 1
        if found["state"] == "failed":
            assert "died or hung 3 times" in found["error"]
            assert found["pictures"] == []
        else:
            assert found["state"] == "finished", found
            assert len(found["pictures"]) == found["request"]["count"]
    print("jobs:", states)
    assert served.stop() in (0, -signal.SIGTERM)
    served.start()  # which sweeps what the kills have left
    with sqlite3.connect(served.data / "jobs.sqlite") as store:
        rows = dict(store.execute("SELECT path, bytes FROM pictures").fetchall())
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()
    outputs = served.data / "outputs"
    files = {path.relative_to(outputs).as_posix(): path for path in outputs.glob("*/*")}
    assert set(files) == set(rows)
    for name, path in files.items():
        assert path.stat().st_size == rows[name]
        with Image.open(path) as image:
            image.load()
            assert "Steps: " in image.info["parameters"]
    assert list((served.data / "inputs").iterdir()) == []
    assert "Traceback" not in served.log.read_text()
