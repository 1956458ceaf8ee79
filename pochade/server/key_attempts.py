"""Checks API keys and limits guessing."""

from collections import OrderedDict

from pochade.server.auth import Keys
from pochade.server.middleware import too_many
from pochade.server.rate_limit import MOST, TokenBuckets


class KeyAttempts:
    """keys: of this server. wrong: rate of wrong keys that an address may try."""

    def __init__(self, keys: Keys, wrong: TokenBuckets) -> None:
        self._keys, self._wrong = keys, wrong
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def owner(self, key: str, client: str) -> str | None:
        """The user who has this key; None for a wrong one. client: the address that it comes from.

        Raises ErrorReply while the address has tried too many wrong keys, even for a right one, so that a
        guesser does not learn of success. Users who logged in from there before are not affected.
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
