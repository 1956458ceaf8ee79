"""Fixtures: huggingface_hub, configured for a fake hub."""

from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from tests.fake_hub import FakeHub, serving, tiny_model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A fake hub with the model `someone/tiny`."""
    with serving(FakeHub(tiny_model())) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            served.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served
        close_session()
