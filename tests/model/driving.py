"""Drives a StepModel by hand: plans as a scheduler makes them, in one fixed order or in any order that is allowed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from asr_service.decoding.reply import FinishReason
from asr_service.engine.step_model import Capacity, StepModel
from asr_service.languages import Language
from asr_service.request import Priority, RecognitionOptions, Samples, Speech, Work
from asr_service.scheduler.plan import EncodeItem, Extent, FeedItem, StepPlan


@dataclass
class PlainReply:
    """Takes tokens until a stop token or the limit. `only`: what may come next, by how many there are."""

    limit: int
    stop_ids: frozenset[int] = frozenset()
    only: dict[int, tuple[int, ...]] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    language: Language | None = None
    mean_logprob: float | None = None

    def accept(self, token: int, logprob: float) -> FinishReason | None:
        self.logprobs.append(logprob)
        if token in self.stop_ids:
            return FinishReason.STOP
        self.ids.append(token)
        return FinishReason.LENGTH if len(self.ids) == self.limit else None

    def text_of(self, n_tokens: int) -> str:
        return self.text[:0] if n_tokens else ""

    def allowed(self, ahead: Sequence[int] = ()) -> tuple[int, ...] | None:
        return self.only.get(len(self.ids) + len(ahead))


def make_work(samples: Samples, uid: int = 0, options: RecognitionOptions | None = None) -> Work:
    return Work(uid, Speech(samples, start_ms=0), options or RecognitionOptions(), Priority.INTERACTIVE, arrival_s=0.0)


@dataclass(eq=False)
class _Track:
    """Where one sequence is, as its scheduler would know it."""

    uid: int
    n_windows: int
    n_prompt: int
    n_places: int
    reply: PlainReply
    n_encoded: int = 0
    n_kv: int = 0
    extent: Extent | None = None
    is_over: bool = False

    @property
    def n_known(self) -> int:
        return self.n_prompt + len(self.reply.ids)


class Driver:
    """Runs Works on a loaded model and gives their token ids."""

    def __init__(self, model: StepModel, capacity: Capacity) -> None:
        self.model = model
        self._kv_tokens = capacity.kv_tokens

    def alone(self, work: Work) -> list[int]:
        """Encode all, feed all, then a token at a time."""
        return self.replies([work])[0].ids

    def replies(self, works: Sequence[Work]) -> list[PlainReply]:
        """All side by side: encode all, feed all, then a token of each at a time."""
        tracks = self._open(works)
        begin = 0
        for track in tracks:
            track.extent = Extent(begin, track.n_places)
            begin += track.n_places
        self.model.run(StepPlan(encode=tuple(EncodeItem(track.uid, 0, track.n_windows) for track in tracks)))
        while live := [track for track in tracks if not track.is_over]:
            self._step(live, StepPlan(feed=tuple(_feed(track, track.n_known - track.n_kv) for track in live)))
        return self._close(tracks)

    def in_any_order(self, works: Sequence[Work], seed: int, *, max_chunk: int = 60) -> list[PlainReply]:
        """Random steps: any sequences together, windows in any portions, prompts in any chunks, and now and then one that
        loses its places and comes back elsewhere."""
        rng = random.Random(seed)  # noqa: S311
        tracks = self._open(works)
        while live := [track for track in tracks if not track.is_over]:
            if rng.random() < 0.08:
                victim = rng.choice(live)
                victim.extent, victim.n_kv = None, 0
            chosen = rng.sample(live, rng.randint(1, len(live)))
            encode = tuple(_encode(track, rng) for track in chosen if track.n_encoded < track.n_windows)
            feed = tuple(self._feeds(chosen, tracks, encode, rng, max_chunk))
            self._step(live, StepPlan(encode, feed))
        return self._close(tracks)

    def _open(self, works: Sequence[Work]) -> list[_Track]:
        tracks = []
        for work in works:
            prepared = self.model.prepare(work)
            self.model.open(work.uid, prepared)
            assert isinstance(prepared.reply, PlainReply)
            n_places = prepared.n_prompt + prepared.max_new_tokens
            tracks.append(_Track(work.uid, prepared.n_windows, prepared.n_prompt, n_places, prepared.reply))
        return tracks

    def _close(self, tracks: Sequence[_Track]) -> list[PlainReply]:
        for track in tracks:
            self.model.close(track.uid)
        return [track.reply for track in tracks]

    def _feeds(
        self, chosen: list[_Track], tracks: list[_Track], encode: tuple[EncodeItem, ...], rng: random.Random, max_chunk: int
    ) -> Iterator[FeedItem]:
        busy = {item.uid for item in encode}
        for track in chosen:
            if track.uid in busy or track.n_encoded < track.n_windows:
                continue
            if track.extent is None:
                track.extent = self._find_places(track, tracks, rng)
            if track.extent is not None:
                left = track.n_known - track.n_kv
                yield _feed(track, left if left == 1 else rng.randint(1, min(left, max_chunk)))

    def _find_places(self, track: _Track, tracks: list[_Track], rng: random.Random) -> Extent | None:
        """Any free stretch, at a random place of the cache."""
        taken = [other.extent for other in tracks if other.extent is not None and not other.is_over]
        for _ in range(20):
            start = rng.randint(0, self._kv_tokens - track.n_places)
            if all(start + track.n_places <= e.start or e.start + e.length <= start for e in taken):
                return Extent(start, track.n_places)
        return None

    def _step(self, tracks: Sequence[_Track], plan: StepPlan) -> None:
        by_uid = {track.uid: track for track in tracks}
        tokens = self.model.run(plan)
        assert tokens.keys() == {item.uid for item in plan.feed if item.yields}
        for encoded in plan.encode:
            by_uid[encoded.uid].n_encoded += encoded.count
        for fed in plan.feed:
            track = by_uid[fed.uid]
            track.n_kv += fed.count
            if fed.yields:
                token = tokens[fed.uid]
                track.is_over = track.reply.accept(token.id, token.logprob) is not None


def _encode(track: _Track, rng: random.Random) -> EncodeItem:
    return EncodeItem(track.uid, track.n_encoded, rng.randint(1, track.n_windows - track.n_encoded))


def _feed(track: _Track, count: int) -> FeedItem:
    assert track.extent is not None
    return FeedItem(track.uid, track.n_kv, count, yields=track.n_kv + count == track.n_known, extent=track.extent)
