"""Who is let into the server.

The queue bounds segments; this bounds requests, and the bytes of audio that they hold in memory. Whoever is inside holds a
Ticket and gives it back once. BATCH requests may use a part of the places only, so that a pile of uploads cannot lock out
somebody who waits for an answer.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from asr_service.errors import AudioTooLarge, Overloaded
from asr_service.request import Priority

_RETRY_AFTER_S = (1.0, 60.0)  # sooner is a busy loop, later is a guess


class Ticket:
    """A place inside the server. Leaving the `with` block, or `release`, gives it back; a second time does nothing."""

    def __init__(self, admission: Admission, n_bytes: int, priority: Priority) -> None:
        self._admission = admission
        self._n_bytes = n_bytes
        self._priority = priority
        self._is_held = True

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._admission._take_back(self._n_bytes, self._priority)  # noqa: SLF001  # the two halves of one noun

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Admission:
    """Counts the requests inside: at most `max_requests`, of which BATCH at most `batch_share` (at least one), together
    holding at most `max_bytes` of inline audio. Nobody is let in to wait for more than `max_wait_s` (0: for any time)."""

    def __init__(self, *, max_requests: int, max_bytes: int, batch_share: float = 0.75, max_wait_s: float = 0.0) -> None:
        if max_requests < 1 or max_bytes < 1 or not 0.0 < batch_share <= 1.0:
            raise ValueError(
                f"max_requests {max_requests} and max_bytes {max_bytes} must be at least 1, batch_share {batch_share} in (0, 1]"
            )
        if not max_wait_s >= 0.0:
            raise ValueError(f"max_wait_s is {max_wait_s}, want at least 0")
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.max_wait_s = max_wait_s
        self.max_batch_requests = max(1, int(max_requests * batch_share))
        self._inside = dict.fromkeys(Priority, 0)
        self._n_bytes_held = 0

    @property
    def inside(self) -> int:
        """Requests inside the server."""
        return sum(self._inside.values())

    @property
    def n_bytes_held(self) -> int:
        """Bytes of inline audio that the requests inside hold."""
        return self._n_bytes_held

    def admit(self, n_bytes: int = 0, *, priority: Priority = Priority.INTERACTIVE, expected_wait_s: float = 0.0) -> Ticket:
        """A place for a request that holds `n_bytes` of inline audio.

        `expected_wait_s`: the recogniser is so far behind. Raises Overloaded when that is too long or there is no place; its
        retry_after_s is `expected_wait_s` kept within 1..60 s. Raises AudioTooLarge when the audio could not fit into an empty
        server, because waiting would not help.
        """
        if n_bytes > self.max_bytes:
            raise AudioTooLarge(f"{n_bytes} bytes of audio in one request (limit {self.max_bytes})")
        if refusal := self._refusal(n_bytes, priority, expected_wait_s):
            least_s, most_s = _RETRY_AFTER_S
            raise Overloaded(refusal, retry_after_s=min(max(expected_wait_s, least_s), most_s))
        self._inside[priority] += 1
        self._n_bytes_held += n_bytes
        return Ticket(self, n_bytes, priority)

    def _refusal(self, n_bytes: int, priority: Priority, expected_wait_s: float) -> str | None:
        if self.inside >= self.max_requests:
            return f"{self.inside} requests are already inside (limit {self.max_requests})"
        n_batch = self._inside[Priority.BATCH]
        if priority is Priority.BATCH and n_batch >= self.max_batch_requests:
            return f"{n_batch} batch requests are already inside (limit {self.max_batch_requests})"
        if self._n_bytes_held + n_bytes > self.max_bytes:
            return f"{self._n_bytes_held} bytes of audio are already held, {n_bytes} more do not fit (limit {self.max_bytes})"
        if 0.0 < self.max_wait_s < expected_wait_s:
            return f"it would be {expected_wait_s:.0f} s until the recogniser is free (limit {self.max_wait_s:g} s)"
        return None

    def _take_back(self, n_bytes: int, priority: Priority) -> None:
        self._inside[priority] -= 1
        self._n_bytes_held -= n_bytes
