"""A StepModel without a network: the words follow from the length of the audio, as in engine/fake.py, one token for each.

It is strict where a network is not: it keeps a cache of places in which each fed token is written down, and before it gives a
token it looks whether the sequence's places hold just its own tokens in order, and whether all its windows were encoded. So a
plan that mixes sequences up, loses tokens in an eviction or reuses places too early fails loudly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from asr_service.decoding.draft import NO_DRAFT, Draft
from asr_service.decoding.reply import FinishReason
from asr_service.engine.fake import fake_words
from asr_service.engine.protocol import EngineFailed
from asr_service.engine.step_model import Capacity, Kept, Memory, Prepared, Round, StepOutOfMemory, Token
from asr_service.languages import ENGLISH, Language
from asr_service.request import SAMPLE_RATE, Samples, Work
from asr_service.scheduler.plan import EncodeItem, FeedItem, MoveItem, Station, StepPlan

_STOP = -1
_MUMBLED = 100_000  # more than there are words
_WINDOW_MS = 8000
_TOKENS_PER_S = 13
_N_HEADER = 6  # prompt tokens besides the audio's
_N_BEFORE = 2  # of those, the ones ahead of it
_WINDOW_TOKENS = _WINDOW_MS * _TOKENS_PER_S // 1000
_OPEN = -1  # a version that no closed window has


class FakeReply:
    """A Reply whose token n is the n-th of the words given, mumbled or not."""

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
    def logprobs(self) -> list[float]:
        return [-0.1] * len(self.ids)

    @property
    def mean_logprob(self) -> float | None:
        return -0.1 if self.ids else None

    def accept(self, token: int, logprob: float) -> FinishReason | None:
        if token == _STOP:
            return FinishReason.STOP
        self.ids.append(token)
        return FinishReason.LENGTH if len(self.ids) >= self._budget else None

    def allowed(self, _ahead: Sequence[int] = ()) -> tuple[int, ...] | None:
        return None

    def text_of(self, n_tokens: int) -> str:
        return " ".join(self._words[token % _MUMBLED] for token in self.ids[:n_tokens])


@dataclass(frozen=True, slots=True)
class FakePrepared:
    """A Work as the fake reads it."""

    uid: int  # the work's
    words: tuple[str, ...]
    n_windows: int
    n_audio_tokens: int
    max_new_tokens: int
    reply: FakeReply
    draft: Draft = NO_DRAFT
    mumbles: bool = False  # the last word's token is another than it is when more follows
    kept: Kept | None = None

    @property
    def versions(self) -> list[int]:
        """Of all windows."""
        closed = [station.version for station in self.kept.stations] if self.kept is not None else []
        return closed + [_OPEN] * (self.n_windows - len(closed))

    @property
    def n_prompt(self) -> int:
        return self.n_audio_tokens + _N_HEADER

    def token(self, index: int) -> int:
        """What the model says there, whatever stands before."""
        if index >= len(self.words):
            return _STOP
        return index + _MUMBLED * (self.mumbles and index == len(self.words) - 1)


class FakeMemory(Memory):
    """The look of a window depends on how loud the whole stretch is, always."""

    def __init__(self) -> None:
        super().__init__()
        self._samples: Samples = np.empty(0, np.float32)
        self._looks: list[tuple[int, float]] = []  # version and loudness of each closed window
        self._n_versions = 0

    def take(self, turn: Round, samples: Samples) -> tuple[Kept, bool]:
        """What is kept, and whether the stretch goes on from the last round."""
        n_common = min(len(samples), len(self._samples))
        is_same = bool((samples[:n_common] == self._samples[:n_common]).all())
        goes_on = is_same and 0 < len(self._samples) == n_common
        per_window = _WINDOW_MS * SAMPLE_RATE // 1000
        loudness = float(np.abs(samples).max(initial=0.0))
        del self._looks[n_common // per_window if is_same else 0 :]
        stale = [n for n, (_, then) in enumerate(self._looks) if then != loudness] if turn.is_exact else []
        for n in stale:
            self._looks[n] = self._new_look(loudness)
        while len(self._looks) < len(samples) // per_window:
            self._looks.append(self._new_look(loudness))
        self._samples = samples
        stations = [Station(_N_BEFORE + n * _WINDOW_TOKENS, look) for n, (look, _) in enumerate(self._looks, start=1)]
        return Kept(turn.stream, tuple(stations), len(stale)), goes_on

    def _new_look(self, loudness: float) -> tuple[int, float]:
        self._n_versions += 1
        return self._n_versions, loudness


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
    mumbles: bool = False  # the end of what is said sounds otherwise once more follows
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
    encoded: list[tuple[int, int]] = field(default_factory=list)  # work and window, as they were encoded
    moved: list[tuple[int, int]] = field(default_factory=list)  # work, and how many of its tokens were moved
    drafts: list[tuple[int, int, int]] = field(default_factory=list)  # work, drafted tokens fed, and how many were right
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
        self._windows: dict[int, list[bool]] = {}  # which are encoded, by uid
        self._streams: dict[int, set[int]] = {}  # versions whose windows are still there
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

    def remember(self) -> Memory:
        return FakeMemory()

    def prepare(self, work: Work, turn: Round | None = None) -> Prepared:
        if work.uid in self.controls.unpreparable:
            raise RuntimeError("the controls say so")
        words = tuple(word.text for word in fake_words(work.speech))
        n_windows = max(1, -(-work.speech.duration_ms // _WINDOW_MS))
        n_audio_tokens = max(1, work.speech.duration_ms * _TOKENS_PER_S // 1000)
        budget = len(words) + 1
        reply, draft, kept = FakeReply(words, budget), NO_DRAFT, None
        if turn is not None:
            assert isinstance(turn.memory, FakeMemory)  # noqa: S101  # narrows the type
            kept, goes_on = turn.memory.take(turn, work.speech.samples)
            draft = turn.draft.within(budget)
            if turn.memory.may_pin(turn, goes_on=goes_on):
                draft.pin(reply)
        return FakePrepared(work.uid, words, n_windows, n_audio_tokens, budget, reply, draft, self.controls.mumbles, kept)

    def open(self, uid: int, prepared: Prepared) -> None:
        assert isinstance(prepared, FakePrepared)  # noqa: S101  # narrows the type
        self._sequences[uid] = prepared
        self._windows[uid] = [False] * prepared.n_windows
        if prepared.kept is not None:
            known = self._streams.setdefault(prepared.kept.stream, set())
            known &= set(prepared.versions)
            self._windows[uid] = [version in known for version in prepared.versions]
        self.controls.open_works.add(prepared.uid)

    def n_encoded(self, uid: int) -> int:
        windows = self._windows[uid]
        return windows.index(False) if False in windows else len(windows)

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        amounts = {self._sequences[item.uid].uid: item.count for item in plan.feed}
        amounts |= {self._sequences[item.uid].uid: item.count for item in plan.encode}
        self.controls.plans.append(amounts)
        self.controls.pass_gate()
        for _ in range(self.controls.n_releases):
            time.sleep(0)
        self._fail_as_told(amounts)
        for moving in plan.moves:
            self._move(moving)
        for encoding in plan.encode:
            self._encode(encoding)
        for feeding in plan.feed:
            self._write(feeding)
        return {item.uid: self._next(item) for item in plan.feed if item.yields}

    def close(self, uid: int) -> None:
        if (prepared := self._sequences.pop(uid, None)) is not None:
            self.controls.open_works.discard(prepared.uid)

    def forget(self, stream: int) -> None:
        self._streams.pop(stream, None)

    def idle(self) -> bool:
        """Ruins the whole cache, as capturing graphs does."""
        _insist(not self._sequences, "a model with open sequences is not idle")
        self._owners[:] = self._tokens[:] = -2
        if self.controls.fail_idle:
            raise RuntimeError("the controls say so")
        self.controls.n_idle -= (was_left := self.controls.n_idle > 0)
        return was_left

    def unload(self) -> None:
        self.controls.n_unloads += self.controls.is_loaded
        self.controls.is_loaded = False
        self.controls.open_works.clear()
        self._sequences.clear()
        self._streams.clear()
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
        """The sequence's tokens, and the drafted ones of the item: its prompt's are told apart by their position and the
        look of their window, its own are shifted out of their way."""
        prepared = self._sequences[item.uid]
        drafted = prepared.draft.ids[len(prepared.reply.ids) :][: item.n_draft]
        looks = [look for look in prepared.versions for _ in range(_WINDOW_TOKENS)][: prepared.n_audio_tokens]
        looks = [_OPEN] * _N_BEFORE + looks + [_OPEN] * (prepared.n_prompt - _N_BEFORE - len(looks))
        prompt = (place + 10_000 * look if look != _OPEN else place for place, look in enumerate(looks))
        return [*prompt, *(token + 1_000_000 for token in (*prepared.reply.ids, *drafted))]

    def _encode(self, item: EncodeItem) -> None:
        prepared, windows = self._sequences[item.uid], self._windows[item.uid]
        _insist(all(windows[: item.first]), "windows are encoded in order")
        for window in range(item.first, item.first + item.count):
            if not windows[window]:
                self.controls.encoded.append((prepared.uid, window))
            windows[window] = True
            if prepared.kept is not None and prepared.versions[window] != _OPEN:
                self._streams[prepared.kept.stream].add(prepared.versions[window])

    def _move(self, item: MoveItem) -> None:
        prepared = self._sequences[item.uid]
        _insist(item.count <= item.extent.length, "a sequence stays in its places")
        _insist(
            item.start + item.count <= item.extent.start or item.extent.start + item.extent.length <= item.start,
            "what is moved is not written over",
        )
        self.controls.moved.append((prepared.uid, item.count))
        first = item.extent.start
        self._owners[first : first + item.count] = item.uid
        self._tokens[first : first + item.count] = self._tokens[item.start : item.start + item.count]

    def _write(self, item: FeedItem) -> None:
        _insist(all(self._windows[item.uid]), "a sequence is fed when its windows are encoded")
        _insist(item.start + item.count <= item.extent.length, "a sequence stays in its places")
        first = item.extent.start + item.start
        self._owners[first : first + item.count] = item.uid
        self._tokens[first : first + item.count] = self._known(item)[item.start : item.start + item.count]

    def _next(self, item: FeedItem) -> Token:
        known = self._known(item)
        places = slice(item.extent.start, item.extent.start + len(known))
        _insist(item.start + item.count == len(known), "the last known token is fed when the next one is asked for")
        _insist(item.count > item.n_draft, "a draft is fed behind a known token")
        _insist(bool((self._owners[places] == item.uid).all()), "the places are the sequence's own")
        _insist(self._tokens[places].tolist() == known, "the places hold the sequence's tokens")
        prepared = self._sequences[item.uid]
        n_said = len(prepared.reply.ids)
        _insist(n_said + item.n_draft <= len(prepared.draft.ids) or not item.n_draft, "nothing is fed that was not drafted")
        _insist(
            not item.n_draft or tuple(prepared.reply.ids) == prepared.draft.ids[:n_said], "a reply that left its draft has none"
        )
        said = [Token(prepared.token(n_said + ahead), -0.1) for ahead in range(item.n_draft + 1)]
        drafted = prepared.draft.ids[n_said : n_said + item.n_draft]
        n_right = next((n for n, id_ in enumerate(drafted) if said[n].id != id_), item.n_draft)
        if item.n_draft:
            self.controls.drafts.append((prepared.uid, item.n_draft, n_right))
        return replace(said[n_right], confirmed=tuple(said[:n_right]))


def _insist(is_so: bool, law: str) -> None:
    if not is_so:
        raise AssertionError(law)
