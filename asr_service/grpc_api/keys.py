"""API keys: who may call."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256

from asr_service.errors import Unauthenticated


class ApiKeys:
    """A set of keys, kept as digests and compared in constant time. An empty set lets everyone in."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    def check(self, metadata: Mapping[str, str]) -> None:
        """Raises Unauthenticated unless the metadata has a known key: `authorization: Bearer KEY` or `x-api-key: KEY`."""
        if not self._digests:
            return
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else ""
        given = given or metadata.get("x-api-key", "")
        if not given:
            raise Unauthenticated("an API key is needed: send `authorization: Bearer KEY` or `x-api-key: KEY`", missing=True)
        digest = _digest(given)
        # Every key is compared, so that the time says nothing about which one was close.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthenticated("the API key is not known here", missing=False)


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
