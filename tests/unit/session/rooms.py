"""A session with a scripted recogniser and a clock that stands still unless it is moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr_service.audio.vad import FRAME_SAMPLES
from asr_service.request import Hypothesis, RecognitionOptions, Samples, Speech, ms_to_samples
from asr_service.session.events import Decide, Event, Final, Guess, Output, Partial, SpeechEventType, SpeechNoticed, Wish
from asr_service.session.session import Session
from asr_service.session.settings import EndpointMode, EndpointSettings, PartialSettings, SessionSettings

Text = Callable[[Speech], str]


def words_of(speech: Speech) -> str:
    """A word for each half second of the stretch, told apart by where they are."""
    n_words = len(speech.samples) // 8000
    return " ".join(f"w{speech.start_ms + 500 * index}" for index in range(n_words))


@dataclass
class Room:
    """Speech and silence in, by frames of the detector; what the session says is kept. `answer` decides each wish at once."""

    settings: SessionSettings = field(default_factory=SessionSettings)
    text: Text = words_of
    answers: bool = True

    def __post_init__(self) -> None:
        self.now_s = 100.0
        self.session = Session(self.settings, RecognitionOptions(), now_s=self.now_s)
        self.events: list[Event] = []
        self.wishes: list[Wish] = []
        self.waiting: dict[int, Wish] = {}  # by utterance

    def hear(self, pattern: str, ms: int = 32) -> Room:
        """A frame for each character: # speech, . silence, ? between the two."""
        probabilities = np.array([{"#": 0.9, ".": 0.01, "?": 0.4}[char] for char in pattern], np.float32)
        samples = np.full(len(pattern) * FRAME_SAMPLES, 0.1, np.float32)
        self.now_s += len(pattern) * ms / 1000
        self.take(self.session.feed(samples, probabilities, self.now_s))
        return self

    def feed(self, samples: Samples, probabilities: Sequence[float]) -> None:
        self.take(self.session.feed(samples, np.array(probabilities, np.float32), self.now_s))

    def take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Guess | Decide):
                self.wishes.append(output)
                self.waiting[output.utterance] = output
            else:
                self.events.append(output)
        while self.answers and self.waiting:
            self.answer(next(iter(self.waiting)))

    def answer(self, utterance: int, text: str | None = None) -> None:
        wish = self.waiting.pop(utterance)
        hypothesis = Hypothesis(self.text(wish.speech) if text is None else text, None)
        told = self.session.guessed if isinstance(wish, Guess) else self.session.decided
        self.take(told(wish.ticket, hypothesis, self.now_s))

    def miss(self, utterance: int) -> None:
        wish = self.waiting.pop(utterance)
        self.take(self.session.missed(wish.ticket, self.now_s))

    def flush(self) -> None:
        self.take(self.session.flush(self.now_s))

    def finish(self) -> Room:
        self.take(self.session.finish(self.now_s))
        return self

    @property
    def finals(self) -> list[Final]:
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def texts(self) -> list[str]:
        return [final.result.hypothesis.text for final in self.finals]

    @property
    def partials(self) -> list[Partial]:
        return [event for event in self.events if isinstance(event, Partial)]

    def noticed(self) -> list[SpeechEventType]:
        return [event.type for event in self.events if isinstance(event, SpeechNoticed)]


def frames(ms: int) -> int:
    return ms_to_samples(ms) // FRAME_SAMPLES


def settings(
    *, mode: EndpointMode = EndpointMode.SERVER_VAD, interval_ms: int = 500, enabled: bool = True, **endpointing: object
) -> SessionSettings:
    return SessionSettings(
        EndpointSettings(mode=mode, **endpointing),  # type: ignore[arg-type]  # a test's own spelling
        PartialSettings(enabled=enabled, interval_ms=interval_ms),
    )
