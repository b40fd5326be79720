"""The nouns that travel between the layers: what is to be recognised, how urgently, and what came out.

Audio offsets are int milliseconds from the first sample of the source; samples are float32 mono at 16 kHz, full scale +-1.0;
clock times are float seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from asr_service.languages import Language

SAMPLE_RATE = 16_000
"""The one sample rate behind the decoder, in Hz."""

Samples = NDArray[np.float32]
"""Mono float32 at SAMPLE_RATE, shape (n,)."""


def samples_to_ms(n_samples: int) -> int:
    return n_samples * 1000 // SAMPLE_RATE


def ms_to_samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000


class Priority(Enum):
    """How urgent work is. The value is the class's allowance in seconds: work is served in order of arrival + allowance, so a
    class goes first without ever starving another (after that many seconds of waiting, older work goes before newer work of
    any class)."""

    REALTIME = 0.0  # the end of live speech
    GUESS = 0.5  # live speech while it goes on
    INTERACTIVE = 2.0
    BATCH = 15.0

    @property
    def allowance_s(self) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word. end_ms > start_ms. `confidence` is in 0..1, None where the engine has none. `interpolated`: its times
    were put between its neighbours' and not measured."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float | None = None
    interpolated: bool = False


@dataclass(frozen=True, slots=True)
class Phrase:
    """A word or phrase to prefer (weight > 0) or avoid (< 0)."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """What is wanted from the recogniser, checked and resolved."""

    language: Language | None = None  # None: detect
    candidate_languages: tuple[Language, ...] = ()
    context: str = ""
    phrases: tuple[Phrase, ...] = ()
    temperature: float = 0.0
    word_times: bool = False
    word_confidence: bool = False
    max_alternatives: int = 1


@dataclass(frozen=True, slots=True)
class Speech:
    """A stretch of audio that is recognised as a whole."""

    samples: Samples
    start_ms: int
    speech_probability: float | None = None  # mean over the stretch; None with detection off
    cut_in_speech: bool = False  # ended by the hard length limit, not by silence

    @property
    def duration_ms(self) -> int:
        return samples_to_ms(len(self.samples))

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.duration_ms

    def without_sound(self) -> Speech:
        """The same stretch of as many zeros, which take no memory."""
        return replace(self, samples=np.broadcast_to(np.zeros(1, np.float32), len(self.samples)))


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One stretch of speech waiting for a recogniser. `uid` is unique in the process; times are of the monotonic clock.

    `on_partial` is called on the event loop with the text so far, by engines that have it, until the answer is there. It must
    return at once. `known_text`: what is said is known, and only the times of its words are wanted; for engines with
    Feature.ALIGN.
    """

    uid: int
    speech: Speech
    options: RecognitionOptions
    priority: Priority
    arrival_s: float
    deadline_s: float | None = None
    on_partial: Callable[[str], None] | None = None
    known_text: str | None = None


class Quality(Enum):
    """What happened to a text besides plain recognition."""

    REPETITION_RECOVERED = "repetition_recovered"  # a runaway repetition was seen and the audio recognised again in pieces
    CONTEXT_LEAK_REMOVED = "context_leak_removed"  # the context came back as if it had been said
    TRUNCATED = "truncated"  # the text ends early: the token limit was reached


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Tokens that a recogniser with tokens read and wrote, all attempts together."""

    audio: int = 0
    prompt: int = 0  # text tokens of the prompt, context included
    output: int = 0

    def __add__(self, other: TokenUse) -> TokenUse:
        return TokenUse(self.audio + other.audio, self.prompt + other.prompt, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a recogniser made of one Work. Word times are offsets in the source (the stretch's start is added already).

    `tokens` is None for recognisers without tokens. `token_scores`: where in the text each token ends and the natural logarithm
    of its probability, where word confidence is wanted and all of the text came from one decoding.
    """

    text: str
    language: Language | None
    words: tuple[Word, ...] = ()
    confidence: float | None = None
    alternatives: tuple[tuple[str, float | None], ...] = ()
    queue_s: float = 0.0
    run_s: float = 0.0
    flags: frozenset[Quality] = frozenset()
    tokens: TokenUse | None = None
    token_scores: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A stretch of speech and what was said in it."""

    index: int
    speech: Speech
    hypothesis: Hypothesis


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far a source has come, in ms from its first sample: received >= decoded >= committed, each only grows."""

    received_ms: int = 0
    decoded_ms: int = 0
    committed_ms: int = 0


@dataclass(slots=True)
class WorkIds:
    """Gives out uids: 0, 1, 2, ..."""

    _next: int = field(default=0)

    def take(self) -> int:
        uid = self._next
        self._next += 1
        return uid
