"""What a server is started with."""

from dataclasses import dataclass, field
from pathlib import Path

from pochade.jobs.catalogue import Folders
from pochade.jobs.limits import Limits
from pochade.jobs.storage_usage import pin_budget
from pochade.jobs.supervisor import COMMAND
from pochade.server.auth import LOCAL, Keys


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the server works with, and how much it may take.

    devices: one worker for each. memory_budget: bytes for each, or "". graph_budget: of compiled graphs in
    the memory of each, the same. threads: of the processor, for each. budget_bytes: for all pictures.
    data: where jobs and pictures are kept. folders: where models are looked for.
    fold_adapters: as for `pochade.load`.
    stall_s: a worker that shows no progress for so long is ended, and another one started; 0: never.
    trusted_proxies: addresses and networks whose X-Forwarded-For counts, see `proxies`.
    admins: users who may have models fetched; the one user of a server without several may anyhow.
    marks: whether pictures say that a model made them. sign: the file of a key to sign them with.
    """

    data: Path
    folders: Folders = field(default_factory=Folders)
    devices: tuple[str, ...] = ("auto",)
    precision: str = "auto"
    engine: str = "auto"
    memory_budget: str = ""
    threads: int | None = None
    graph_budget: str = ""
    fold_adapters: bool = False
    marks: bool = True
    sign: Path | None = None
    limits: Limits = field(default_factory=Limits)
    budget_bytes: int = 20 * 10**9
    grace_s: float = 10.0
    stall_s: float = 1800.0
    keys: Keys = field(default_factory=Keys)
    admins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    command: tuple[str, ...] = COMMAND

    def is_admin(self, owner: str) -> bool:
        """Whether a user may change what the server has for all."""
        return owner == LOCAL or owner in self.admins

    @property
    def pin_budget_bytes(self) -> int:
        """That each user may pin."""
        return pin_budget(self.budget_bytes, len(self.keys.digests))
