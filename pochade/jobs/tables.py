"""The tables of the job store. Times are seconds since 1970; sizes bytes; flags 0 or 1."""

from sqlalchemy import Column, Float, Index, Integer, MetaData, Table, Text

FORMAT = 1
"""Version of these tables, stored as SQLite's user_version."""

METADATA = MetaData()

jobs = Table(
    "jobs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("lane", Integer, nullable=False),  # higher ones first
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("words", Text, nullable=False),  # the prompts in small letters, to search in
    Column("order", Text, nullable=False),  # JSON, see `orders`
    Column("cost", Float, nullable=False),  # predicted seconds
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("attempts", Integer, nullable=False),  # how often it was taken
    Column("deaths", Integer, nullable=False),  # how often whoever had taken it died
    Column("worker", Text),
    Column("lease", Text),  # who holds it proves so with this
    Column("lease_until", Float),
    Column("asked", Text, nullable=False),  # "", or "cancel": to stop
    Column("error", Text),
    Index("jobs_to_take", "state", "lane", "created"),
    Index("jobs_of_owner", "owner", "created"),
)

pictures = Table(
    "pictures",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("job", Text, nullable=False, index=True),
    Column("owner", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("path", Text, nullable=False),  # below the folder of outputs
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("seed", Text, nullable=False),  # of 64 bits without a sign, which SQLite has no number for
    Column("text", Text, nullable=False),  # how it was drawn
    Column("words", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("pinned", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Index("pictures_of_owner", "owner", "created"),
    Index("pictures_to_remove", "pinned", "created"),
)

storage = Table(
    "storage",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("bytes", Integer, nullable=False),  # of all their pictures
    Column("pinned", Integer, nullable=False),  # of those of them that are pinned
)

owners = Table(
    "owners",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("served", Float, nullable=False),  # when a job of theirs was last taken
    Column("spent", Float, nullable=False),  # seconds of drawing, all in all
)

rates = Table(
    "rates",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("width", Integer, primary_key=True),  # 0 x 0: of all sizes together
    Column("height", Integer, primary_key=True),
    Column("seconds", Float, nullable=False),  # for one unit of work, see `cost`
    Column("count", Integer, nullable=False),
)

choices = Table(
    "choices",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("values", Text, nullable=False),  # JSON
)

sessions = Table(
    "sessions",
    METADATA,
    Column("digest", Text, primary_key=True),  # of the cookie: who reads the file cannot log in with it
    Column("owner", Text, nullable=False),
    Column("proof", Text, nullable=False),  # of the key that opened it: another key, and it is over
    Column("until", Float, nullable=False),
)

# Added to stores of format 1: an earlier version, which does not know it, leaves it alone.
idempotency_keys = Table(
    "idempotency_keys",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # its hash
    Column("request", Text, nullable=False),  # the hash of what was asked for
    Column("job", Text, nullable=False),
    Column("created", Float, nullable=False, index=True),
)
