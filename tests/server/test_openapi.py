"""The OpenAPI page documents every reply."""

from typing import Any

import httpx
import pytest

from pochade.server.dialects.native.responses import JobReply, RequestReply
from pochade.server.service import Service
from tests.server.in_process import served

VARIABLE = {"/sdapi/v1/options": "get"}
"""Replies whose names depend on what the user has chosen."""
EMPTY = (
    *(f"/sdapi/v1/{name}" for name in ("interrupt", "skip", "unload-checkpoint", "reload-checkpoint")),
    *(f"/sdapi/v1/refresh-{name}" for name in ("checkpoints", "vae", "loras", "embeddings")),
)
NOT_JSON = ("/events", "/thumbnail", "/pictures/{picture_id}", "/login", "/logout")


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    async def read(_: Service, client: httpx.AsyncClient) -> dict[str, Any]:
        found: dict[str, Any] = (await client.get("/api/v1/openapi.json")).json()
        return found

    return served(tmp_path_factory.mktemp("openapi"), read)


def test_every_reply_has_a_schema(openapi: dict[str, Any]) -> None:
    count = 0
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            replies = {status: each for status, each in operation["responses"].items() if status[0] == "2"}
            assert replies, (method, path)
            for status, reply in replies.items():
                schema = reply.get("content", {}).get("application/json", {}).get("schema")
                if status == "204" or path.endswith(NOT_JSON[:3]):
                    continue
                assert schema is not None, (method, path)
                documented = "$ref" in schema or schema.get("type") in ("null", "array") or "anyOf" in schema
                assert documented or path in EMPTY or VARIABLE.get(path) == method or _unsupported(path), (
                    method,
                    path,
                    schema,
                )
                count += documented
            assert "4XX" in operation["responses"] and "422" not in operation["responses"], (method, path)
    assert count > 50


def _unsupported(path: str) -> bool:
    return path == "/sdapi/v1/interrogate"  # always an error


def test_a_list_says_what_it_lists(openapi: dict[str, Any]) -> None:
    for name in ("samplers", "schedulers", "sd-models", "loras", "prompt-styles", "upscalers"):
        reply = openapi["paths"][f"/sdapi/v1/{name}"]["get"]["responses"]["200"]
        assert "$ref" in reply["content"]["application/json"]["schema"]["items"], name


def test_the_reply_of_a_job_documents_the_whole_request() -> None:
    from dataclasses import fields

    from pochade.jobs.job_request import JobRequest

    names = {each.name for each in fields(JobRequest)}
    assert set(RequestReply.model_fields) == names | {"count", "expand", "upscale"}
    assert {"request", "pictures", "left_out"} <= set(JobReply.model_fields)
