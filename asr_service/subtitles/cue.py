"""What goes in and what comes out: words with times, and cues."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SubtitleWord:
    """A word, with its place in the audio."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class SubtitleSegment:
    """A stretch of speech: its text, its place, its words where their times are known. `language`: a code (ISO 639), or ""."""

    text: str
    start_ms: int
    end_ms: int
    words: tuple[SubtitleWord, ...] = ()
    language: str = ""


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown from start_ms to end_ms. `language`: a code (ISO 639), or ""."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    language: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
