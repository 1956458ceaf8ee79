"""Whose key somebody shows, with little patience for those who guess."""

from collections import OrderedDict

from pochade.server.auth import Keys
from pochade.server.middleware import too_many
from pochade.server.rate_limit import MOST, Buckets


class KeyAttempts:
    """keys: of this server. wrong: how many wrong ones an address may show."""

    def __init__(self, keys: Keys, wrong: Buckets) -> None:
        self._keys, self._wrong = keys, wrong
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def owner(self, key: str, client: str) -> str | None:
        """Whose key it is; None for a wrong one. client: the address that it comes from.

        Raises Trouble while the address has shown too many wrong ones, also for a right one: whoever guesses
        must not learn that he has found it. Users who had shown theirs from there before go on.
        """
        owner = self._keys.owner(key)
        if owner is not None and (client, owner) in self._known:
            self._known.move_to_end((client, owner))
            return owner
        wait = self._wrong.lack_s(client)
        if wait:
            raise too_many(wait, "too many wrong keys")
        if owner is None:
            self._wrong.wait_s(client)
            return None
        self._known[client, owner] = None
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return owner
