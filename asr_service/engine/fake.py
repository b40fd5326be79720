"""A recogniser without a model: the words follow from the length of the audio, so a test knows them beforehand.

One word for each full 400 ms ("one two three ... nine zero one ..."), at least one. Word n starts 400 ms after word n - 1 and
lasts 300 ms, all inside the stretch. The language is the one asked for, else the first candidate, else English. It does
everything an engine can do, so the whole contract can be tried out on it; context, phrases and temperature change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from asr_service.engine.protocol import EngineFailed, EngineInfo, Feature
from asr_service.engine.runner import RunnerAborted, RunnerCrashed, RunnerFailed
from asr_service.engine.slot import StartPolicy
from asr_service.engine.slots import SlotEngine, run_limit_s
from asr_service.languages import ENGLISH, LANGUAGES, Language
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Quality, RecognitionOptions, Samples, Speech, TokenUse, Word, Work

_DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero")
_WORD_STEP_MS = 400
_WORD_MS = 300

Accident = Literal["crash", "error", "hang"]

FAKE_INFO = EngineInfo(
    name="fake",
    model="fake",
    device="cpu",
    languages=LANGUAGES,
    features=frozenset(Feature) - {Feature.ALIGN},
    owner="asr-service",
    reason="ENGINE=fake: invents its text; for tests only",
)


def fake_words(speech: Speech) -> tuple[Word, ...]:
    """The words that the fake hears in this stretch."""
    n_words = max(1, speech.duration_ms // _WORD_STEP_MS)
    last_ms = max(speech.end_ms, speech.start_ms + 1)  # a word has a length even where the audio has none
    starts_ms = (speech.start_ms + index * _WORD_STEP_MS for index in range(n_words))
    return tuple(
        Word(_DIGITS[index % 10], start_ms, min(start_ms + _WORD_MS, last_ms), (99 - index % 10) / 100)
        for index, start_ms in enumerate(starts_ms)
    )


def fake_hypothesis(speech: Speech, options: RecognitionOptions) -> Hypothesis:
    """What the fake makes of this stretch, as a pure function."""
    words = fake_words(speech)
    confidence = sum(word.confidence or 0.0 for word in words) / len(words)
    text = " ".join(word.text for word in words)
    others = tuple((f"{text} {_DIGITS[-1 - n]}", confidence / (n + 2)) for n in range(max(0, options.max_alternatives - 1)))
    return Hypothesis(text, _language(options), words, confidence, others)


def _language(options: RecognitionOptions) -> Language:
    if options.language is not None:
        return options.language
    return options.candidate_languages[0] if options.candidate_languages else ENGLISH


class FakeControls:
    """What a test does to the runners of one fake engine.

    `hold` makes runs wait until `release`. `plan` lists what happens to the next runs, one item each; None is an ordinary run.
    `fail_starts` is how many of the next starts fail. `n_running` and `n_started` count; `wait_running` waits for the former.
    `tell` sends a partial text of a run. `flags` and `tokens` go into every answer. Each runner has `n_ears` ears, and `heard`
    lists the guesses through them, each as its uid and how many samples were new.
    """

    def __init__(
        self, s_per_audio_s: float = 0.0, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, *, n_ears: int = 0
    ) -> None:
        self.s_per_audio_s = s_per_audio_s
        self.n_ears = n_ears
        self.heard: list[tuple[int, int]] = []
        self.plan: list[Accident | None] = []
        self.fail_starts = 0
        self.n_started = 0
        self.n_stopped = 0
        self.n_running = 0
        self.served: list[int] = []  # uids in the order in which they were begun
        self.flags: frozenset[Quality] = frozenset()
        self.tokens: TokenUse | None = None
        self._listeners: dict[int, Callable[[str], None]] = {}  # of those that run, by uid
        self._sleep = sleep
        self._changed = asyncio.Condition()
        self._gate = asyncio.Event()
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    async def wait_running(self, n: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.n_running == n)

    def tell(self, text: str) -> None:
        """What runs and listens has this text so far."""
        for on_partial in self._listeners.values():
            on_partial(text)

    async def compute(self, work: Work) -> Hypothesis:
        """One run; raises what the plan says."""
        accident = self.plan.pop(0) if self.plan else None
        self.served.append(work.uid)
        if work.on_partial is not None:
            self._listeners[work.uid] = work.on_partial
        await self._count(1)
        try:
            if self.s_per_audio_s:
                await self._sleep(self.s_per_audio_s * work.speech.duration_ms / 1000)
            await self._gate.wait()
            if accident == "hang":
                await asyncio.Event().wait()
            if accident == "crash":
                raise RunnerCrashed("the plan says so")
            if accident == "error":
                raise RunnerFailed("the plan says so")
            return replace(fake_hypothesis(work.speech, work.options), flags=self.flags, tokens=self.tokens)
        finally:
            self._listeners.pop(work.uid, None)
            await self._count(-1)

    async def _count(self, change: int) -> None:
        self.n_running += change
        async with self._changed:
            self._changed.notify_all()


class FakeRunner:
    """A Runner that does what FakeControls say."""

    def __init__(self, controls: FakeControls) -> None:
        self._controls = controls
        self._alive = False
        self._is_aborted = False
        self._run: asyncio.Task[Hypothesis] | None = None
        self._ears: set[FakeEar] = set()  # those that are lent

    def lend_ear(self) -> FakeEar | None:
        if len(self._ears) >= self._controls.n_ears:
            return None
        ear = FakeEar(self, self._controls, self._ears.discard)
        self._ears.add(ear)
        return ear

    @property
    def alive(self) -> bool:
        return self._alive

    def die(self) -> None:
        """Dies while it has nothing to do."""
        self._alive = False

    async def start(self) -> None:
        self._controls.n_started += 1
        if self._controls.fail_starts > 0:
            self._controls.fail_starts -= 1
            raise EngineFailed("the controls say so")
        for ear in self._ears:
            ear.forget()
        self._alive = True

    async def run(self, work: Work) -> Hypothesis:
        self._run = asyncio.ensure_future(self._controls.compute(work))
        self._is_aborted = False
        try:
            return await self._run
        except RunnerCrashed:
            self._alive = False
            raise
        except asyncio.CancelledError as cancelled:
            if self._is_aborted:
                raise RunnerAborted("aborted") from cancelled
            raise
        finally:
            self._run.cancel()
            self._run = None

    async def abort(self) -> None:
        if self._run is not None:
            self._is_aborted = True
            self._run.cancel()

    async def stop(self) -> None:
        self._controls.n_stopped += self._alive
        self._alive = False


class FakeEar:
    """Hears what the fake hears in the whole stretch, and notes how much of it is new."""

    def __init__(self, runner: FakeRunner, controls: FakeControls, give_back: Callable[[FakeEar], None]) -> None:
        self._runner = runner
        self._controls = controls
        self._give_back = give_back
        self._samples: Samples = np.zeros(0, np.float32)

    @property
    def n_heard(self) -> int:
        return len(self._samples)

    async def hear(self, work: Work) -> Hypothesis:
        samples = work.speech.samples
        n_heard = self.n_heard if np.array_equal(samples[: self.n_heard], self._samples) else 0
        self._controls.heard.append((work.uid, len(samples) - n_heard))
        hypothesis = await self._runner.run(work)
        self._samples = samples
        return hypothesis

    def forget(self) -> None:
        self._samples = self._samples[:0]

    def close(self) -> None:
        self._give_back(self)


def fake_engine(
    metrics: Metrics,
    *,
    slots: int = 2,
    queue_capacity: int = 64,
    idle_timeout_s: float = 0.0,
    controls: FakeControls | None = None,
    policy: StartPolicy | None = None,
    run_limit_s: Callable[[Work], float] = run_limit_s,
) -> SlotEngine:
    """A SlotEngine on fakes. Without `controls` it answers at once."""
    shared = controls or FakeControls()
    return SlotEngine(
        FAKE_INFO,
        lambda _: FakeRunner(shared),
        slots=slots,
        queue_capacity=queue_capacity,
        idle_timeout_s=idle_timeout_s,
        metrics=metrics,
        policy=policy,
        run_limit_s=run_limit_s,
    )
