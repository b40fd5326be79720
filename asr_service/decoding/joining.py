"""Joining what was recognised piece by piece."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from asr_service.languages import Language

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "THAI", "LAO", "KHMER", "MYANMAR")
_FIRST_UNSPACED = "\u0e00"  # Thai; most text is below it and needs no look at its names


def join_texts(texts: Iterable[str]) -> str:
    """The pieces as one text: with a space between them where the script separates words by spaces, without one where it does
    not (Chinese, Japanese, Thai, ...). Empty pieces leave no trace."""
    joined = ""
    for text in (piece.strip() for piece in texts):
        if joined and text and not (is_unspaced(joined[-1]) or is_unspaced(text[0])):
            joined += " "
        joined += text
    return joined


@lru_cache(maxsize=4096)  # looking up a name is slow, and a text has few characters
def is_unspaced(character: str) -> bool:
    """Whether words next to this character are written without a space. Hangul is spaced."""
    return character >= _FIRST_UNSPACED and unicodedata.name(character, "").startswith(_UNSPACED)


def most_spoken(spoken: Iterable[tuple[Language | None, int]]) -> Language | None:
    """The language with the most milliseconds; None when there is none."""
    spoken_ms: Counter[Language] = Counter()
    for language, duration_ms in spoken:
        if language is not None:
            spoken_ms[language] += duration_ms
    return spoken_ms.most_common(1)[0][0] if spoken_ms else None
