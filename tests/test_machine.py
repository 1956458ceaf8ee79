"""What a computer tells of itself."""

import os

import pytest

from pochade.machine import memory_bytes


def test_memory_is_told_in_bytes() -> None:
    told = memory_bytes()
    if told is None:
        pytest.skip("this system does not tell")
    total, free = told
    assert 0 < free <= total and total > 2**28


def test_a_system_may_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", refuse)
    assert memory_bytes() is None
