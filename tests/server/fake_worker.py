"""A fake worker that returns gray pictures after a few simulated steps. Started as a module."""

import re
import time
from collections.abc import Iterator

from PIL import Image

from pochade.jobs.orders import Order
from pochade.jobs.runner import CANCEL, KEEP, SKIP, Batch, Event, Loaded, Read, StepDone, StopSignal
from pochade.jobs.worker import WorkerSettings, main
from pochade.pipeline import Result

STEP_S = 0.002


class Fake:
    """A prompt that begins with a number takes that many seconds per step; "die" kills the process, "hang"
    blocks it forever."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    def prepare(self, model: str | None) -> Iterator[Event]:
        yield Loaded(model or "starter", 64, 64)

    def forget(self) -> None:
        pass

    def draw(self, order: Order, read: Read, stop_signal: StopSignal) -> Iterator[Event]:
        request = order.request
        prompt = str(request.prompt)
        slow = re.match(r"\d(\.\d{1,4})? ", prompt, re.ASCII)
        pause = float(slow[0]) if slow else STEP_S
        if prompt == "die":
            import os

            os._exit(9)
        if prompt == "hang":
            time.sleep(10_000)
        if prompt == "bug":
            raise ZeroDivisionError("/secret/path")
        image = Image.new("RGB", (64, 64), (request.seed % 256, 100, 50))
        for number in range(order.count):
            for step in range(1, int(request.steps) + 1):
                time.sleep(pause)
                text = f"{prompt}\nSteps: {request.steps}, Sampler: Euler, Seed: {request.seed + number}"
                result = Result([image], [request.seed + number], [text])
                yield StepDone(
                    step, int(request.steps), number, lambda: [image], lambda result=result: result
                )
                wanted = stop_signal()
                if wanted == CANCEL:
                    return
                if wanted in (KEEP, SKIP):
                    break
            yield Batch(result.images, result.seeds, result.infotexts, prompt)
            if wanted == KEEP:
                return


if __name__ == "__main__":
    main(Fake)
