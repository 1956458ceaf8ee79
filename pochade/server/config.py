"""The options that a server is started with."""

from dataclasses import dataclass, field
from pathlib import Path

from pochade.jobs.catalogue import Folders
from pochade.jobs.limits import Limits
from pochade.jobs.storage_usage import pin_budget
from pochade.jobs.supervisor import COMMAND
from pochade.server.auth import LOCAL, Keys


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the server.

    devices: one worker for each. memory_budget: bytes for each worker, or "". graph_budget: the same, for
    compiled graphs in memory. threads: CPU threads of each worker. budget_bytes: for all pictures.
    data: folder for jobs and pictures. folders: folders of models. fold_adapters: as for `pochade.load`.
    stall_s: a worker without progress for this long is replaced; 0: never. trusted_proxies: addresses and
    networks whose X-Forwarded-For is trusted, see `proxies`. admins: users who may have models downloaded;
    the single user of a server always may. marks: whether pictures are marked as generated. sign: file of a
    key to sign them with.
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
        """Return whether a user may change what all users share."""
        return owner == LOCAL or owner in self.admins

    @property
    def pin_budget_bytes(self) -> int:
        """Bytes that each user may pin."""
        return pin_budget(self.budget_bytes, len(self.keys.digests))
