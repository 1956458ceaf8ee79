"""Rate limits for guessing keys."""

import pytest

from pochade.server.auth import Keys, _checked
from pochade.server.key_attempts import KeyAttempts
from pochade.server.middleware import ErrorReply
from pochade.server.rate_limit import Rate, TokenBuckets

KEYS = Keys({name: _checked(f"{name}'s long key", "the key") for name in ("ann", "bob")})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> KeyAttempts:
    return KeyAttempts(KEYS, TokenBuckets(Rate(per_s=0.1, burst=3), clock))


def test_right_keys_open_and_wrong_ones_do_not(door: KeyAttempts) -> None:
    assert door.owner("ann's long key", "10.0.0.1") == "ann"
    assert door.owner("eve's long key", "10.0.0.1") is None


def test_who_guesses_does_not_learn_that_he_is_right(door: KeyAttempts, clock: Clock) -> None:
    for guess in range(3):
        assert door.owner(f"guess {guess}", "10.0.0.1") is None
    for key in ("another guess", "ann's long key"):
        with pytest.raises(ErrorReply) as refused:
            door.owner(key, "10.0.0.1")
        assert refused.value.status == 429 and refused.value.headers == {"Retry-After": "11"}
    assert door.owner("ann's long key", "10.0.0.2") == "ann", "another address has patience of its own"
    clock.now += 10
    assert door.owner("ann's long key", "10.0.0.1") == "ann"


def test_who_was_let_in_before_goes_on_beside_one_who_guesses(door: KeyAttempts) -> None:
    assert door.owner("ann's long key", "10.0.0.1") == "ann"
    for guess in range(3):
        door.owner(f"guess {guess}", "10.0.0.1")
    assert door.owner("ann's long key", "10.0.0.1") == "ann"
    with pytest.raises(ErrorReply):
        door.owner("bob's long key", "10.0.0.1")
