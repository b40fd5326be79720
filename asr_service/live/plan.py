"""What a live session is to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr_service.audio.source import SourceFormat
from asr_service.request import RecognitionOptions
from asr_service.session.settings import SessionSettings


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A SessionConfig, checked. `deadline_s` is of the monotonic clock."""

    format: SourceFormat = field(default_factory=SourceFormat)
    options: RecognitionOptions = field(default_factory=RecognitionOptions)
    settings: SessionSettings = field(default_factory=SessionSettings)
    resume_window_ms: int = 0
    partial_on_deadline: bool = False
    deadline_s: float | None = None

    @property
    def rate_hz(self) -> int | None:
        """Of raw samples; None for a container."""
        return self.format.sample_rate_hz


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a session begins: at nothing, or where one that was begun at another replica is to go on. `first_sample` is at the
    source's own rate."""

    first_sample: int = 0
    first_utterance: int = 0
    first_seq: int = 0
    is_resumed: bool = False
