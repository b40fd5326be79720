"""What a client of a live session hears besides the session's own events."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr_service.errors import AsrError
from asr_service.request import TokenUse, Word
from asr_service.session.events import Ended, Event


@dataclass(frozen=True, slots=True)
class Opened:
    """The session runs; the first event."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something was ignored or adjusted. `code` is the name of a WarningCode without its prefix."""

    code: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The server closes in so many seconds."""

    in_s: float


@dataclass(frozen=True, slots=True)
class Refined:
    """The words of an utterance, some time after its final."""

    utterance: int
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """No event comes after it."""

    error: AsrError


@dataclass(slots=True)
class Totals:
    """What a session consumed, and where the time went, in seconds."""

    audio_ms: int = 0
    speech_ms: int = 0
    engine_calls: int = 0
    queue_s: float = 0.0
    recognize_s: float = 0.0
    first_text_s: float | None = None
    total_s: float = 0.0
    tokens: TokenUse | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The session ended well; no event comes after it."""

    ended: Ended
    totals: Totals = field(default_factory=Totals)


LiveEvent = Event | Opened | Noted | GoingAway | Refined | Failed | Closed
