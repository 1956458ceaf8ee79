"""The order in which `store.take` will take the waiting jobs, computed without querying the store."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar


class WaitingJob(Protocol):
    """A waiting job. lane: the higher is served first. created: seconds since 1970."""

    @property
    def id(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def lane(self) -> int: ...
    @property
    def created(self) -> float: ...


W = TypeVar("W", bound=WaitingJob)


def upcoming(waiting: Iterable[W], served: Mapping[str, float]) -> Iterator[W]:
    """The jobs in the order in which they will be taken if no others arrive. served: owner -> when one of
    their jobs was last taken.

    Within a lane the owners take turns; the one served longest ago comes first.
    """
    lanes: dict[int, dict[str, list[W]]] = {}
    for job in waiting:
        lanes.setdefault(job.lane, {}).setdefault(job.owner, []).append(job)
    # Each taking is later than all before it; integers keep that order among predictions.
    turns, turn = dict[str, tuple[int, float]](), 0
    for lane in sorted(lanes, reverse=True):
        lines = {owner: deque(sorted(jobs, key=_age)) for owner, jobs in lanes[lane].items()}
        heap = [
            (turns.get(owner, (0, served.get(owner, 0.0))), _age(line[0]), owner)
            for owner, line in lines.items()
        ]
        heapq.heapify(heap)
        while heap:
            _, _, owner = heapq.heappop(heap)
            yield lines[owner].popleft()
            turn += 1
            turns[owner] = turn, 0.0
            if lines[owner]:
                heapq.heappush(heap, (turns[owner], _age(lines[owner][0]), owner))


def _age(job: WaitingJob) -> tuple[float, str]:
    return job.created, job.id
