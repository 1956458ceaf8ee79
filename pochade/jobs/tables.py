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
    Column("lane", Integer, nullable=False),  # higher ones are served first
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("words", Text, nullable=False),  # the prompts in lower case, for searching
    Column("order", Text, nullable=False),  # JSON, see `orders`
    Column("cost", Float, nullable=False),  # predicted seconds
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("attempts", Integer, nullable=False),  # number of times it was taken
    Column("deaths", Integer, nullable=False),  # number of workers that died while running it
    Column("worker", Text),
    Column("lease", Text),  # the token of the lease
    Column("lease_until", Float),
    Column("asked", Text, nullable=False),  # "", or "cancel" to stop it
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
    Column("seed", Text, nullable=False),  # unsigned 64-bit, which SQLite has no integer type for
    Column("text", Text, nullable=False),  # the parameters text
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
    Column("bytes", Integer, nullable=False),  # of all pictures of the owner
    Column("pinned", Integer, nullable=False),  # of the pinned ones
)

owners = Table(
    "owners",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("served", Float, nullable=False),  # when a job of the owner was last taken
    Column("spent", Float, nullable=False),  # total seconds of drawing
)

rates = Table(
    "rates",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("width", Integer, primary_key=True),  # 0 x 0: all sizes together
    Column("height", Integer, primary_key=True),
    Column("seconds", Float, nullable=False),  # per unit of work, see `cost`
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
    Column("digest", Text, primary_key=True),  # hash of the cookie, which does not allow to log in
    Column("owner", Text, nullable=False),
    Column("proof", Text, nullable=False),  # of the key used to log in; invalid once the key changes
    Column("until", Float, nullable=False),
)

# Added to stores of format 1; earlier versions ignore it.
idempotency_keys = Table(
    "idempotency_keys",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # its hash
    Column("request", Text, nullable=False),  # the hash of the request
    Column("job", Text, nullable=False),
    Column("created", Float, nullable=False, index=True),
)
