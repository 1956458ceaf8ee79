"""The live state of jobs in the server's memory: the queue, the running jobs and their watchers.

The store is the source of truth; this contains what changes or is read too often for it. It belongs to one
event loop: nothing here blocks or locks.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pochade.jobs.fair_queue import upcoming
from pochade.jobs.orders import PULL
from pochade.jobs.records import QUEUED, RUNNING, Job

MOST_UNREAD = 2000
"""Maximum number of unread events per watcher; beyond it the watcher is disconnected and gets the full state
when it reconnects."""

PASSING = ("progress", "preview", "queued", "loading")
"""Kinds of events of which only the latest of a job is kept."""

LOOK_AGAIN_S = 0.5
"""How long computed queue positions are reused while jobs come and go, s."""

Event = Mapping[str, Any]


@dataclass(eq=False)
class LiveJob:
    """A job that is not finished. previews: data URLs. dialect: the API that it came through.

    accepted: whether the store has it. Until then it counts for the limits but is not announced, since it
    may still be refused. fetched, to_fetch: bytes of a model download. invalid, no_room: of a failed job,
    whether the request or the server's disk caused it.
    """

    id: str
    owner: str
    lane: int
    created: float
    cost: float
    model: str
    label: str
    state: str = QUEUED
    started: float | None = None
    attempt: int = 0
    step: int = 0
    steps: int = 0
    number: int = 0
    pictures: int = 1
    dialect: str = ""
    previews: list[str] = field(default_factory=list)
    over: "asyncio.Event" = field(default_factory=asyncio.Event)
    accepted: bool = True
    invalid: bool = False
    no_room: bool = False
    interrupted: bool = False
    kind: str = ""
    fetched: int = 0
    to_fetch: int = 0

    @property
    def pulls(self) -> bool:
        """Return whether the job downloads a model. Such jobs are not in the queue for drawing."""
        return self.kind == PULL

    def share(self) -> float:
        """Return the finished share of the drawing or download, 0 to 1."""
        if self.pulls:
            return min(1.0, self.fetched / self.to_fetch) if self.to_fetch else 0.0
        if not self.steps:
            return 0.0
        return min(1.0, (self.number + self.step / self.steps) / max(1, self.pictures))


@dataclass(frozen=True)
class QueuePosition:
    """A job's position in the queue. position: 1 is next, 0 is being drawn. seconds_left: until it ends."""

    position: int
    seconds_left: float


class Watcher:
    """Events for one reader, of one job or of all jobs of an owner. `close` it, or iterate to its end."""

    def __init__(self, owner: str, job: str | None) -> None:
        self.owner, self.job = owner, job
        self._unread: dict[object, Event] = {}
        self._count = 0
        self._there = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        key: object = (event["job"], event["type"])
        if event["type"] not in PASSING:
            self._count += 1
            key = self._count
        self._unread.pop(key, None)  # move to the end
        self._unread[key] = event
        if len(self._unread) > MOST_UNREAD:
            self.close()
        self._there.set()

    def close(self) -> None:
        self._closed = True
        self._there.set()

    async def next(self, timeout_s: float) -> Event | None:
        """Return the next event; None after timeout_s without one. Raises StopAsyncIteration at the end."""
        if not self._unread and not self._closed:
            self._there.clear()
            try:
                await asyncio.wait_for(self._there.wait(), timeout_s)
            except TimeoutError:
                return None
        if self._unread:
            return self._unread.pop(next(iter(self._unread)))
        raise StopAsyncIteration

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            try:
                event = await self.next(3600.0)
            except StopAsyncIteration:
                return
            if event is not None:
                yield event


class LiveJobs:
    """The live jobs of a server. clock: seconds since 1970. slots: number of workers that draw in
    parallel."""

    def __init__(self, clock: Callable[[], float], served: Mapping[str, float], slots: int = 1) -> None:
        self.live: dict[str, LiveJob] = {}
        self.watchers: set[Watcher] = set()
        self._clock, self._served, self._slots = clock, dict(served), max(1, slots)
        self._places: dict[str, QueuePosition] = {}
        self._published: dict[str, QueuePosition] = {}
        self._computed = -1.0
        self._changed = self._moved = True

    # --- queries ----------------------------------------------------------------------------------------

    def count(self, state: str, owner: str | None = None) -> int:
        """Return the number of accepted drawing jobs in this state."""
        found = (job for job in self.live.values() if job.accepted and not job.pulls and job.state == state)
        return sum(owner in (None, job.owner) for job in found)

    def of(self, owner: str) -> list[LiveJob]:
        """Return the owner's unfinished jobs, including those that are not accepted yet."""
        return [job for job in self.live.values() if job.owner == owner]

    def queue_position(self, job: str) -> QueuePosition | None:
        """Return a job's position in the queue; None if it has ended or is not accepted yet.

        Positions are recomputed when jobs come or go, but not more often than LOOK_AGAIN_S.
        """
        live = self.live.get(job)
        if live is None or not live.accepted:
            return None
        if live.state == RUNNING:
            return QueuePosition(0, self._seconds_left(live))
        self._recompute_positions()
        if job not in self._places:
            self._recompute_positions(now=True)
        return self._places.get(job)

    def seconds(self) -> float:
        """Return the predicted seconds until the queue is empty."""
        return sum(self._seconds_left(live) for live in self.live.values() if not live.pulls) / self._slots

    # --- changes ----------------------------------------------------------------------------------------

    def add(self, job: Job, *, accepted: bool = True) -> LiveJob:
        """Add a job. accepted: whether the store has it; otherwise `accept` or `forget` must follow."""
        live = LiveJob(
            id=job.id,
            owner=job.owner,
            lane=job.lane,
            created=job.created,
            cost=job.cost,
            model=job.model,
            label=job.label,
            state=job.state,
            started=job.started,
            attempt=job.attempts,
            accepted=accepted,
            kind=job.kind,
        )
        self.live[job.id] = live
        self._changed = self._moved = True
        return live

    def accept(self, live: LiveJob, cost: float) -> None:
        """Mark a job as accepted and set its predicted cost, s. Announces its position unless a worker has
        taken it."""
        live.accepted, live.cost = True, cost
        self._changed = self._moved = True
        if live.state == QUEUED and live.id in self.live:
            self.publish(live, "queued", **self._queue_state(live))

    def forget(self, job: str) -> None:
        """Drop a job that was not accepted."""
        self.live.pop(job, None)
        self._changed = self._moved = True
        self._close_watchers(job)

    def started(self, job: str, model: str, attempt: int) -> None:
        live = self.live.get(job)
        if live is None:
            return
        now = self._clock()
        live.accepted = True  # a worker took it from the store before the call of `accept`
        live.state, live.started, live.attempt = RUNNING, now, attempt
        live.step = live.steps = live.number = 0
        if not live.pulls:
            self._served[live.owner] = now
        self._changed = self._moved = True
        self.publish(live, "started", model=model, seconds_left=self._seconds_left(live), attempt=attempt)

    def requeued(self, job: str) -> None:
        """Put a job back into the queue whose worker died or returned it."""
        live = self.live.get(job)
        if live is not None and live.state == RUNNING:
            live.state, live.started, live.previews = QUEUED, None, []
            live.step = live.steps = live.number = 0
            self._changed = self._moved = True
            self.publish(live, "queued", **self._queue_state(live))

    def gone(self, job: str, event: str, **about: Any) -> None:
        """Remove a job that has ended."""
        live = self.live.pop(job, None)
        if live is None:
            return
        self._changed = self._moved = True
        self.publish(live, event, **about)
        live.over.set()
        self._close_watchers(job)

    def publish(self, live: LiveJob, kind: str, **about: Any) -> None:
        self.send(live.owner, live.id, live.label, kind, **about)

    def send(self, owner: str, job: str, label: str, kind: str, **about: Any) -> None:
        event = {"type": kind, "job": job, "label": label, **about}
        for watcher in self.watchers:
            # Partial images are large, and only for the client that requested them.
            wanted = (job,) if kind == "partial" else (None, job)
            if watcher.owner == owner and watcher.job in wanted:
                watcher.put(event)

    def _queue_state(self, live: LiveJob) -> dict[str, Any]:
        """Return the data of the event "queued"."""
        place = self.queue_position(live.id)
        if place is None:
            return {"position": None, "seconds_left": None}
        return {"position": place.position, "seconds_left": round(place.seconds_left, 3)}

    # --- watchers ---------------------------------------------------------------------------------------

    def watch(self, owner: str, job: str | None = None) -> Watcher:
        """Subscribe to events, starting with the current state; a finished job has none. Pass the result to
        `unwatch`."""
        watcher = Watcher(owner, job)
        if job is not None and job not in self.live:
            watcher.close()
            return watcher
        mine = (live for live in self.live.values() if live.owner == owner and live.accepted)
        wanted = (live for live in mine if job in (None, live.id))
        for live in sorted(wanted, key=lambda each: (each.created, each.id)):
            for kind, about in self._current_events(live):
                watcher.put({"type": kind, "job": live.id, "label": live.label, **about})
        self.watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        watcher.close()
        self.watchers.discard(watcher)

    def publish_positions(self) -> None:
        """Send changed queue positions to watchers of waiting jobs. Call it periodically."""
        if not self._moved or not self.watchers:
            return
        self._recompute_positions(now=True)
        before, self._published, self._moved = self._published, dict(self._places), False
        watched = {watcher.owner for watcher in self.watchers}
        for job, place in self._places.items():
            live, old = self.live[job], before.get(job)
            if live.owner in watched and (old is None or _differs(old.position, place.position)):
                self.publish(live, "queued", **self._queue_state(live))
            elif old is not None:
                self._published[job] = old

    def _current_events(self, live: LiveJob) -> Iterable[tuple[str, dict[str, Any]]]:
        if live.state == QUEUED:
            yield "queued", self._queue_state(live)
            return
        left = round(self._seconds_left(live), 3)
        yield "started", {"model": live.model, "seconds_left": left, "attempt": live.attempt}
        if live.steps or live.to_fetch:
            yield "progress", self.progress(live)
        if live.previews:
            yield "preview", {"picture": live.number, "images": live.previews}

    def progress(self, live: LiveJob) -> dict[str, Any]:
        """Return the data of the event "progress". For a model download, a step is one percent."""
        if live.pulls:
            left = round(self._seconds_left(live), 3)
            done = {"step": int(100 * live.share()), "steps": 100, "picture": 0, "pictures": 0}
            return {**done, "bytes": live.fetched, "total_bytes": live.to_fetch, "seconds_left": left}
        return {
            "step": live.step,
            "steps": live.steps,
            "picture": live.number,
            "pictures": live.pictures,
            "seconds_left": round(self._seconds_left(live), 3),
        }

    # --- inside -------------------------------------------------------------------------------------------

    def _close_watchers(self, job: str) -> None:
        """Close the watchers that watch only this job."""
        for watcher in [each for each in self.watchers if each.job == job]:
            watcher.close()
            self.watchers.discard(watcher)

    def _seconds_left(self, live: LiveJob) -> float:
        """Return the predicted seconds left, from the prediction or from the time taken so far."""
        if live.state != RUNNING or live.started is None:
            return live.cost
        spent = max(0.0, self._clock() - live.started)
        # Interpolates from the prediction to the measured pace (spent / share) as the job progresses.
        return (1 - live.share()) * max(spent, live.cost)

    def _recompute_positions(self, now: bool = False) -> None:
        if not self._changed or (not now and self._clock() - self._computed < LOOK_AGAIN_S):
            return
        drawings = [live for live in self.live.values() if not live.pulls]
        running = sum(self._seconds_left(live) for live in drawings if live.state == RUNNING)
        before, places = running, dict[str, QueuePosition]()
        waiting = [live for live in drawings if live.accepted and live.state == QUEUED]
        pulls = sorted((live.created, live.id) for live in self.live.values() if live.accepted and live.pulls)
        queued = (job for _, job in pulls if self.live[job].state == QUEUED)
        places |= {job: QueuePosition(position, 0.0) for position, job in enumerate(queued, start=1)}
        for position, live in enumerate(upcoming(waiting, self._served), start=1):
            before += live.cost
            places[live.id] = QueuePosition(position, max(live.cost, before / self._slots))
        self._places, self._computed, self._changed = places, self._clock(), False


def _differs(old: int, new: int) -> bool:
    """Return whether a position changed enough to announce: by one near the front, by a tenth further
    back."""
    return old != new and abs(old - new) * 10 >= min(old, new)
