"""How sure a recogniser with tokens is of each word: from the tokens that spell it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

TokenScores = tuple[tuple[int, float], ...]
"""Of each token of a text in turn: where in the text it ends, and the natural logarithm of its probability."""


def word_confidences(text: str, scores: TokenScores, words: Sequence[str]) -> list[float | None]:
    """0..1 for each of the words, which stand in the text in this order: the geometric mean over the tokens that spell a part
    of it. None for a word that no token spells."""
    found = []
    for start, end in _spans(text, words):
        own = [logprob for first, last, logprob in _stretches(scores) if first < end and start < last]
        found.append(math.exp(min(0.0, sum(own) / len(own))) if own else None)
    return found


def _spans(text: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    at = 0
    for word in words:
        start = text.find(word, at)
        if start < 0:
            yield at, at
            continue
        at = start + len(word)
        yield start, at


def _stretches(scores: TokenScores) -> Iterator[tuple[int, int, float]]:
    begin = 0
    for end, logprob in scores:
        if end > begin:
            yield begin, end, logprob
        begin = max(begin, end)
