"""Named places where a test, or an operator trying out a recovery, can make the real thing fail.

A spec is a comma-separated list of NAME=ACTION, with ACTION one of

    error          raise FailpointError
    crash          end this process at once, as a segmentation fault would
    hang           do not come back (for an hour)
    ACTION*N       only the first N times

Names are those at the call sites; docs/operations.md lists them. An unknown action stops the process at start.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

NAMES = (
    "decode.source",  # a decoder process has received a source
    "decode.block",  # a decoder process is about to send a block of samples
    "recognize.start",  # a recogniser process has received a segment
    "recognize.block",  # a recogniser process is in the middle of a segment
    "model.load",  # a model is about to be loaded
    "model.step",  # a model is about to run a step
)


class FailpointError(Exception):
    """Raised by the action `error`."""


@dataclass(slots=True)
class _Action:
    kind: str
    remaining: int | None


class Failpoints:
    """The failpoints of one process; with an empty spec `hit` does nothing."""

    def __init__(self, spec: str = "") -> None:
        self.spec = spec
        self._actions = dict(_parse(item) for item in spec.split(",") if item.strip())

    def hit(self, name: str) -> None:
        action = self._actions.get(name)
        if action is None or action.remaining == 0:
            return
        if action.remaining is not None:
            action.remaining -= 1
        if action.kind == "crash":
            os._exit(86)
        if action.kind == "hang":
            time.sleep(3600)
        raise FailpointError(f"failpoint {name}")


def _parse(item: str) -> tuple[str, _Action]:
    name, _, action = item.strip().partition("=")
    kind, _, count = action.partition("*")
    if name not in NAMES or kind not in ("error", "crash", "hang") or (count and not count.isdigit()):
        raise ValueError(f"failpoint {item.strip()!r}: want NAME=error|crash|hang[*N] with NAME one of {', '.join(NAMES)}")
    return name, _Action(kind, int(count) if count else None)
