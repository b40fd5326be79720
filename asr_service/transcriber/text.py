"""Joining what was recognised piece by piece."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asr_service.languages import Language
from asr_service.request import SegmentResult


@dataclass(frozen=True, slots=True)
class Said:
    """What is kept of a recognised stretch until the end of its source: all but the samples."""

    text: str
    language: Language | None
    duration_ms: int
    queue_s: float = 0.0
    run_s: float = 0.0

    @classmethod
    def of(cls, result: SegmentResult) -> Said:
        hypothesis = result.hypothesis
        return cls(hypothesis.text, hypothesis.language, result.speech.duration_ms, hypothesis.queue_s, hypothesis.run_s)


_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "THAI", "LAO", "KHMER", "MYANMAR")


def join_texts(texts: Iterable[str]) -> str:
    """The pieces as one text: with a space between them where the script separates words by spaces, without one where it does
    not (Chinese, Japanese, Thai, ...). Empty pieces leave no trace."""
    joined = ""
    for text in (piece.strip() for piece in texts):
        if joined and text and not (is_unspaced(joined[-1]) or is_unspaced(text[0])):
            joined += " "
        joined += text
    return joined


def is_unspaced(character: str) -> bool:
    """Whether words next to this character are written without a space. Hangul is spaced."""
    return unicodedata.name(character, "").startswith(_UNSPACED)


def main_language(said: Sequence[Said]) -> Language | None:
    """The language of most of the speech, by duration; None when nothing was said."""
    spoken: Counter[Language] = Counter()
    for stretch in said:
        if stretch.language is not None and stretch.text:
            spoken[stretch.language] += stretch.duration_ms
    return spoken.most_common(1)[0][0] if spoken else None
