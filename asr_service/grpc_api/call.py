"""One RPC as its handler sees it: ids, arrival, deadline."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls and by when it must be answered. Times are of the monotonic clock, in seconds; no deadline: None."""

    rpc: str
    request_id: str
    trace_id: str
    arrival_s: float
    deadline_s: float | None
    session_id: str = ""  # as the client gave it

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Metadata that every answer carries."""
        return (("x-request-id", self.request_id),)

    @classmethod
    def of(cls, rpc: str, metadata: Mapping[str, str], time_remaining_s: float | None) -> Call:
        """A request id that cannot travel in a header (empty, too long, not printable ASCII) is replaced by one of our own."""
        given = metadata.get("x-request-id", "")
        trace = _TRACEPARENT.fullmatch(metadata.get("traceparent", ""))
        now_s = monotonic()
        return cls(
            rpc=rpc,
            request_id=given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}",
            trace_id=trace[1] if trace else "",
            arrival_s=now_s,
            deadline_s=None if time_remaining_s is None else now_s + time_remaining_s,
            session_id=metadata.get("x-session-id", ""),
        )


current_call: ContextVar[Call] = ContextVar("current_call")
"""Set by the interceptor for the task that serves the RPC."""
