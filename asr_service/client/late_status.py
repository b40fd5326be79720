"""Makes a streaming call wait for the status the service really sent.

When the service ends a call while the client is still sending, the send fails a moment before the status is read. grpc.aio then
gives the call a status of its own making, INTERNAL "Internal error from Core", and drops the real one. There is no public way
round it, so this replaces the one method that makes the status up; the failed send then waits for the real status, which
arrives with the end of the call. Where grpc.aio looks different the call is left as it is.
"""

from __future__ import annotations

from typing import Any


class _LateStatus:
    """The transport's call object, except that it never invents a status."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def set_internal_error(self, details: str) -> None:
        """Does nothing: the status comes by itself."""


def await_late_status(call: Any) -> None:
    """To be used on a new grpc.aio call that sends a stream."""
    inner = getattr(call, "_cython_call", None)
    if inner is not None and hasattr(inner, "set_internal_error"):
        call._cython_call = _LateStatus(inner)  # noqa: SLF001 - see above
