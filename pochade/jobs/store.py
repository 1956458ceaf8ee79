"""The life cycle of a job: accepted, taken by a worker under a lease, finished exactly once.

A worker that takes a job gets a lease: a token and an expiry. Its heartbeats extend the expiry; only the
holder of the token may end the job. If a worker dies, or stays silent until its lease expires, the job is
taken back (`reclaim`) and queued again. After MAX_DEATHS times it has failed.

Each function is one transaction. Time and tokens are arguments.
"""

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from pochade.errors import PochadeError
from pochade.jobs import cost, idempotency, storage_usage
from pochade.jobs.database import Database
from pochade.jobs.orders import PULL
from pochade.jobs.records import (
    CANCELLED,
    FAILED,
    FINISHED,
    QUEUED,
    RUNNING,
    FinishedPicture,
    Job,
    Lease,
    ReclaimedJob,
    columns,
)
from pochade.jobs.tables import jobs, owners, pictures

LEASE_S = 30.0
MAX_DEATHS = 3
CRASHED = (
    "the worker process died or hung {deaths} times while drawing it; there may be"
    " too little memory for this size, or this model may not work here"
)

CRASHED_PULL = (
    "the process died or hung {deaths} times while downloading it; the partial files are kept, and"
    " another pull resumes them"
)


class LeaseLost(PochadeError):
    """The job was taken back, has ended or was removed; its drawn pictures must be discarded."""


def accept(database: Database, job: Job, words: str, once: idempotency.IdempotencyKey | None = None) -> None:
    """Store a new job. Once this returns, it will be drawn, fail with a reason, or be cancelled.

    once: its idempotency key. Raises RepeatedRequest if there is a job with that key, and KeyReused if the
    key belongs to a different request; nothing is stored then.
    """
    values = {name: getattr(job, name) for name in columns(Job)}
    with database.write() as connection:
        if once is not None:
            idempotency.save(connection, job.owner, once, job.id, job.created)
        connection.execute(jobs.insert().values(**values, words=words))


def take(
    database: Database,
    worker: str,
    token: str,
    now: float,
    lease_s: float = LEASE_S,
    pulls: bool = False,
) -> Lease | None:
    """Take the next job under a lease; return None if none is waiting.

    The highest lane comes first, then the owner who was served longest ago, then the oldest job. Downloads of
    models have a separate worker (`pulls`): the oldest comes first, and they do not affect an owner's turn.
    """
    with database.write() as connection:
        row = connection.execute(next_pull() if pulls else next_in_line()).one_or_none()
        if row is None:
            return None
        changes = {
            "state": RUNNING,
            "worker": worker,
            "lease": token,
            "lease_until": now + lease_s,
            "started": now,
            "attempts": row.attempts + 1,
        }
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(**changes))
        if not pulls:
            served = insert(owners).values(name=row.owner, served=now, spent=0.0)
            connection.execute(served.on_conflict_do_update(["name"], set_={"served": now}))
        return Lease(
            as_job(row, state=RUNNING, started=now, attempts=row.attempts + 1),
            token,
        )


def next_in_line() -> "Select[tuple[object, ...]]":
    """Return the query of `take` for drawings. An owner who was never served comes first."""
    line = jobs.outerjoin(owners, owners.c.name == jobs.c.owner)
    return (
        select(*(jobs.c[name] for name in columns(Job)))
        .select_from(line)
        .where(jobs.c.state == QUEUED, jobs.c.kind != PULL)
        .order_by(jobs.c.lane.desc(), func.coalesce(owners.c.served, 0.0), jobs.c.created, jobs.c.id)
        .limit(1)
    )


def next_pull() -> "Select[tuple[object, ...]]":
    """Return the query of `take` for model downloads."""
    waiting = and_(jobs.c.state == QUEUED, jobs.c.kind == PULL)
    query = select(*(jobs.c[name] for name in columns(Job))).where(waiting)
    return query.order_by(jobs.c.created, jobs.c.id).limit(1)


def heartbeat(database: Database, job: str, token: str, now: float, lease_s: float = LEASE_S) -> str:
    """Extend the lease. Returns the pending request for the job: "" to continue, or "cancel". Raises
    LeaseLost."""
    with database.write() as connection:
        held = update(jobs).where(_held(job, token)).values(lease_until=now + lease_s)
        asked = connection.execute(held.returning(jobs.c.asked)).scalar_one_or_none()
    if asked is None:
        raise LeaseLost(f"the lease of job '{job}' has expired")
    return str(asked)


def finish(
    database: Database,
    lease: Lease,
    drawn: Sequence[FinishedPicture],
    now: float,
    work: cost.Work | None = None,
    seconds: float = 0.0,
    state: str = FINISHED,
) -> None:
    """End a job and add its pictures, in one transaction. Raises LeaseLost, and then does neither.

    work, seconds: the work done, and its duration once the model is loaded, for the prediction. state:
    FINISHED, or CANCELLED.
    """
    job = lease.job
    with database.write() as connection:
        _end(connection, lease, state, None, now)
        rows = [
            {
                "id": f"{job.id}-{number}",
                "job": job.id,
                "owner": job.owner,
                "number": number,
                "path": picture.path,
                "width": picture.width,
                "height": picture.height,
                "seed": str(picture.seed),
                "text": picture.text,
                "words": picture.text.lower(),
                "prompt": picture.prompt,
                "model": job.model,
                "label": job.label,
                "created": now,
                "pinned": 0,
                "bytes": picture.bytes,
            }
            for number, picture in enumerate(drawn)
        ]
        if rows:
            connection.execute(pictures.insert(), rows)
            storage_usage.count(connection, job.owner, sum(picture.bytes for picture in drawn))
        if work is not None:
            cost.learn(connection, job.model, work, seconds)
        if job.started is not None and job.kind != PULL:
            spent = owners.c.spent + max(0.0, now - job.started)
            connection.execute(update(owners).where(owners.c.name == job.owner).values(spent=spent))


def fail(database: Database, lease: Lease, error: str, now: float) -> None:
    """Mark a job as failed, with the reason. Raises LeaseLost."""
    with database.write() as connection:
        _end(connection, lease, FAILED, error, now)


def release(database: Database, job: str, token: str) -> bool:
    """Return a job to its former position in the queue. Return whether the worker still had the lease.

    A job that was being cancelled is cancelled.
    """
    with database.write() as connection:
        back = {"worker": None, "lease": None, "lease_until": None}
        held = _held(job, token)
        stopped = update(jobs).where(held, jobs.c.asked != "").values(state=CANCELLED, ended=jobs.c.started)
        if connection.execute(stopped.values(**back)).rowcount:
            return True
        waiting = update(jobs).where(held).values(state=QUEUED, started=None, **back)
        return connection.execute(waiting).rowcount == 1


def reclaim(
    database: Database,
    now: float,
    dead: Callable[[str], bool] = lambda worker: False,
    alive: Collection[str] = (),
) -> list[ReclaimedJob]:
    """Take back the jobs of workers that are dead or whose lease has expired.

    alive: workers known to be running: while the database refuses writes, it refuses heartbeats too, and
    finished pictures are stored once it accepts writes again.
    """
    with database.write() as connection:
        running = connection.execute(select(jobs.c.worker).where(jobs.c.state == RUNNING).distinct())
        gone = [worker for worker in running.scalars() if worker is not None and dead(worker)]
        silent = and_(jobs.c.lease_until < now, jobs.c.worker.not_in(alive))
        return _reclaim(connection, now, or_(silent, jobs.c.worker.in_(gone)))


def running(database: Database) -> list[tuple[str, float]]:
    """Return the worker and the lease's expiry of each running job."""
    with database.read() as connection:
        rows = connection.execute(select(jobs.c.worker, jobs.c.lease_until).where(jobs.c.state == RUNNING))
        return [(row.worker, row.lease_until) for row in rows]


def cancel(database: Database, job: str, owner: str, now: float) -> str | None:
    """Cancel a waiting job, or mark a running one for cancellation. Returns its previous state; None if there
    is no such job."""
    with database.write() as connection:
        own = and_(jobs.c.id == job, jobs.c.owner == owner)
        state = connection.execute(select(jobs.c.state).where(own)).scalar_one_or_none()
        if state == QUEUED:
            over = {"state": CANCELLED, "ended": now, "asked": "cancel"}
            connection.execute(update(jobs).where(own).values(**over))
        elif state == RUNNING:
            connection.execute(update(jobs).where(own).values(asked="cancel"))
        return state


def cancel_waiting(database: Database, owner: str, now: float) -> list[str]:
    """Cancel all waiting jobs of an owner; returns their ids."""
    with database.write() as connection:
        waiting = and_(jobs.c.owner == owner, jobs.c.state == QUEUED)
        found = list(connection.execute(select(jobs.c.id).where(waiting)).scalars())
        over = {"state": CANCELLED, "ended": now, "asked": "cancel"}
        connection.execute(update(jobs).where(waiting).values(**over))
        return found


def served_last(database: Database) -> dict[str, float]:
    """Return owner -> when one of their jobs was last taken."""
    with database.read() as connection:
        rows = connection.execute(select(owners.c.name, owners.c.served))
        return {row.name: row.served for row in rows}


def as_job(row: "Row[tuple[object, ...]]", **changes: object) -> Job:
    """Convert a row with all columns of a job."""
    return Job(**{**{name: getattr(row, name) for name in columns(Job)}, **changes})


# --- inside -----------------------------------------------------------------------------------------------


def _held(job: str, token: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job, jobs.c.state == RUNNING, jobs.c.lease == token)


def _end(connection: Connection, lease: Lease, state: str, error: str | None, now: float) -> None:
    over = {"state": state, "error": error, "ended": now, "lease": None, "lease_until": None}
    ended = update(jobs).where(_held(lease.job.id, lease.token)).values(**over)
    if connection.execute(ended).rowcount != 1:
        raise LeaseLost(f"the lease of job '{lease.job.id}' has expired; the job was taken back or removed")


def _reclaim(connection: Connection, now: float, which: ColumnElement[bool]) -> list[ReclaimedJob]:
    dead = connection.execute(
        select(jobs.c.id, jobs.c.owner, jobs.c.deaths, jobs.c.asked, jobs.c.kind).where(
            jobs.c.state == RUNNING, which
        )
    ).all()
    back = []
    for row in dead:
        deaths = row.deaths + 1
        changes: dict[str, object] = {"deaths": deaths, "worker": None, "lease": None, "lease_until": None}
        if row.asked:
            changes |= {"state": CANCELLED, "ended": now}
        elif deaths >= MAX_DEATHS:
            changes |= {
                "state": FAILED,
                "ended": now,
                "error": (CRASHED_PULL if row.kind == PULL else CRASHED).format(deaths=deaths),
            }
        else:
            changes |= {"state": QUEUED, "started": None}
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(**changes))
        back.append(ReclaimedJob(row.id, row.owner, str(changes["state"])))
    return back
