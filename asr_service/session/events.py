"""What a live session says: to its client (events) and to the recogniser (wishes)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from asr_service.request import RecognitionOptions, SegmentResult, Speech, Word


class SpeechEventType(Enum):
    """What the endpointer noticed."""

    START = "start"
    STOP = "stop"
    EAGER_END = "eager_end"
    RESUMED = "resumed"
    END = "end"
    TIMEOUT = "timeout"


class EndReason(Enum):
    """Why a session ended well."""

    FINISHED = "finished"
    START_TIMEOUT = "start_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    GO_AWAY = "go_away"
    DEADLINE = "deadline"


# Events to the client


@dataclass(frozen=True, slots=True)
class SpeechNoticed:
    """`at_ms` is on the client's audio clock."""

    type: SpeechEventType
    at_ms: int
    utterance: int
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Partial:
    """Text of an utterance so far: committed + tail. `stable_chars` of the tail's start were in two rounds running."""

    utterance: int
    committed_delta: str
    committed: str
    tail: str
    stable_chars: int = 0
    stability: float | None = None
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Final:
    """The utterance is decided; `result.index` is its number. `revised`: its text does not start with the last committed."""

    result: SegmentResult
    revised: bool


@dataclass(frozen=True, slots=True)
class MarkerReached:
    """All audio before the marker is decided."""

    id: str


@dataclass(frozen=True, slots=True)
class Decided:
    """Audio before this sample (at 16 kHz) needs no replay any more: all of it is decided."""

    sample: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """The session falls behind or has caught up: how far, and how often partials come for now."""

    lag_ms: int
    interval_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """No event comes after it."""

    reason: EndReason


Event = SpeechNoticed | Partial | Final | MarkerReached | Decided | Throttled | Ended


# Wishes to the recogniser


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What was said so far? Answered with `guessed`, or `missed` when it failed. A later wish about the same utterance
    takes its place: then no answer is expected any more, and one that still comes is ignored by its `ticket`."""

    ticket: int
    utterance: int
    speech: Speech
    options: RecognitionOptions


@dataclass(frozen=True, slots=True, eq=False)
class Decide:
    """What was said in this stretch, as exactly as can be? Answered with `decided`.

    `is_early`: the utterance has probably ended here, but may go on after all; as for a Guess, a later wish takes its place.
    """

    ticket: int
    utterance: int
    speech: Speech
    options: RecognitionOptions
    is_early: bool


Wish = Guess | Decide
Output = Event | Wish
