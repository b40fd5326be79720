"""A StepModel without a network: the words follow from the length of the audio, as in engine/fake.py, one token for each.

It is strict where a network is not: it keeps a cache of places in which each fed token is written down, and before it gives a
token it looks whether the sequence's places hold just its own tokens in order, and whether all its windows were encoded. So a
plan that mixes sequences up, loses tokens in an eviction or reuses places too early fails loudly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from asr_service.decoding.reply import FinishReason
from asr_service.engine.fake import fake_words
from asr_service.engine.protocol import EngineFailed
from asr_service.engine.step_model import Capacity, Prepared, StepOutOfMemory, Token
from asr_service.languages import ENGLISH, Language
from asr_service.request import Work
from asr_service.scheduler.plan import FeedItem, StepPlan

_STOP = -1
_WINDOW_MS = 8000
_TOKENS_PER_S = 13
_N_HEADER = 6  # prompt tokens besides the audio's


class FakeReply:
    """A Reply whose token n is the n-th of the words given."""

    def __init__(self, words: tuple[str, ...], budget: int) -> None:
        self.ids: list[int] = []
        self._words = words
        self._budget = budget

    @property
    def text(self) -> str:
        return self.text_of(len(self.ids))

    @property
    def language(self) -> Language | None:
        return ENGLISH

    @property
    def mean_logprob(self) -> float | None:
        return -0.1 if self.ids else None

    def accept(self, token: int, logprob: float) -> FinishReason | None:
        if token == _STOP:
            return FinishReason.STOP
        self.ids.append(token)
        return FinishReason.LENGTH if len(self.ids) >= self._budget else None

    def allowed(self) -> tuple[int, ...] | None:
        return None

    def text_of(self, n_tokens: int) -> str:
        return " ".join(self._words[token] for token in self.ids[:n_tokens])


@dataclass(frozen=True, slots=True)
class FakePrepared:
    """A Work as the fake reads it."""

    uid: int  # the work's
    words: tuple[str, ...]
    n_windows: int
    n_audio_tokens: int
    max_new_tokens: int
    reply: FakeReply

    @property
    def n_prompt(self) -> int:
        return self.n_audio_tokens + _N_HEADER

    def next_token(self) -> int:
        n_said = len(self.reply.ids)
        return n_said if n_said < len(self.words) else _STOP


@dataclass
class ModelControls:
    """What a test does to a fake model. Uids are those of works. Everything may be set while the model runs.

    `hold` makes each step wait until it is let through by `let_through`, or `release` lets all go. `n_held` counts the steps
    that wait now.
    """

    kv_tokens: int = 4096
    fail_loads: int = 0  # so many of the next loads fail
    fail_steps: int = 0  # so many of the next runs raise
    fail_shared_steps: int = 0  # so many of the next runs with several sequences raise
    is_broken: bool = False  # each run raises until the model is loaded again
    stays_broken: bool = False  # ... and then too
    faulty: set[int] = field(default_factory=set)  # runs with one of these raise
    unpreparable: set[int] = field(default_factory=set)
    max_rows: int | None = None  # runs with more sequences are out of memory
    hungry: set[int] = field(default_factory=set)  # runs with one of these are out of memory
    n_loads: int = 0
    n_unloads: int = 0
    n_idle: int = 0  # so many pieces of work are left for when it is idle
    fail_idle: bool = False  # those raise
    is_loaded: bool = False
    n_releases: int = 0  # each run lets the interpreter go so many times, as operations on tensors do
    n_held: int = 0
    open_works: set[int] = field(default_factory=set)
    plans: list[dict[int, int]] = field(default_factory=list)  # for each run the tokens fed and windows encoded, by work
    _n_allowed: int | None = None  # None: all
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def hold(self) -> None:
        with self._changed:
            self._n_allowed = 0

    def let_through(self, n: int = 1) -> None:
        with self._changed:
            self._n_allowed = (self._n_allowed or 0) + n
            self._changed.notify_all()

    def release(self) -> None:
        with self._changed:
            self._n_allowed = None
            self._changed.notify_all()

    def pass_gate(self) -> None:
        """On the engine's thread."""
        with self._changed:
            self.n_held += 1
            self._changed.wait_for(lambda: self._n_allowed is None or self._n_allowed > 0)
            self.n_held -= 1
            if self._n_allowed is not None:
                self._n_allowed -= 1


class FakeModel:
    """Implements StepModel as ModelControls say."""

    def __init__(self, controls: ModelControls | None = None) -> None:
        self.controls = controls or ModelControls()
        self._sequences: dict[int, FakePrepared] = {}
        self._windows: dict[int, int] = {}
        self._owners = np.empty(0, np.int64)  # (kv_tokens,) whose token is in this place
        self._tokens = np.empty(0, np.int64)  # (kv_tokens,) and which

    def load(self) -> Capacity:
        controls = self.controls
        controls.n_loads += 1
        if controls.fail_loads > 0:
            controls.fail_loads -= 1
            raise EngineFailed("the controls say so")
        controls.is_broken = controls.stays_broken
        controls.is_loaded = True
        self._owners = np.full(controls.kv_tokens, -1)
        self._tokens = np.full(controls.kv_tokens, -1)
        return Capacity(controls.kv_tokens)

    def prepare(self, work: Work) -> Prepared:
        if work.uid in self.controls.unpreparable:
            raise RuntimeError("the controls say so")
        words = tuple(word.text for word in fake_words(work.speech))
        n_windows = max(1, -(-work.speech.duration_ms // _WINDOW_MS))
        n_audio_tokens = max(1, work.speech.duration_ms * _TOKENS_PER_S // 1000)
        budget = len(words) + 1
        return FakePrepared(work.uid, words, n_windows, n_audio_tokens, budget, FakeReply(words, budget))

    def open(self, uid: int, prepared: Prepared) -> None:
        assert isinstance(prepared, FakePrepared)  # noqa: S101  # narrows the type
        self._sequences[uid] = prepared
        self._windows[uid] = 0
        self.controls.open_works.add(prepared.uid)

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        amounts = {self._sequences[item.uid].uid: item.count for item in plan.feed}
        amounts |= {self._sequences[item.uid].uid: item.count for item in plan.encode}
        self.controls.plans.append(amounts)
        self.controls.pass_gate()
        for _ in range(self.controls.n_releases):
            time.sleep(0)
        self._fail_as_told(amounts)
        for encoding in plan.encode:
            _insist(encoding.first <= self._windows[encoding.uid], "windows are encoded in order")
            self._windows[encoding.uid] = encoding.first + encoding.count
        for feeding in plan.feed:
            self._write(feeding)
        return {item.uid: self._next(item) for item in plan.feed if item.yields}

    def close(self, uid: int) -> None:
        if (prepared := self._sequences.pop(uid, None)) is not None:
            self.controls.open_works.discard(prepared.uid)

    def idle(self) -> bool:
        _insist(not self._sequences, "a model with open sequences is not idle")
        if self.controls.fail_idle:
            raise RuntimeError("the controls say so")
        self.controls.n_idle -= (was_left := self.controls.n_idle > 0)
        return was_left

    def unload(self) -> None:
        self.controls.n_unloads += self.controls.is_loaded
        self.controls.is_loaded = False
        self.controls.open_works.clear()
        self._sequences.clear()
        self._owners = self._tokens = np.empty(0, np.int64)

    def _fail_as_told(self, amounts: dict[int, int]) -> None:
        controls = self.controls
        if controls.is_broken or controls.stays_broken or controls.faulty & amounts.keys():
            raise RuntimeError("the controls say so")
        if controls.fail_steps > 0:
            controls.fail_steps -= 1
            raise RuntimeError("the controls say so")
        if controls.fail_shared_steps > 0 and len(amounts) > 1:
            controls.fail_shared_steps -= 1
            raise RuntimeError("the controls say so")
        if controls.hungry & amounts.keys() or (controls.max_rows is not None and len(amounts) > controls.max_rows):
            raise StepOutOfMemory(f"{len(amounts)} sequences are too many")

    def _known(self, item: FeedItem) -> list[int]:
        """The sequence's tokens: its prompt's are told apart by their position, its own are shifted out of their way."""
        prepared = self._sequences[item.uid]
        return [*range(prepared.n_prompt), *(token + 1_000_000 for token in prepared.reply.ids)]

    def _write(self, item: FeedItem) -> None:
        prepared = self._sequences[item.uid]
        _insist(self._windows[item.uid] == prepared.n_windows, "a sequence is fed when its windows are encoded")
        _insist(item.start + item.count <= item.extent.length, "a sequence stays in its places")
        first = item.extent.start + item.start
        self._owners[first : first + item.count] = item.uid
        self._tokens[first : first + item.count] = self._known(item)[item.start : item.start + item.count]

    def _next(self, item: FeedItem) -> Token:
        known = self._known(item)
        places = slice(item.extent.start, item.extent.start + len(known))
        _insist(item.start + item.count == len(known), "the last known token is fed when the next one is asked for")
        _insist(bool((self._owners[places] == item.uid).all()), "the places are the sequence's own")
        _insist(self._tokens[places].tolist() == known, "the places hold the sequence's tokens")
        return Token(self._sequences[item.uid].next_token(), -0.1)


def _insist(is_so: bool, law: str) -> None:
    if not is_so:
        raise AssertionError(law)
