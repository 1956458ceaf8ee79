"""Checks API keys and limits guessing."""

from collections import OrderedDict

from pochade.server.auth import Keys
from pochade.server.middleware import too_many
from pochade.server.rate_limit import MAX_NAMES, TokenBuckets


class KeyAttempts:
    """Checks keys. keys: of this server. wrong: the allowed rate of wrong keys per address."""

    def __init__(self, keys: Keys, wrong: TokenBuckets) -> None:
        self._keys, self._wrong = keys, wrong
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def owner(self, key: str, client: str) -> str | None:
        """Return the user with this key; None for a wrong one. client: the address.

        Raises ErrorReply after too many wrong keys from the address, even for a right key, so that success
        is not revealed. Users who logged in from there before are not affected.
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
        if len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)
        return owner
