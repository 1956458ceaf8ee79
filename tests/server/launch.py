"""Starts a server with a fake worker: `python -m tests.server.launch PORT DATA JSON`."""

import json
import sys
from pathlib import Path

from pochade.jobs.catalogue import Folders
from pochade.jobs.limits import Limits
from pochade.server.auth import Keys, read_keys
from pochade.server.config import Options
from pochade.server.run import serve

if __name__ == "__main__":
    port, data, changes = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    keys = read_keys(Path(changes.pop("keys"))) if "keys" in changes else Keys()
    limits = Limits(**changes.pop("limits", {}))
    names = tuple(changes.pop("names", ()))
    serve(
        Options(
            data=data,
            folders=Folders(),
            command=(sys.executable, "-m", "tests.server.fake_worker"),
            keys=keys,
            limits=limits,
            **changes,
        ),
        "127.0.0.1",
        port,
        names,
    )
