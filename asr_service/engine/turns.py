"""How often Python's threads take turns.

An operation on tensors lets the interpreter go and needs it back when it is done. A thread that computes in Python meanwhile,
such as a busy event loop, keeps it for a whole switch interval, by default 5 ms, and a step is hundreds to thousands of
operations: the engine would stand still. With short turns it gets on, if slowly, even beside a loop that never rests (ADR 11).
"""

from __future__ import annotations

import sys

TURN_S = 0.0001  # the shortest of those tried; handing over takes a good part of it already


def take_short_turns() -> None:
    """From now on, and for the whole process. Longer turns than TURN_S are shortened, shorter ones stay."""
    sys.setswitchinterval(min(TURN_S, sys.getswitchinterval()))
