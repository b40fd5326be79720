"""Finds a reply that goes in circles, while it is being decoded.

The law:
* A loop is a unit of 1 to 32 tokens that the reply ends with, again and again.
* A loop is runaway when it is long (24 tokens or more, 4 turns or more) and the reply has more tokens than honest speech of the
  audio's length has (5 a second and 12). So whoever counts, spells or laughs in the time there is, is left alone.
* Nothing is deleted here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_PERIOD = 32
MIN_LOOP_TOKENS = 24
MIN_TURNS = 4
_HONEST_TOKENS_PER_S = 5
_HONEST_TOKENS = 12  # the language header, and short audio


def honest_tokens(duration_s: float) -> int:
    """More than this is suspicious, if it goes in circles."""
    return math.ceil(_HONEST_TOKENS_PER_S * duration_s) + _HONEST_TOKENS


@dataclass(frozen=True, slots=True)
class Loop:
    """The last tokens, from `start` on, are a unit of `period` tokens over and over; the last turn may be unfinished."""

    start: int
    period: int


class LoopDetector:
    """Told each token; looks back at most MAX_PERIOD tokens, and at none when the token is a new one."""

    def __init__(self) -> None:
        self._recent: list[int] = []  # the last MAX_PERIOD tokens, the newest first
        self._n = 0
        self._matches: dict[int, int] = {}  # by period: how many of the last tokens equal the one so many places before them

    def push(self, token: int) -> None:
        recent, matches = self._recent, self._matches
        if token in recent:
            periods = [period for period, earlier in enumerate(recent, start=1) if earlier == token]
            self._matches = {period: matches.get(period, 0) + 1 for period in periods}
        elif matches:
            self._matches = {}
        recent.insert(0, token)
        if len(recent) > MAX_PERIOD:
            recent.pop()
        self._n += 1

    @property
    def loop(self) -> Loop | None:
        """The loop that the tokens end with, if it is long; that of the shortest unit where there are several."""
        for period, n_matches in self._matches.items():  # in ascending order
            n_tokens = n_matches + period
            if n_tokens >= max(MIN_LOOP_TOKENS, MIN_TURNS * period):
                return Loop(self._n - n_tokens, period)
        return None


def find_loop(ids: Sequence[int]) -> Loop | None:
    """The loop that these tokens end with, if it is long."""
    detector = LoopDetector()
    for token in ids:
        detector.push(token)
    return detector.loop
