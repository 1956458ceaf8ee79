"""The native API according to docs/api.md, on a real server."""

import base64
import io
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from pochade.images.embedded_text import text_of
from pochade.images.files import encoded as file_of
from tests.server.conftest import ROOT, Served, Start, encoded

PNG = "data:image/png;base64,"
SMALL: dict[str, Any] = {"prompt": "a red apple", "seed": 7, "steps": 2}


def picture() -> Image.Image:
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).ellipse((32, 32, 96, 96), fill="red")
    return image


def events_of(studio: Served, path: str, count: int | None = None) -> list[dict[str, Any]]:
    """Events until the stream ends, or so many of them."""
    found: list[dict[str, Any]] = []
    with studio.http.stream("GET", path) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if len(found) == count:
                    break
    return found


# --- drawing ------------------------------------------------------------------------------------------


def test_a_prompt_becomes_a_picture_with_its_text(studio: Served) -> None:
    job = studio.submit(**SMALL, label="mine")
    assert job["state"] in ("queued", "running") and job["request"]["seed"] == 7
    done = studio.until(job["id"])
    assert (done["state"], done["error"], done["attempts"], done["label"]) == ("finished", None, 1, "mine")
    (drawn,) = done["pictures"]
    assert (drawn["width"], drawn["height"], drawn["seed"], drawn["index"]) == (128, 128, 7, 0)
    reply = studio.http.get(drawn["url"])
    assert reply.headers["content-type"] == "image/png" and len(reply.content) == drawn["bytes"]
    assert text_of(reply.content) == drawn["text"]
    assert "Seed: 7, Size: 128x128" in drawn["text"]
    small = Image.open(io.BytesIO(studio.http.get(drawn["thumbnail"]).content))
    assert small.format == "JPEG" and small.size == (128, 128)
    assert studio.http.get(f"{drawn['url']}/about").json() == drawn
    on_disk = list((studio.data / "outputs").glob("????-??-??/*.png"))
    assert len(on_disk) >= 1


@pytest.mark.slow
def test_the_same_seed_draws_the_same_picture_here_as_in_python(studio: Served) -> None:
    import pochade

    done = studio.until(studio.submit(**SMALL)["id"])
    served = Image.open(io.BytesIO(studio.http.get(done["pictures"][0]["url"]).content))
    drawn = pochade.load().txt2img(**SMALL).images[0]
    assert served.tobytes() == drawn.tobytes()


def test_a_picture_is_drawn_over_inside_a_mask_and_further(studio: Served) -> None:
    mask = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 128, 40), fill=255)
    image = PNG + encoded(picture())
    over = studio.until(studio.submit(**SMALL, kind="img2img", source={"image": image})["id"])
    assert over["state"] == "finished" and over["request"]["source"]["image"] is None
    source = {"image": image, "mask": encoded(mask), "mask_blur": 0}
    inside = studio.until(studio.submit(**SMALL, kind="inpaint", source=source)["id"])
    content = studio.http.get(inside["pictures"][0]["url"]).content
    kept = Image.open(io.BytesIO(content)).crop((0, 80, 128, 128))
    assert kept.tobytes() == picture().crop((0, 80, 128, 128)).tobytes()
    source = {"image": image, "outpaint": {"right": 32}}
    request = {**SMALL, "width": 128, "height": 128}
    wider = studio.until(studio.submit(**request, kind="inpaint", source=source)["id"])
    assert wider["state"] == "finished"
    # One's own pictures go by their names.
    own = {"image": f"picture:{over['pictures'][0]['id']}"}
    again = studio.until(studio.submit(**SMALL, kind="img2img", source=own)["id"])
    assert again["state"] == "finished"
    assert list((studio.data / "inputs").iterdir()) == []


def test_batches_variations_and_second_passes(studio: Served) -> None:
    done = studio.until(studio.submit(**SMALL, batch_size=2, count=2)["id"])
    assert [each["seed"] for each in done["pictures"]] == [7, 8, 9, 10]
    varied = studio.until(studio.submit(**SMALL, variation={"seed": 3, "strength": 0.4})["id"])
    assert "Variation seed: 3" in varied["pictures"][0]["text"]
    twice = studio.until(studio.submit(**SMALL, hires={"scale": 1, "upscaler": "Lanczos"})["id"])
    assert "Hires upscaler: Lanczos" in twice["pictures"][0]["text"]
    expanded = studio.until(
        studio.submit(**{**SMALL, "prompt": "a {red|blue} apple"}, expand=True, count=3)["id"]
    )
    assert {each["prompt"] for each in expanded["pictures"]} <= {"a red apple", "a blue apple"}


def test_a_picture_is_made_larger(studio: Served) -> None:
    image = encoded(picture())
    done = studio.until(studio.submit(kind="upscale", upscale={"image": image, "scale": 1.5})["id"])
    assert (done["pictures"][0]["width"], done["kind"]) == (192, "upscale")


def test_a_size_that_the_model_cannot_draw_fails_with_the_reason(studio: Served) -> None:
    done = studio.until(studio.submit(**SMALL, width=66)["id"])
    assert done["state"] == "failed" and "width is 66" in done["error"]


# --- events -------------------------------------------------------------------------------------------


def test_events_tell_of_a_job_from_its_place_to_its_pictures(studio: Served) -> None:
    heard: list[dict[str, Any]] = []
    listening = threading.Event()
    reader = threading.Thread(target=lambda: heard.extend(_until_finished(studio, listening)))
    reader.start()
    assert listening.wait(20)
    job = studio.submit(**{**SMALL, "steps": 40})
    studio.until(job["id"])
    reader.join(20)
    mine = [event for event in heard if event["job"] == job["id"]]
    kinds = [event["type"] for event in mine]
    assert kinds[0] == "queued" and kinds[-1] == "finished" and "started" in kinds
    assert kinds.index("started") < kinds.index("progress") < kinds.index("finished")
    steps = [event["step"] for event in mine if event["type"] == "progress"]
    assert steps == sorted(steps) and mine[-1]["pictures"][0]["seed"] == 7
    shown = [event for event in mine if event["type"] == "preview"]
    assert all(each["images"][0].startswith("data:image/jpeg;base64,") for each in shown)
    # One that is over has one event; one of its own comes to an end.
    (last,) = events_of(studio, f"/api/v1/jobs/{job['id']}/events")
    assert last["type"] == "finished" and last["pictures"] == mine[-1]["pictures"]


def _until_finished(studio: Served, listening: threading.Event) -> list[dict[str, Any]]:
    found = []
    with httpx.stream("GET", f"{studio.url}/api/v1/events", timeout=60) as reply:
        for line in reply.iter_lines():
            listening.set()
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if found[-1]["type"] == "finished":
                    return found
    return found


def test_a_reader_that_comes_in_the_middle_is_told_how_things_stand(quick: Served) -> None:
    job = quick.submit(prompt="0.05 slow", steps=60)
    quick.until(job["id"], "running")
    time.sleep(0.5)
    first = events_of(quick, f"/api/v1/jobs/{job['id']}/events", 2)
    assert [event["type"] for event in first] == ["started", "progress"]
    assert quick.http.post(f"/api/v1/jobs/{job['id']}/cancel").status_code == 200
    assert events_of(quick, f"/api/v1/jobs/{job['id']}/events")[-1]["type"] == "cancelled"


# --- stopping -----------------------------------------------------------------------------------------


def test_what_waits_and_what_is_drawn_can_be_cancelled(quick: Served) -> None:
    running = quick.submit(prompt="0.05 slow", steps=100)
    waiting = quick.submit(prompt="never")
    quick.until(running["id"], "running")
    assert quick.job(waiting["id"])["position"] == 1
    assert quick.http.post(f"/api/v1/jobs/{waiting['id']}/cancel").json()["state"] == "cancelled"
    quick.http.post(f"/api/v1/jobs/{running['id']}/cancel")
    assert quick.until(running["id"], timeout_s=4)["state"] == "cancelled"  # of 5 s
    again = quick.http.post(f"/api/v1/jobs/{running['id']}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")


def test_a_drawing_can_end_with_what_there_is_or_go_on_with_the_next(quick: Served) -> None:
    job = quick.submit(prompt="0.05 slow", steps=40, count=3)
    quick.until(job["id"], "running")
    assert quick.http.post(f"/api/v1/jobs/{job['id']}/skip").status_code == 200
    time.sleep(0.3)
    assert quick.http.post(f"/api/v1/jobs/{job['id']}/cancel", json={"keep": True}).status_code == 200
    done = quick.until(job["id"])
    assert done["state"] == "finished" and len(done["pictures"]) == 2
    assert quick.http.post(f"/api/v1/jobs/{job['id']}/skip").status_code == 409


def test_everything_of_ones_own_can_be_cancelled_at_once(quick: Served) -> None:
    jobs = [quick.submit(prompt="0.05 slow", steps=60) for _ in range(4)]
    assert quick.http.post("/api/v1/jobs/cancel").json() == {"cancelled": 4}
    assert {quick.until(job["id"])["state"] for job in jobs} == {"cancelled"}


# --- history ------------------------------------------------------------------------------------------


def test_history_is_found_paged_pinned_and_removed(quick: Served) -> None:
    jobs = [quick.submit(prompt=f"a fox number{i}", label="sheet")["id"] for i in range(5)]
    for job in jobs:
        quick.until(job)
    first = quick.http.get("/api/v1/jobs", params={"label": "sheet", "limit": 3}).json()
    rest = quick.http.get("/api/v1/jobs", params={"label": "sheet", "before": first["next"]}).json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == jobs[::-1] and rest["next"] is None
    (found,) = quick.http.get("/api/v1/pictures", params={"q": "NUMBER3 fox"}).json()["pictures"]
    assert found["job"] == jobs[3]
    pin = quick.http.post(f"/api/v1/pictures/{found['id']}/pin", json={"pinned": True}).json()
    assert pin["pinned"]
    assert quick.http.get("/api/v1/pictures?pinned=true").json()["pictures"] == [pin]
    assert quick.http.delete(f"/api/v1/pictures/{found['id']}").status_code == 204
    assert quick.http.get(found["url"]).status_code == 404
    assert quick.http.delete(f"/api/v1/jobs/{jobs[0]}").status_code == 204
    assert quick.http.get(f"/api/v1/jobs/{jobs[0]}").status_code == 404
    left = {job["id"] for job in quick.http.get("/api/v1/jobs?label=sheet&state=finished").json()["jobs"]}
    assert left == set(jobs[1:])


def test_a_picture_says_how_it_was_drawn(studio: Served) -> None:
    done = studio.until(studio.submit(**SMALL)["id"])
    content = studio.http.get(done["pictures"][0]["url"]).content
    told = studio.http.post("/api/v1/info", json={"image": base64.b64encode(content).decode()}).json()
    assert told["prompt"] == "a red apple" and told["values"]["Seed"] == "7"
    again = studio.until(studio.submit(**told["request"])["id"])
    same = studio.http.get(again["pictures"][0]["url"]).content
    assert Image.open(io.BytesIO(same)).tobytes() == Image.open(io.BytesIO(content)).tobytes()
    silent = studio.http.post("/api/v1/info", json={"image": encoded(picture())}).json()
    assert (silent["text"], silent["request"], silent["width"]) == ("", None, 128)


MORE = {
    "model": "Model: elsewhere",
    "source": "Denoising strength: 0.6",
    "controls": 'ControlNet 0: "Module: canny, Model: edges"',
    "blend": "Blend prompt: a pear, Blend share: 0.5",
    "refiner": "Refiner: xl-refiner [0123456789], Refiner switch at: 0.7",
    "ENSD": "ENSD: 31337",
    "Token merging ratio": "Token merging ratio: 0.5",
}


@pytest.mark.parametrize("left_out", [[], *([name] for name in MORE), list(MORE)], ids=str)
def test_what_a_job_would_lack_is_said(quick: Served, left_out: list[str]) -> None:
    text = ", ".join(["a fox\nSteps: 4, Sampler: Euler, Seed: 3", *(MORE[name] for name in left_out)])
    file = base64.b64encode(file_of(picture(), "PNG", text)).decode()
    told = quick.http.post("/api/v1/info", json={"image": file}).json()
    assert told["left_out"] == left_out
    request = told["request"]
    assert not {"blend", "refiner", "source", "controls"} & set(request) and request["model"] is None
    assert quick.http.post("/api/v1/jobs", json=request).status_code == 202


@pytest.mark.parametrize(
    ("name", "value"), [("blend", {"prompt": "a pear", "share": 0.5}), ("refiner", {"model": "starter"})]
)
def test_what_cannot_be_drawn_is_refused(quick: Served, name: str, value: object) -> None:
    reply = quick.http.post("/api/v1/jobs", json={**SMALL, name: value})
    assert reply.status_code == 422
    error = reply.json()["error"]
    assert error["field"] == name and f"does not support {name}" in error["message"]
    assert quick.http.post("/api/v1/jobs", json={**SMALL, name: None}).status_code == 202


def test_the_oldest_pictures_go_when_the_budget_is_used_up(pretending: Start) -> None:
    small = pretending(budget_bytes=1500)
    jobs = [small.submit(prompt="a fox")["id"] for _ in range(12)]
    for job in jobs:
        small.until(job)
    end = time.monotonic() + 20
    while len(small.http.get("/api/v1/pictures").json()["pictures"]) == 12 and time.monotonic() < end:
        time.sleep(0.1)
    left = [each["job"] for each in small.http.get("/api/v1/pictures").json()["pictures"]]
    assert 0 < len(left) < 12 and left == jobs[::-1][: len(left)]
    assert len(list((small.data / "outputs").glob("*/*.png"))) == len(left)


def test_a_user_may_pin_a_part_of_the_budget(pretending: Start) -> None:
    small = pretending(budget_bytes=10_000)
    for _ in range(3):
        small.until(small.submit(prompt="a fox")["id"])
    pictures = small.http.get("/api/v1/pictures").json()["pictures"]
    bytes_ = [each["bytes"] for each in pictures]
    small.stop()
    small.command[-1] = json.dumps({"budget_bytes": 2 * (bytes_[0] + bytes_[1])})
    small.start()
    pin = [small.http.post(f"/api/v1/pictures/{each['id']}/pin", json={"pinned": True}) for each in pictures]
    assert [reply.status_code for reply in pin] == [200, 200, 422]
    assert "unpin others first" in pin[2].json()["error"]["message"]
    told = small.http.get("/api/v1/status").json()["storage"]
    assert told["own_pinned_bytes"] == told["pin_budget_bytes"] == bytes_[0] + bytes_[1]


# --- what there is ------------------------------------------------------------------------------------


def test_lists_defaults_and_status(studio: Served) -> None:
    get = studio.http.get
    assert get("/api/v1/models").json()["models"][0]["name"] == "starter"
    assert "DPM++ 2M" in [each["name"] for each in get("/api/v1/samplers").json()["samplers"]]
    assert get("/api/v1/schedules").json()["schedules"][0]["name"] == "Automatic"
    assert {"name": "Latent", "kind": "latent"} in get("/api/v1/upscalers").json()["upscalers"]
    defaults = get("/api/v1/defaults").json()
    assert (defaults["steps"], defaults["sampler"], defaults["model"]) == (20, "DPM++ 2M", "starter")
    status = get("/api/v1/status").json()
    assert status["user"] == "local" and status["limits"]["steps"] == 150
    for name in ("styles", "loras", "embeddings", "controlnets", "preprocessors"):
        assert isinstance(get(f"/api/v1/{name}").json()[name], list)
    assert studio.http.post("/api/v1/models/refresh").status_code == 200


def test_every_route_of_the_document_is_there_and_the_other_way_round(studio: Served) -> None:
    import re

    paths = studio.http.get("/api/v1/openapi.json").json()["paths"]
    served = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in paths.items()
        if path.startswith("/api/v1")
        for method in methods
    }
    text = (Path(ROOT) / "docs" / "api.md").read_text()
    told = {f"{method} {path}" for method, path in re.findall(r"\b(GET|POST|DELETE) (/[\w/{}-]+)", text)}
    told.discard("GET /api/v1/openapi")
    plain = {re.sub(r"\{\w+\}", "{id}", route) for route in served}
    assert plain == told


# --- starting and stopping ----------------------------------------------------------------------------


def test_stopping_gives_back_what_is_drawn_and_the_next_start_finishes_it(pretending: Start) -> None:
    quick = pretending(grace_s=0.5)
    slow = quick.submit(prompt="0.1 slow", steps=30)["id"]
    waiting = quick.submit(prompt="a fox")["id"]
    quick.until(slow, "running")
    time.sleep(0.3)
    quick.http.close()
    quick.process.send_signal(signal.SIGTERM)
    assert quick.process.wait(15) in (0, -signal.SIGTERM)
    quick.start()
    assert quick.until(slow)["state"] == quick.until(waiting)["state"] == "finished"
    assert "Traceback" not in quick.log.read_text()


def test_a_worker_that_dies_is_started_again_and_the_third_death_is_a_reason(quick: Served) -> None:
    job = quick.submit(prompt="die")
    done = quick.until(job["id"])
    assert done["state"] == "failed" and "died or hung 3 times" in done["error"]
    after = quick.until(quick.submit(prompt="a fox")["id"])
    assert after["state"] == "finished"


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_the_next_one_draws(pretending: Start) -> None:
    served = pretending(stall_s=12.0)
    job = served.submit(prompt="hang")["id"]
    served.until(job, "running")
    served.http.post(f"/api/v1/jobs/{job}/cancel")  # which it does not hear
    after = served.submit(prompt="a fox")["id"]
    assert served.until(after, timeout_s=200)["state"] == "finished"
    assert served.job(job)["state"] == "cancelled"
    assert served.http.get("/api/v1/status").json()["workers"][0]["restarts"] == 1
    assert "has reported nothing for" in served.log.read_text()


def test_a_bug_in_the_worker_fails_one_job_and_tells_no_insides(quick: Served) -> None:
    done = quick.until(quick.submit(prompt="bug")["id"])
    assert done["state"] == "failed" and "ZeroDivisionError" in done["error"]
    assert "secret" not in done["error"]


@pytest.mark.slow
def test_a_start_takes_little_of_the_processor(serving: Start) -> None:
    """Under two seconds on a quiet machine."""
    times = []
    for _ in range(3):
        served = serving()
        times.append(served.processor_s())
        served.stop()
    assert min(times) < 3.0, times


@pytest.mark.slow
def test_a_worker_that_stands_still_loses_its_job_and_comes_back_without_harm(pretending: Start) -> None:
    import os

    quick = pretending()
    job = quick.submit(prompt="0.1 slow", steps=20)["id"]
    quick.until(job, "running")
    (worker,) = quick.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        assert quick.until(job, "queued", timeout_s=60)["attempts"] == 1
    finally:
        os.kill(worker, signal.SIGCONT)
    done = quick.until(job)
    assert (done["state"], done["attempts"], len(done["pictures"])) == ("finished", 2, 1)
    assert len(list((quick.data / "outputs").glob("*/*.png"))) == 1
    assert quick.workers() == [worker]
