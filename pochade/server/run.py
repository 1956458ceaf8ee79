"""Runs uvicorn with the application, and shuts down in order."""

import socket
import sys

import uvicorn

from pochade.errors import InvalidRequest, OutputError
from pochade.server.app import make_app
from pochade.server.config import Options
from pochade.server.hostnames import LOOPBACK
from pochade.server.service import Service

KEEP_ALIVE_S = 30
CONNECTIONS = 1000
STOP_S = 3
"""Timeout of open replies on shutdown, s."""


def serve(options: Options, host: str, port: int, names: tuple[str, ...] = ()) -> None:
    """Serve until SIGINT or SIGTERM. Raises InvalidRequest for a public address without a key.

    host: the address to listen on. port: 0 picks a free one. names: host names, see `make_app`.
    """
    local = host in LOOPBACK
    if not local and not options.keys:
        raise InvalidRequest(
            f"--host {host} allows access from other computers, which requires a key: give one with"
            " --key-file FILE, $POCHADE_KEY or --keys FILE; or omit --host"
        )
    service = Service(options)
    app = make_app(service, names, own_names=() if local else (socket.gethostname(),), local=local)
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        limit_concurrency=CONNECTIONS,
        backlog=512,
        lifespan="off",
        ws="none",
        proxy_headers=False,  # uvicorn would trust any client on this computer, see `proxies`
    )
    number = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    with listening:
        _Server(config, service, f"http://{shown}:{number}").run(sockets=[listening])


class _Server(uvicorn.Server):
    """Opens the service before listening, prints the address, and closes the service at the end."""

    def __init__(self, config: uvicorn.Config, service: Service, address: str) -> None:
        super().__init__(config)
        self._service, self._address = service, address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.open()
        await super().startup(sockets=sockets)
        if self.started:
            print(f"Pochade draws at {self._address}   (Ctrl-C stops it)", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.leave()  # ends replies that wait for a job
        await super().shutdown(sockets=sockets)
        await self._service.close()


def _listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises OutputError if the address is in use or not local."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot listen on {host}:{port}: {reason}; try another --port") from error
    return listening
