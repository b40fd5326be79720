"""What live speech costs as a session gets longer, in seconds of the processor: ours beside the stock package's recipe.

whole       one session of each after the other, pair after pair; each chunk of 1 s is guessed, the end decided
walk        one long session of ours without a pause; now and then, in turn with it, one chunk of stock's at the same place.
            Stock's cost is smooth in the length of the audio, so all its chunks are taken from a parabola through those
segmented   a talk with pauses through detector, session and engine, as the service joins them, on the audio's clock
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr_service.audio.vad import FRAME_SAMPLES, SileroVad
from asr_service.engine.listening import Listening
from asr_service.request import SAMPLE_RATE, Hypothesis, Priority, RecognitionOptions, Samples
from asr_service.session.events import Decide, Final, Guess, Output
from asr_service.session.session import Session
from asr_service.session.settings import EndpointSettings, PartialSettings, SessionSettings
from measuring.listening_engine import ListeningEngine
from measuring.refeed import RefeedProcess
from measuring.scripted_model import PacedReplies

CHUNK_S = 1
_FEED_SAMPLES = SAMPLE_RATE // 10
_ANY_ID = 70  # a plain character in every vocabulary here


@dataclass
class Costs:
    """By the second of a session at which a chunk ends (guesses), or where the session would end there (decisions)."""

    guess_s: dict[int, float] = field(default_factory=dict)
    decide_s: dict[int, float] = field(default_factory=dict)

    def until(self, seconds: int) -> float:
        """Of a session of that length: all its guesses, and its decision where it was taken there."""
        return sum(cost for at, cost in self.guess_s.items() if at <= seconds) + self.decide_s.get(seconds, 0.0)


@dataclass(frozen=True)
class Parabola:
    """Costs of stock's chunks by the seconds of audio that they end at."""

    coefficients: tuple[float, ...]
    worst_miss: float  # of a sample, as a share of it

    @classmethod
    def through(cls, samples: Sequence[tuple[float, float]]) -> Parabola:
        at, cost = (np.array(column) for column in zip(*samples, strict=True))
        fitted = np.polyfit(at, cost, min(2, len(samples) - 1))
        return cls(tuple(fitted), float(np.max(np.abs(np.polyval(fitted, at) - cost) / cost)))

    def at(self, seconds: float) -> float:
        return float(np.polyval(self.coefficients, seconds))

    def until(self, seconds: int) -> float:
        return sum(self.at(second) for second in range(CHUNK_S, seconds + 1, CHUNK_S))


def chunk_ends(seconds: int) -> range:
    return range(CHUNK_S, seconds + 1, CHUNK_S)


async def whole_ours(engine: ListeningEngine, audio: Samples, seconds: int, chunk_s: int = CHUNK_S) -> float:
    """Seconds of the processor for a whole session without a pause."""
    began_s = time.process_time()
    listening = engine.engine.listen()
    for end in range(chunk_s, seconds + 1, chunk_s):
        await listening.guess(engine.work(audio[: end * SAMPLE_RATE]))
    await listening.decide(engine.work(audio[: seconds * SAMPLE_RATE], is_final=True))
    listening.close()
    return time.process_time() - began_s


def whole_stock(stock: RefeedProcess, replies: PacedReplies, audio: Samples, seconds: int) -> float:
    """Likewise. Its recipe has nothing to do at an end that falls on a chunk's."""
    spent_s, said = 0.0, [_ANY_ID]
    for n_chunk, end in enumerate(chunk_ends(seconds)):
        cost_s, said = stock.chunk(audio[: end * SAMPLE_RATE], replies.n_tokens(end), said, n_chunk)
        spent_s += cost_s
    return spent_s


@dataclass(frozen=True)
class Walk:
    """Both sides of one long session; stock's where it was sampled."""

    ours: Costs
    stock: tuple[tuple[float, float], ...]  # second, cost

    @property
    def fitted(self) -> Parabola:
        return Parabola.through(self.stock)


async def walk(
    engine: ListeningEngine, stock: RefeedProcess, audio: Samples, ends: Sequence[int], sampled: Sequence[int]
) -> Walk:
    """One session of ours up to the last of `ends`, with a decision at each of them; stock at the seconds `sampled`."""
    ours, taken, replies = Costs(), [], PacedReplies()
    listening = engine.engine.listen()
    for end in chunk_ends(max(ends)):
        began_s = time.process_time()
        await listening.guess(engine.work(audio[: end * SAMPLE_RATE]))
        ours.guess_s[end] = time.process_time() - began_s
        if end in sampled:
            said = [_ANY_ID] * replies.n_tokens(end - CHUNK_S)
            cost_s, _ = stock.chunk(audio[: end * SAMPLE_RATE], replies.n_tokens(end), said, end)
            taken.append((float(end), cost_s))
        if end in ends:
            began_s = time.process_time()
            await listening.decide(engine.work(audio[: end * SAMPLE_RATE], is_final=True))
            ours.decide_s[end] = time.process_time() - began_s
    listening.close()
    return Walk(ours, tuple(taken))


def sample_points(seconds: int, n: int) -> list[int]:
    """Seconds at which stock is sampled: the middles of equal parts."""
    return [round(seconds * (2 * index + 1) / (2 * n)) for index in range(n)]


@dataclass
class Segmented:
    """`spent_s` by the second of the talk in which it was spent, but for the detector. `longest_s` of its utterances."""

    spent_s: list[float]
    detector_s: float = 0.0
    n_finals: int = 0
    longest_s: float = 0.0

    @property
    def total_s(self) -> float:
        return sum(self.spent_s) + self.detector_s

    def quarter_s(self, n: int) -> float:
        """Mean cost of a second in quarter 0, 1, 2 or 3."""
        size = len(self.spent_s) // 4
        return sum(self.spent_s[n * size : (n + 1) * size]) / size


async def segmented(engine: ListeningEngine, audio: Samples) -> Segmented:
    """A talk as the service takes it: what the session wishes is answered before more is said."""
    settings = SessionSettings(EndpointSettings(), PartialSettings(interval_ms=1000 * CHUNK_S))
    made = Segmented([0.0] * (len(audio) // SAMPLE_RATE))
    began_s = time.process_time()
    stream = SileroVad().new_stream()
    probabilities = np.concatenate((stream.push(audio), stream.finish()))
    made.detector_s = time.process_time() - began_s
    session = Session(settings, RecognitionOptions(), now_s=0.0)
    wishes = _Wishes(engine, session, made)
    n_told = 0
    for first in range(0, len(audio), _FEED_SAMPLES):
        piece = audio[first : first + _FEED_SAMPLES]
        n_frames = (first + len(piece)) // FRAME_SAMPLES
        now_s = (first + len(piece)) / SAMPLE_RATE
        began_s = time.process_time()
        await wishes.answer(session.feed(piece, probabilities[n_told:n_frames], now_s), now_s)
        n_told = n_frames
        made.spent_s[min(len(made.spent_s) - 1, first // SAMPLE_RATE)] += time.process_time() - began_s
    began_s = time.process_time()
    await wishes.answer(session.finish(now_s), now_s)
    made.spent_s[-1] += time.process_time() - began_s
    return made


class _Wishes:
    """Answers what a session wishes, at once."""

    def __init__(self, engine: ListeningEngine, session: Session, made: Segmented) -> None:
        self._engine = engine
        self._session = session
        self._made = made
        self._listenings: dict[int, Listening] = {}

    async def answer(self, outputs: list[Output], now_s: float) -> None:
        waiting = deque(outputs)
        while waiting:
            output = waiting.popleft()
            if isinstance(output, Guess | Decide):
                hypothesis = await self._hear(output)
                settle = self._session.guessed if isinstance(output, Guess) else self._session.decided
                waiting.extend(settle(output.ticket, hypothesis, now_s))
            elif isinstance(output, Final):
                self._made.n_finals += 1
                self._made.longest_s = max(self._made.longest_s, output.result.speech.duration_ms / 1000)
                if (listening := self._listenings.pop(output.result.index, None)) is not None:
                    listening.close()

    async def _hear(self, wish: Guess | Decide) -> Hypothesis:
        if wish.utterance not in self._listenings:
            self._listenings[wish.utterance] = self._engine.engine.listen()
        listening = self._listenings[wish.utterance]
        if isinstance(wish, Guess):
            return await listening.guess(self._engine.speech_work(wish.speech, Priority.GUESS))
        return await listening.decide(self._engine.speech_work(wish.speech, Priority.REALTIME))


def slope_s(costs: Iterator[tuple[float, float]]) -> float:
    """How much more each chunk costs than the one a second before it, by least squares."""
    at, cost = (np.array(column) for column in zip(*costs, strict=True))
    return float(np.polyfit(at, cost, 1)[0])
