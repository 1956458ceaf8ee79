"""What tests of several folders share."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.single_files import Whole


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], Whole]":
    """`whole(family)`: a tiny model to make single files of; tests share it and leave it as it is."""
    from tests.single_files import (
        Whole,
        make_whole,
    )  # here: it imports diffusers, which most tests do not need

    @cache
    def make(family: str) -> Whole:
        folder = tmp_path_factory.mktemp("whole")
        return Whole(make_whole(family, folder), folder)

    return make
