"""Where two recognitions meet that heard the same sound around a cut.

Speech that is longer than the limit is cut where people talk on. What comes after the cut is then heard from a little earlier
on, so every word around the cut is whole in at least one of the two recognitions; a word that is cut at an edge of either may
come out as anything. `reconcile` finds a place in the sound that both heard the same, and goes over from the one to the other
in the middle of it, so that no word is doubled and none is lost.

The law:
* Words with times agree where the same word lies at the same time in both. Of several the one nearest to the middle of the
  overlap counts, as far as can be from both edges.
* Texts agree where the end of the one, laid over the beginning of the other, is the same but for at most two tokens at each
  edge. A token is a word, or a character in scripts without spaces. There must be exactly one way to lay them: speech that
  repeats itself fits in several, and a wrong one doubles or loses words.
* If they do not agree there is no seam, and whoever asked recognises what comes after the cut without the overlap.
* A word that neither heard twice does not move.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from asr_service.decoding.joining import is_unspaced
from asr_service.request import Hypothesis

_SAME_MS = 150  # the middles of one word, heard twice
_EDGE_TOKENS = 2  # at each edge may be garbled
_MAX_TOKENS = 64  # around the seam; more are not said within an overlap
_WORD_WEIGHT, _CHARACTER_WEIGHT, _ENOUGH_WEIGHT = 3, 2, 6  # two words, or three characters, are not the same by chance


@dataclass(frozen=True, slots=True)
class Seam:
    """What remains of both. `at_ms` is where in the source the one goes over into the other; None without word times."""

    before: Hypothesis
    after: Hypothesis
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    """From character `start` of its text on; `key` is what makes it the same as another. `middle_ms` is None without times."""

    start: int
    key: str
    middle_ms: float | None = None

    @property
    def weight(self) -> int:
        return _CHARACTER_WEIGHT if len(self.key) == 1 and is_unspaced(self.key) else _WORD_WEIGHT


def reconcile(before: Hypothesis, after: Hypothesis, *, start_ms: int, cut_ms: int) -> Seam | None:
    """`before` heard the source up to `cut_ms`, `after` from `start_ms` on, which is earlier. None: they do not agree."""
    if not before.text.strip() and not after.text.strip():
        return Seam(before, after)
    left, right = _tokens(before), _tokens(after)
    if left is None or right is None or not left or not right:
        return None
    if before.words and after.words:
        return _by_times(before, after, left, right, start_ms, cut_ms)
    if before.words or after.words:
        return None
    found = _by_text(left[-_MAX_TOKENS:], right[:_MAX_TOKENS])
    if found is None:
        return None
    at_left, at_right = found
    return Seam(_head(before, left[-_MAX_TOKENS:][at_left].start), _tail(after, right[at_right].start))


def _by_times(
    before: Hypothesis, after: Hypothesis, left: list[_Token], right: list[_Token], start_ms: int, cut_ms: int
) -> Seam | None:
    twice_left = [i for i, token in enumerate(left) if _middle(token) >= start_ms - _SAME_MS]
    twice_right = [j for j, token in enumerate(right) if _middle(token) <= cut_ms + _SAME_MS]
    if not twice_left and not twice_right:
        return Seam(before, after, cut_ms)
    pairs = list(_pairs(left, right, twice_left, twice_right))
    if not pairs:
        return None
    centre_ms = (start_ms + cut_ms) / 2
    i, j = min(pairs, key=lambda pair: abs(_middle(right[pair[1]]) - centre_ms))
    at_ms = min(max(after.words[j].start_ms, start_ms), cut_ms)
    kept = before.words[:i]
    if kept and kept[-1].end_ms > at_ms > kept[-1].start_ms:
        kept = (*kept[:-1], replace(kept[-1], end_ms=at_ms))
    return Seam(
        replace(_head(before, left[i].start), words=kept),
        replace(_tail(after, right[j].start), words=after.words[j:]),
        at_ms,
    )


def _pairs(
    left: Sequence[_Token], right: Sequence[_Token], among_left: Sequence[int], among_right: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """The same word at the same time: each is the other's nearest of those that sound like it."""

    def nearest(token: _Token, others: Sequence[_Token], among: Sequence[int]) -> int | None:
        alike = [k for k in among if others[k].key == token.key and abs(_middle(others[k]) - _middle(token)) <= _SAME_MS]
        return min(alike, key=lambda k: abs(_middle(others[k]) - _middle(token)), default=None)

    for i in among_left:
        j = nearest(left[i], right, among_right)
        if j is not None and nearest(right[j], left, among_left) == i:
            yield i, j


def _by_text(left: Sequence[_Token], right: Sequence[_Token]) -> tuple[int, int] | None:
    """The tokens, one on each side, from which on the right one counts: the middle of the run that both have."""
    fits = [fit for n_shared in range(1, len(left) + _EDGE_TOKENS + 1) if (fit := _fit(left, right, n_shared)) is not None]
    if len(fits) != 1:
        return None
    first, length, shift = fits[0]
    at = first + length // 2
    return at + shift, at


def _fit(left: Sequence[_Token], right: Sequence[_Token], n_shared: int) -> tuple[int, int, int] | None:
    """With the first `n_shared` of the right tokens laid over the last of the left ones: where in the right ones the run begins
    that both have, its length, and what leads from an index there to one in the left ones. None if it does not fit."""
    shift = len(left) - n_shared
    same = [j + shift >= 0 and j < len(right) and left[j + shift].key == right[j].key for j in range(n_shared)]
    first = next((j for j, is_same in enumerate(same) if is_same and all(same[j : n_shared - _EDGE_TOKENS])), None)
    if first is None or first > _EDGE_TOKENS:
        return None
    length = next((k for k, is_same in enumerate(same[first:]) if not is_same), n_shared - first)
    if n_shared - first - length > _EDGE_TOKENS:
        return None
    weight = sum(token.weight for token in right[first : first + length])
    return (first, length, shift) if length > 1 and weight >= _ENOUGH_WEIGHT else None


def _tokens(hypothesis: Hypothesis) -> list[_Token] | None:
    """The words where there are words; None where they are not the text's."""
    if not hypothesis.words:
        return list(_text_tokens(hypothesis.text))
    tokens: list[_Token] = []
    at = 0
    for word in hypothesis.words:
        start = _find(hypothesis.text, word.text, at)
        if start is None:
            return None
        tokens.append(_Token(start, _key(word.text), (word.start_ms + word.end_ms) / 2))
        at = start + len(word.text)
    return tokens


def _find(text: str, word: str, at: int) -> int | None:
    """Where from `at` on this word stands, not as a part of another."""
    while word and (start := text.find(word, at)) >= 0:
        end = start + len(word)
        if not (_are_one(text[start - 1 : start], word[0]) or _are_one(word[-1], text[end : end + 1])):
            return start
        at = start + 1
    return None


def _are_one(before: str, after: str) -> bool:
    """Whether two characters, next to each other, are of one word."""
    return before.isalnum() and after.isalnum() and not (is_unspaced(before) or is_unspaced(after))


def _text_tokens(text: str) -> Iterator[_Token]:
    start: int | None = None
    for at, character in enumerate(text):
        if start is not None and (character.isspace() or is_unspaced(character)):
            yield from _token(text, start, at)
            start = None
        if is_unspaced(character):
            yield from _token(text, at, at + 1)
        elif start is None and not character.isspace():
            start = at
    if start is not None:
        yield from _token(text, start, len(text))


def _token(text: str, start: int, end: int) -> Iterator[_Token]:
    """Nothing for what is only punctuation."""
    key = _key(text[start:end])
    if key:
        yield _Token(start, key)


def _key(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if unicodedata.category(c)[0] not in "PS")


def _middle(token: _Token) -> float:
    return token.middle_ms or 0.0


def _head(hypothesis: Hypothesis, end: int) -> Hypothesis:
    return replace(hypothesis, text=hypothesis.text[:end].rstrip())


def _tail(hypothesis: Hypothesis, start: int) -> Hypothesis:
    return replace(hypothesis, text=hypothesis.text[start:])
