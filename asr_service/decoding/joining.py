"""Joining what was recognised piece by piece."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from asr_service.languages import Language

_UNSPACED = (
    *("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH"),
    *("THAI", "LAO", "KHMER", "MYANMAR"),
)
_FIRST_UNSPACED = "\u0e00"  # Thai; most text is below it and needs no look at its names
_CJK_PUNCTUATION = range(0x3000, 0x3040)  # brackets and marks with names of their own


def join_texts(texts: Iterable[str]) -> str:
    """The pieces as one text: with a space between them where the script separates words by spaces, without one where it does
    not (Chinese, Japanese, Thai, ...). Empty pieces leave no trace."""
    joined: list[str] = []
    last = ""
    for text in (piece.strip() for piece in texts):
        if last and text and _is_space_between(last, text):
            joined.append(" ")
        if text:
            joined.append(text)
            last = text
    return "".join(joined)


def _is_space_between(before: str, after: str) -> bool:
    last, first = before[-1], after[0]
    if is_unspaced(last) or is_unspaced(first):
        return False
    if last.isalnum() and first.isalnum():
        return True
    # Quotes and dashes belong to every script: what they enclose decides.
    last, first = _first_letter(reversed(before)), _first_letter(after)
    return not (is_unspaced(last) and is_unspaced(first))


def _first_letter(characters: Iterable[str]) -> str:
    return next((c for c in characters if c.isalnum() or is_unspaced(c)), " ")


@lru_cache(maxsize=4096)  # looking up a name is slow, and a text has few characters
def is_unspaced(character: str) -> bool:
    """Whether words next to this character are written without a space. Hangul is spaced."""
    if character < _FIRST_UNSPACED:
        return False
    return ord(character) in _CJK_PUNCTUATION or unicodedata.name(character, "").startswith(_UNSPACED)


def most_spoken(spoken: Iterable[tuple[Language | None, int]]) -> Language | None:
    """The language with the most milliseconds; None when there is none."""
    spoken_ms: Counter[Language] = Counter()
    for language, duration_ms in spoken:
        if language is not None:
            spoken_ms[language] += duration_ms
    return spoken_ms.most_common(1)[0][0] if spoken_ms else None
