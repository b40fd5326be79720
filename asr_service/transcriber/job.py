"""A file to be transcribed, and the events of its transcription."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr_service.audio.source import SourceFormat
from asr_service.languages import Language
from asr_service.request import Cursors, Priority, RecognitionOptions, SegmentResult, TokenUse


@dataclass(frozen=True, slots=True)
class VoiceActivityOptions:
    """Where speech is looked for. With `enabled` False everything reaches the recogniser."""

    enabled: bool = True
    threshold: float = 0.5
    silence_ms: int = 500
    prefix_padding_ms: int = 300


@dataclass(frozen=True, slots=True)
class Job:
    """What is wanted of one source. Times are of the monotonic clock, in seconds. `partials`: also text not yet decided."""

    format: SourceFormat
    options: RecognitionOptions
    voice_activity: VoiceActivityOptions
    priority: Priority
    arrival_s: float
    deadline_s: float | None = None
    partials: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Further along. `total_ms` and `eta_s` are None until the end of the source was seen."""

    processed_ms: int
    received_bytes: int
    total_ms: int | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class Partial:
    """The text so far of the first segment that is not decided; replaces the one before it."""

    index: int
    text: str


@dataclass(slots=True)
class StageTimes:
    """Where the time went, in seconds. Stages overlap."""

    total_s: float = 0.0
    queue_s: float = 0.0
    decode_s: float = 0.0
    voice_activity_s: float = 0.0
    recognize_s: float = 0.0
    first_text_s: float | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """All is said. `tokens` is None for recognisers without tokens."""

    text: str
    language: Language | None
    duration_ms: int
    speech_ms: int
    segment_count: int
    engine_calls: int
    times: StageTimes = field(default_factory=StageTimes)
    tokens: TokenUse | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and how far the source had come by then. Segments come in order, each after its partials."""

    cursors: Cursors
    body: Progress | Partial | SegmentResult | Completed
