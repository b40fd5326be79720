"""The seam between those who want something recognised and those who can.

An Engine owns its queue, its slots and its threads or processes. `recognize` may be awaited by any number of callers at once on
the event loop; cancelling the awaiting task cancels the work, waiting or running.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from asr_service.engine.listening import Listening
from asr_service.languages import Language
from asr_service.request import Hypothesis, Work


class Feature(Enum):
    """What engines differ in. Fields that need a feature the engine lacks are answered with a warning."""

    WORD_TIMES = "word_times"
    WORD_CONFIDENCE = "word_confidence"
    CONTEXT = "context"
    PHRASES = "phrases"
    NEGATIVE_PHRASES = "negative_phrases"  # phrases to avoid
    TEMPERATURE = "temperature"
    ALTERNATIVES = "alternatives"
    LANGUAGE_DETECTION = "language_detection"
    ALIGN = "align"  # gives times to the words of a text that is known


class EngineState(Enum):
    """Where an engine is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # cannot serve and will not recover by itself


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is. `reason` says, for people, why it was chosen."""

    name: str
    model: str
    device: str
    languages: tuple[Language, ...]
    features: frozenset[Feature]
    owner: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is. `expected_wait_s`: a new interactive Work would probably wait this long."""

    queued: int
    running: int
    slots: int
    expected_wait_s: float


class Engine(Protocol):
    """What a servicer submits to."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def state(self) -> EngineState: ...

    @property
    def load(self) -> EngineLoad: ...

    @property
    def calls(self) -> int:
        """How many Works were given to a recogniser since the start; silence must not move it."""
        ...

    async def start(self) -> None:
        """Returns when warm. Raises EngineFailed when it cannot be."""
        ...

    async def wait_failed(self) -> None:
        """Returns when the state has become FAILED, after a start that succeeded; else never."""
        ...

    async def stop(self) -> None:
        """Cancels what runs and frees everything. Idempotent."""
        ...

    async def recognize(self, work: Work) -> Hypothesis:
        """Queues the work and returns its result.

        Raises Overloaded (queue full), DeadlineExceeded (deadline passed before it started or while it ran),
        EngineRestarting (the recogniser crashed under it; safe to send again), Draining (the engine was stopped).
        """
        ...

    def listen(self) -> Listening:
        """For a stretch of speech that is still growing. Costs nothing before its first call."""
        ...

    def attend(self) -> AbstractContextManager[None]:
        """While inside, somebody may need the recogniser at any moment: it is not put to rest for being idle."""
        ...


class EngineFailed(Exception):
    """The engine cannot start; the message says what is missing."""
