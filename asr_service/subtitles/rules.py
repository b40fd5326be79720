"""How cues are cut, within the ranges of asr.v1.CueRules."""

from __future__ import annotations

from dataclasses import dataclass


class BadRule(ValueError):
    """A rule is out of range, or contradicts another. `field` is its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class CueRules:
    """See asr.v1.CueRules. Columns: a wide character takes two, a combining mark none. Raises BadRule."""

    max_line_chars: int = 42
    max_lines: int = 2
    max_duration_ms: int = 7000
    min_duration_ms: int = 833
    min_gap_ms: int = 83
    pause_threshold_ms: int = 500
    max_chars_per_second: float = 20.0

    def __post_init__(self) -> None:
        _within("max_line_chars", self.max_line_chars, 10, 100)
        _within("max_lines", self.max_lines, 1, 2)
        _within("max_duration_ms", self.max_duration_ms, 1000, 20_000)
        _within("min_duration_ms", self.min_duration_ms, 0, 5000)
        _within("min_gap_ms", self.min_gap_ms, 0, 1000)
        _within("pause_threshold_ms", self.pause_threshold_ms, 100, 5000)
        _within("max_chars_per_second", self.max_chars_per_second, 5.0, 60.0)
        if self.min_duration_ms > self.max_duration_ms:
            raise BadRule("min_duration_ms", f"{self.min_duration_ms} is above max_duration_ms ({self.max_duration_ms})")

    @property
    def room_ms(self) -> int:
        """What a cue of the least duration takes up."""
        return self.min_duration_ms + self.min_gap_ms


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise BadRule(name, f"{value:g} is outside {least:g} to {most:g}")
