"""When each character of a text was said.

The text is what is shown; the words are where its times come from, however they are written: their letters are found in the
text. Letters that are in no word (a number written as digits, a word that the recogniser gave no time for) share the time
between those that are; without any word, the letters share the segment's time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, pairwise

from asr_service.subtitles.cue import SubtitleWord
from asr_service.subtitles.script import columns, is_letter

Place = tuple[float, float]  # start and end, ms


def places_of(text: str, words: Sequence[SubtitleWord], start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """Start and end of every character of a text. Starts never go back; end >= start; nothing is before `start_ms` but what
    words say."""
    letters = [at for at, character in enumerate(text) if is_letter(character)]
    letters = letters or [at for at, character in enumerate(text) if character != " "]
    known = _found(_folded(text[at] for at in letters), words)
    placed = _filled([columns(text[at]) or 1 for at in letters], known, start_ms, max(start_ms, end_ms))
    places: list[tuple[int, int]] = []
    at_ms = round(placed[0][0]) if placed else start_ms
    spoken = dict(zip(letters, placed, strict=True))
    for at in range(len(text)):
        start, end = spoken.get(at, (at_ms, at_ms))
        places.append((round(start), max(round(start), round(end))))
        at_ms = max(at_ms, round(end))
    return places


def _found(letters: str, words: Sequence[SubtitleWord]) -> list[Place | None]:
    """Where each letter is by the word it belongs to."""
    said: list[Place] = []
    spelled = ""
    for text, (start, end) in zip((word.text for word in words), _in_order(words), strict=True):
        word = _folded(filter(is_letter, text))
        spelled += word
        said += [(start + (end - start) * k / len(word), start + (end - start) * (k + 1) / len(word)) for k in range(len(word))]
    if spelled == letters:
        return list(said)
    known: list[Place | None] = [None] * len(letters)
    for block in SequenceMatcher(None, spelled, letters, autojunk=False).get_matching_blocks():
        known[block.b : block.b + block.size] = said[block.a : block.a + block.size]
    return known


def _in_order(words: Sequence[SubtitleWord]) -> list[Place]:
    """A word that would begin before the one before it begins with it; one that the next interrupts ends there."""
    starts = list(accumulate((word.start_ms for word in words), max))
    nexts = [*starts[1:], math.inf][: len(starts)]
    return [(start, min(max(word.end_ms, start), after)) for word, start, after in zip(words, starts, nexts, strict=True)]


def _filled(weights: Sequence[int], known: Sequence[Place | None], start_ms: int, end_ms: int) -> list[Place]:
    """The unknown places, between their neighbours by weight."""
    placed: list[Place] = []
    at = 0
    while at < len(known):
        place = known[at]
        if place is not None:
            placed.append(place)
            at += 1
            continue
        end = next((k for k in range(at, len(known)) if known[k] is not None), len(known))
        left = placed[-1][1] if placed else float(start_ms)
        after = known[end] if end < len(known) else None
        right = max(left, after[0] if after is not None else float(end_ms))
        if not placed:
            left = min(left, right)
        bounds = [left + (right - left) * total / sum(weights[at:end]) for total in accumulate(weights[at:end], initial=0)]
        placed += pairwise(bounds)
        at = end
    return placed


def _folded(letters: Iterable[str]) -> str:
    """In lower case where that changes no count."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in letters)
