"""What those who watch are told, and when it will be their turn."""

import asyncio
from typing import Any

from pochade.jobs.board import MOST_UNREAD, Board, Watcher
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
    board = Board(clock, {})
    for number, owner in enumerate(["ann", "ann", "ann", "bob"]):
        board.add(job(number, owner))
    assert [board.place(f"j{n}").position for n in range(4)] == [1, 3, 4, 2]  # type: ignore[union-attr]
    board.started("j0", "m", 1)
    clock.now += 0.5
    place = board.place("j3")
    assert place is not None and place.position == 1
    assert 3.4 < place.seconds_left <= 4.0
    assert board.place("none") is None


def test_the_time_left_follows_the_pace_of_the_drawing() -> None:
    clock = Clock()
    board = Board(clock, {})
    live = board.add(job(1, cost=2.0))
    board.started("j1", "m", 1)
    clock.now += 10  # far slower than was thought
    live.step, live.steps = 5, 10
    place = board.place("j1")
    assert place is not None and 4.0 <= place.seconds_left <= 10.0
    live.step = 10
    assert board.place("j1").seconds_left == 0.0  # type: ignore[union-attr]


def test_watchers_hear_of_their_own_only_and_begin_with_how_things_stand() -> None:
    board = Board(Clock(), {})
    mine = board.add(job(1))
    board.add(job(2, "bob"))
    watcher = board.watch("ann")
    board.started("j1", "m", 1)
    board.publish(mine, "progress", step=1)
    board.publish(mine, "progress", step=2)
    board.gone("j2", "finished")
    board.gone("j1", "finished")
    assert unread(watcher) == [("queued", "j1"), ("started", "j1"), ("progress", "j1"), ("finished", "j1")]


def test_watching_one_job_ends_with_it() -> None:
    board = Board(Clock(), {})
    board.add(job(1))
    board.add(job(2))
    watcher = board.watch("ann", "j1")
    board.gone("j2", "finished")
    board.gone("j1", "failed", error="why")
    assert unread(watcher) == [("queued", "j1"), ("failed", "j1")]
    assert not board.watchers


def test_a_slow_reader_misses_steps_not_ends_and_costs_no_memory() -> None:
    board = Board(Clock(), {})
    live = board.add(job(1))
    watcher = board.watch("ann")
    for step in range(50_000):
        board.publish(live, "progress", step=step)
        board.publish(live, "preview", images=[])
    assert len(watcher._unread) == 3
    for _ in range(MOST_UNREAD + 5):
        board.publish(live, "started")
    assert len(watcher._unread) <= MOST_UNREAD + 10
    assert watcher._closed  # so far behind, it is cut off and comes again


def test_a_job_whose_worker_died_waits_again() -> None:
    board = Board(Clock(), {})
    live = board.add(job(1))
    watcher = board.watch("ann")
    board.started("j1", "m", 1)
    live.step = 5
    board.waits_again("j1")
    assert live.state == QUEUED and live.step == 0
    assert [kind for kind, _ in unread(watcher)] == ["started", "queued"]


def test_changed_places_are_told_near_the_front_and_rarely_far_behind() -> None:
    clock = Clock()
    board = Board(clock, {})
    for number in range(300):
        board.add(job(number))
    watcher = board.watch("ann")
    board.tell_places()
    unread(watcher)
    board.gone("j0", "finished")
    board.tell_places()
    told = [event for event in unread(watcher) if event[0] == "queued"]
    assert 5 <= len(told) <= 15
    board.tell_places()
    assert unread(watcher) == []


def test_nobody_hears_of_a_job_that_the_store_has_not_accepted() -> None:
    board = Board(Clock(), {})
    board.add(job(1))
    early = board.watch("ann")
    board.add(job(0), accepted=False)  # would come first
    late, only = board.watch("ann"), board.watch("ann", "j0")
    board.tell_places()
    assert unread(early) == unread(late) == [("queued", "j1")] and unread(only) == []
    assert board.place("j0") is None and board.place("j1").position == 1  # type: ignore[union-attr]
    assert board.count(QUEUED) == 1
    assert len(board.of("ann")) == 2  # it takes up room, so that no more are accepted than there is room for
    board.forget("j0")
    board.tell_places()
    assert unread(early) == unread(late) == [] and only._closed


def test_an_accepted_job_is_told_once_with_the_place_that_its_cost_gives_it() -> None:
    board = Board(Clock(), {})
    watcher = board.watch("ann")
    live = board.add(job(1, cost=0.0), accepted=False)
    board.accept(live, 3.0)
    assert unread(watcher) == [("queued", "j1")]
    assert board.place("j1").seconds_left == 3.0  # type: ignore[union-attr]


def test_a_job_that_a_worker_took_was_accepted_though_the_store_has_not_answered_yet() -> None:
    board = Board(Clock(), {})
    early = board.watch("ann")
    live = board.add(job(1), accepted=False)
    board.started("j1", "m", 1)
    late = board.watch("ann")
    assert board.count(RUNNING) == 1 and board.place("j1").position == 0  # type: ignore[union-attr]
    board.accept(live, 3.0)  # runs already: nothing waits
    assert unread(early) == unread(late) == [("started", "j1")]
    board.gone("j1", "finished")
    board.accept(live, 3.0)
    assert unread(late) == [("finished", "j1")]
