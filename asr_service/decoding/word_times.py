"""From what an aligner says to times that can be used: end > start, one word after the other, all within the audio.

An aligner says a begin and an end for each word on its own. Mostly they are in order. Where they are not:

    they go back, or lie beyond the end      the fewest of them are dropped, and put evenly between their neighbours
    words without a length, one alone        it takes the room around it, up to the aligner's own resolution
    several on one spot (a plateau)          they take the room around it, by their numbers of letters
    there is no room                         the words around them give some of theirs

Whatever was put somewhere and not said by the aligner is flagged as interpolated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST_MS = 20
"""No word is shorter, where there is room."""
_MS_PER_LETTER = 70  # of words that have no length of their own


@dataclass(frozen=True, slots=True)
class Timed:
    """When a word was said, in ms. `interpolated`: put between its neighbours, not measured."""

    start_ms: int
    end_ms: int
    interpolated: bool = False


def settle_times(said_ms: Sequence[int], lengths: Sequence[int], duration_ms: int, step_ms: int) -> list[Timed]:
    """Strictly ordered times for each word.

    `said_ms`: begin and end of each word in turn, as the aligner says them. `lengths`: of the words, in letters. `step_ms`: the
    aligner's resolution. Where there are more words than milliseconds they go on behind the end.
    """
    if len(said_ms) != 2 * len(lengths):
        raise ValueError(f"{len(said_ms)} times for {len(lengths)} words")
    if not lengths:
        return []
    edges, was_put = _in_order(said_ms, duration_ms)
    words = [_Word(edges[2 * n], edges[2 * n + 1], was_put[2 * n] or was_put[2 * n + 1]) for n in range(len(lengths))]
    weights = [max(1, length) for length in lengths]
    _give_lengths(words, weights, float(duration_ms), step_ms)
    return _in_whole_ms(words)


@dataclass(slots=True)
class _Word:
    start: float
    end: float
    interpolated: bool

    @property
    def is_flat(self) -> bool:
        return self.end - self.start < LEAST_MS


def longest_rising(values: Sequence[int]) -> list[int]:
    """Indices of a longest subsequence that never falls."""
    tails: list[int] = []  # the smallest last value of a subsequence of each length
    last: list[int] = []  # and its index
    before = [-1] * len(values)
    for index, value in enumerate(values):
        length = bisect_right(tails, value)
        before[index] = last[length - 1] if length else -1
        tails[length:] = [value, *tails[length + 1 :]] if length < len(tails) else [value]
        last[length : length + 1] = [index]
    kept: list[int] = []
    index = last[-1] if last else -1
    while index >= 0:
        kept.append(index)
        index = before[index]
    return kept[::-1]


def _in_order(said_ms: Sequence[int], duration_ms: int) -> tuple[list[float], list[bool]]:
    """Times that never fall, and which of them were put there."""
    inside = [index for index, time in enumerate(said_ms) if 0 <= time <= duration_ms]
    kept = [inside[n] for n in longest_rising([said_ms[index] for index in inside])]
    known = [(-1, 0.0), *((index, float(said_ms[index])) for index in kept), (len(said_ms), float(duration_ms))]
    edges = [0.0] * len(said_ms)
    was_put = [True] * len(said_ms)
    for (left, left_ms), (right, right_ms) in pairwise(known):
        for index in range(left + 1, right):
            edges[index] = left_ms + (right_ms - left_ms) * (index - left) / (right - left)
    for index in kept:
        edges[index], was_put[index] = float(said_ms[index]), False
    return edges, was_put


def _give_lengths(words: list[_Word], weights: Sequence[int], duration: float, step_ms: int) -> None:
    first = 0
    while first < len(words):
        if not words[first].is_flat:
            first += 1
            continue
        last = first
        while last + 1 < len(words) and words[last + 1].is_flat:
            last += 1
        first = _spread(words, weights, first, last, duration, step_ms) + 1


def _spread(words: list[_Word], weights: Sequence[int], first: int, last: int, duration: float, step_ms: int) -> int:
    """Gives the flat words `first` to `last` a length; returns the last word that was moved."""
    is_alone = first == last
    low, high = _room(words, first, last, duration)
    while high - low < LEAST_MS * (last - first + 1) and (first > 0 or last + 1 < len(words)):
        first, last = max(0, first - 1), min(len(words) - 1, last + 1)
        low, high = _room(words, first, last, duration)
        is_alone = False
    total = sum(weights[first : last + 1])
    n_least = float(LEAST_MS * (last - first + 1))
    wanted = (
        max(n_least, float(step_ms))
        if is_alone
        else max(n_least, words[last].end - words[first].start, float(_MS_PER_LETTER * total))
    )
    width = min(wanted, high - low)
    middle = (words[first].start + words[last].end) / 2
    at = min(max(low, middle - width / 2), high - width)
    least = min(float(LEAST_MS), width / (last - first + 1))
    rest = width - least * (last - first + 1)
    for word, weight in zip(words[first : last + 1], weights[first : last + 1], strict=True):
        word.start, word.end = at, at + least + rest * weight / total
        word.interpolated = word.interpolated or not is_alone
        at = word.end
    return last


def _room(words: Sequence[_Word], first: int, last: int, duration: float) -> tuple[float, float]:
    low = words[first - 1].end if first else 0.0
    high = words[last + 1].start if last + 1 < len(words) else duration
    return low, max(low, high)


def _in_whole_ms(words: Sequence[_Word]) -> list[Timed]:
    timed: list[Timed] = []
    at = 0
    for word in words:
        start = max(at, round(word.start))
        at = max(start + 1, round(word.end))
        timed.append(Timed(start, at, word.interpolated))
    return timed
