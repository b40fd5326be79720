"""What is kept of recognised stretches until the end of their source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr_service.decoding.joining import most_spoken
from asr_service.languages import Language
from asr_service.request import SegmentResult, TokenUse


@dataclass(frozen=True, slots=True)
class Said:
    """All of a recognised stretch but the samples."""

    text: str
    language: Language | None
    duration_ms: int
    queue_s: float = 0.0
    run_s: float = 0.0
    tokens: TokenUse | None = None
    n_calls: int = 1  # of the recogniser

    @classmethod
    def of(cls, result: SegmentResult, n_calls: int = 1) -> Said:
        hypothesis = result.hypothesis
        return cls(
            hypothesis.text,
            hypothesis.language,
            result.speech.duration_ms,
            hypothesis.queue_s,
            hypothesis.run_s,
            hypothesis.tokens,
            n_calls,
        )


def main_language(said: Sequence[Said]) -> Language | None:
    """The language of most of the speech, by duration; None when nothing was said."""
    return most_spoken((stretch.language, stretch.duration_ms) for stretch in said if stretch.text)


def total_tokens(said: Sequence[Said]) -> TokenUse | None:
    """None when the recogniser counts none."""
    counted = [stretch.tokens for stretch in said if stretch.tokens is not None]
    return sum(counted, TokenUse()) if counted else None
