"""What tests of several folders share."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.single_files import Whole
    from tests.tiny_models import Model


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs of tests stay out of the user's cache, and the user's models out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCHADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.delenv("POCHADE_MODELS", raising=False)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], Model]":
    """`model(family)`: a tiny model of diffusers and its folder; tests share it and leave it as it is."""
    from tests.tiny_models import (  # here: it imports diffusers, which most tests do not need
        Model,
        make_model,
    )

    @cache
    def make(family: str) -> Model:
        return make_model(family, tmp_path_factory.mktemp("model"))

    return make


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], Whole]":
    """`whole(family)`: a tiny model to make single files of; tests share it and leave it as it is."""
    from tests.single_files import Whole, make_whole

    @cache
    def make(family: str) -> Whole:
        folder = tmp_path_factory.mktemp("whole")
        return Whole(make_whole(family, folder), folder)

    return make
