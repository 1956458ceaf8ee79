"""Fuzzing of every route of every dialect according to its schema.

POCHADE_FUZZ sets the number of requests; 5,000 is the full size.
"""

import os

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase

from tests.server.conftest import Start

REQUESTS = int(os.environ.get("POCHADE_FUZZ", "600"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of schemathesis, about itself
def test_no_route_of_any_dialect_fails_whatever_it_is_sent(pretending: Start) -> None:
    quick = pretending()
    schema = schemathesis.openapi.from_url(f"{quick.url}/api/v1/openapi.json")
    routes = [found.ok() for found in schema.get_all_operations()]
    routes = [route for route in routes if not route.path.endswith("/events")]  # which do not end
    asked: dict[int, int] = {}
    # Routes that take nothing have one request in them; the others share the rest, round by round.
    for number, route in ((number, route) for number in range(100) for route in routes):
        if sum(asked.values()) >= REQUESTS:
            break
        if number and not route.body and not route.query:
            continue

        @hypothesis.seed(number)
        @hypothesis.settings(
            max_examples=60,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=route.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            reply = case.call(base_url=quick.url, timeout=60)
            asked[reply.status_code] = asked.get(reply.status_code, 0) + 1
            assert reply.status_code < 500, (case.method, case.path, case.body, reply.text[:500])
            assert "Traceback" not in reply.text

        ask()
        quick.http.post("/api/v1/jobs/cancel")
    assert sum(asked.values()) >= REQUESTS
    print(f"{sum(asked.values())} requests to {len(routes)} routes: {dict(sorted(asked.items()))}")
    assert "Traceback" not in quick.log.read_text()
    assert quick.until(quick.submit(prompt="a fox")["id"])["state"] == "finished"
