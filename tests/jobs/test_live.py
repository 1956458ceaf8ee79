"""What those who watch are told, and when it will be their turn."""

import asyncio
from typing import Any

from pochade.jobs.live import MOST_UNREAD, LiveJobs, Watcher
from pochade.jobs.records import QUEUED, RUNNING, Job


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def job(number: int, owner: str = "ann", cost: float = 2.0) -> Job:
    return Job(
        id=f"j{number}",
        owner=owner,
        lane=1,
        state=QUEUED,
        kind="txt2img",
        model="m",
        label="",
        order="{}",
        cost=cost,
        created=float(number),
    )


async def unread_now(watcher: Watcher) -> list[tuple[Any, Any]]:
    """Type and job of every event that waits for this reader, who reads it."""
    events = [await watcher.next(0.01) for _ in range(len(watcher._unread))]
    return [(event["type"], event["job"]) for event in events if event is not None]


def unread(watcher: Watcher) -> list[tuple[Any, Any]]:
    return asyncio.run(unread_now(watcher))


def test_a_place_counts_who_comes_before_and_how_long_they_take() -> None:
    clock = Clock()
    live_jobs = LiveJobs(clock, {})
    for number, owner in enumerate(["ann", "ann", "ann", "bob"]):
        live_jobs.add(job(number, owner))
    assert [live_jobs.queue_position(f"j{n}").position for n in range(4)] == [1, 3, 4, 2]  # type: ignore[union-attr]
    live_jobs.started("j0", "m", 1)
    clock.now += 0.5
    place = live_jobs.queue_position("j3")
    assert place is not None and place.position == 1
    assert 3.4 < place.seconds_left <= 4.0
    assert live_jobs.queue_position("none") is None


def test_the_time_left_follows_the_pace_of_the_drawing() -> None:
    clock = Clock()
    live_jobs = LiveJobs(clock, {})
    live = live_jobs.add(job(1, cost=2.0))
    live_jobs.started("j1", "m", 1)
    clock.now += 10  # far slower than was thought
    live.step, live.steps = 5, 10
    place = live_jobs.queue_position("j1")
    assert place is not None and 4.0 <= place.seconds_left <= 10.0
    live.step = 10
    assert live_jobs.queue_position("j1").seconds_left == 0.0  # type: ignore[union-attr]


def test_watchers_hear_of_their_own_only_and_begin_with_how_things_stand() -> None:
    live_jobs = LiveJobs(Clock(), {})
    mine = live_jobs.add(job(1))
    live_jobs.add(job(2, "bob"))
    watcher = live_jobs.watch("ann")
    live_jobs.started("j1", "m", 1)
    live_jobs.publish(mine, "progress", step=1)
    live_jobs.publish(mine, "progress", step=2)
    live_jobs.gone("j2", "finished")
    live_jobs.gone("j1", "finished")
    assert unread(watcher) == [("queued", "j1"), ("started", "j1"), ("progress", "j1"), ("finished", "j1")]


def test_watching_one_job_ends_with_it() -> None:
    live_jobs = LiveJobs(Clock(), {})
    live_jobs.add(job(1))
    live_jobs.add(job(2))
    watcher = live_jobs.watch("ann", "j1")
    live_jobs.gone("j2", "finished")
    live_jobs.gone("j1", "failed", error="why")
    assert unread(watcher) == [("queued", "j1"), ("failed", "j1")]
    assert not live_jobs.watchers


def test_a_slow_reader_misses_steps_not_ends_and_costs_no_memory() -> None:
    live_jobs = LiveJobs(Clock(), {})
    live = live_jobs.add(job(1))
    watcher = live_jobs.watch("ann")
    for step in range(50_000):
        live_jobs.publish(live, "progress", step=step)
        live_jobs.publish(live, "preview", images=[])
    assert len(watcher._unread) == 3
    for _ in range(MOST_UNREAD + 5):
        live_jobs.publish(live, "started")
    assert len(watcher._unread) <= MOST_UNREAD + 10
    assert watcher._closed  # so far behind, it is cut off and comes again


def test_a_job_whose_worker_died_waits_again() -> None:
    live_jobs = LiveJobs(Clock(), {})
    live = live_jobs.add(job(1))
    watcher = live_jobs.watch("ann")
    live_jobs.started("j1", "m", 1)
    live.step = 5
    live_jobs.requeued("j1")
    assert live.state == QUEUED and live.step == 0
    assert [kind for kind, _ in unread(watcher)] == ["started", "queued"]


def test_changed_places_are_told_near_the_front_and_rarely_far_behind() -> None:
    clock = Clock()
    live_jobs = LiveJobs(clock, {})
    for number in range(300):
        live_jobs.add(job(number))
    watcher = live_jobs.watch("ann")
    live_jobs.publish_positions()
    unread(watcher)
    live_jobs.gone("j0", "finished")
    live_jobs.publish_positions()
    told = [event for event in unread(watcher) if event[0] == "queued"]
    assert 5 <= len(told) <= 15
    live_jobs.publish_positions()
    assert unread(watcher) == []


def test_nobody_hears_of_a_job_that_the_store_has_not_accepted() -> None:
    live_jobs = LiveJobs(Clock(), {})
    live_jobs.add(job(1))
    early = live_jobs.watch("ann")
    live_jobs.add(job(0), accepted=False)  # would come first
    late, only = live_jobs.watch("ann"), live_jobs.watch("ann", "j0")
    live_jobs.publish_positions()
    assert unread(early) == unread(late) == [("queued", "j1")] and unread(only) == []
    assert live_jobs.queue_position("j0") is None and live_jobs.queue_position("j1").position == 1  # type: ignore[union-attr]
    assert live_jobs.count(QUEUED) == 1
    assert (
        len(live_jobs.of("ann")) == 2
    )  # it takes up room, so that no more are accepted than there is room for
    live_jobs.forget("j0")
    live_jobs.publish_positions()
    assert unread(early) == unread(late) == [] and only._closed


def test_an_accepted_job_is_told_once_with_the_place_that_its_cost_gives_it() -> None:
    live_jobs = LiveJobs(Clock(), {})
    watcher = live_jobs.watch("ann")
    live = live_jobs.add(job(1, cost=0.0), accepted=False)
    live_jobs.accept(live, 3.0)
    assert unread(watcher) == [("queued", "j1")]
    assert live_jobs.queue_position("j1").seconds_left == 3.0  # type: ignore[union-attr]


def test_a_job_that_a_worker_took_was_accepted_though_the_store_has_not_answered_yet() -> None:
    live_jobs = LiveJobs(Clock(), {})
    early = live_jobs.watch("ann")
    live = live_jobs.add(job(1), accepted=False)
    live_jobs.started("j1", "m", 1)
    late = live_jobs.watch("ann")
    assert live_jobs.count(RUNNING) == 1 and live_jobs.queue_position("j1").position == 0  # type: ignore[union-attr]
    live_jobs.accept(live, 3.0)  # runs already: nothing waits
    assert unread(early) == unread(late) == [("started", "j1")]
    live_jobs.gone("j1", "finished")
    live_jobs.accept(live, 3.0)
    assert unread(late) == [("finished", "j1")]
