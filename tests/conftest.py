"""Fixtures for all tests."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.single_files import Whole
    from tests.tiny_models import Model


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a separate cache and models folder, so that tests and the user's data are independent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCHADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.delenv("POCHADE_MODELS", raising=False)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], Model]":
    """`model(family)`: a tiny diffusers model and its folder; shared, so tests must not change it."""
    from tests.tiny_models import (  # imported here, since it imports diffusers, which most tests do not need
        Model,
        make_model,
    )

    @cache
    def make(family: str) -> Model:
        return make_model(family, tmp_path_factory.mktemp("model"))

    return make


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], Whole]":
    """`whole(family)`: a tiny model for single files; shared, so tests must not change it."""
    from tests.single_files import Whole, make_whole

    @cache
    def make(family: str) -> Whole:
        folder = tmp_path_factory.mktemp("whole")
        return Whole(make_whole(family, folder), folder)

    return make
