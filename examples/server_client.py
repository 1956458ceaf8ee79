"""Draw on a running server, with the standard library only.

    pochade serve                                       # in another terminal; needs the extra `serve`
    python examples/server_client.py "a red apple"      # POCHADE_KEY=KEY before it, if the server has one

It writes server_client.png into the current folder. POCHADE_SERVER is the address of another server.
"""

import json
import os
import sys
from http.client import HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

SERVER = os.environ.get("POCHADE_SERVER", "http://127.0.0.1:7860")
KEY = os.environ.get("POCHADE_KEY")
HEADERS = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {KEY}"} if KEY else {})


def ask(path: str, body: dict[str, object] | None = None) -> HTTPResponse:
    """Return the response to a GET, or to a POST with this body. Raises HTTPError for 4xx and 5xx."""
    data = None if body is None else json.dumps(body).encode()
    response: HTTPResponse = urlopen(Request(SERVER + path, data, HEADERS))
    return response


prompt = sys.argv[1] if len(sys.argv) > 1 else "a red apple, 3d style"
job = json.load(ask("/api/v1/jobs", {"kind": "txt2img", "prompt": prompt, "seed": 7, "cfg_scale": 5.0}))
for line in ask(f"/api/v1/jobs/{job['id']}/events"):  # server-sent events; they end with the job
    if line.startswith(b"data: "):
        event = json.loads(line.removeprefix(b"data: "))
        print(event["type"], event.get("step", ""))
if event["type"] != "finished":
    sys.exit(f"the job did not finish: {event.get('error', event['type'])}")
Path("server_client.png").write_bytes(ask(event["pictures"][0]["url"]).read())
