"""Events on their way to a client: numbered when they leave, joined while they wait, kept for a client that comes back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from asr_service.errors import ResumeWindowGone, SessionTaken
from asr_service.live.events import Closed, Failed, LiveEvent
from asr_service.request import Cursors
from asr_service.session.events import Decided, Partial, Throttled


@dataclass(frozen=True, slots=True)
class Letter:
    """An event as it leaves. `made_s`: when, of the wall clock."""

    seq: int
    event: LiveEvent
    cursors: Cursors
    made_s: float


@dataclass(slots=True)
class _Waiting:
    event: LiveEvent
    cursors: Cursors
    made_s: float


class Reader:
    """Who takes the events. There is one at a time: a later one takes its place."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def take(self) -> Letter:
        """The next event, when there is one. Raises SessionTaken when another reader has come."""
        return await self._outbox.take(self)


class Outbox:
    """One session's. `n_kept`: how many letters that left can be sent again. `on_take` is called after each `take`.

    While a partial waits, a later one of its utterance takes it in; a slow reader gets fewer of them and loses no text.
    """

    def __init__(self, *, n_kept: int = 0, first_seq: int = 0, on_take: Callable[[], None] = lambda: None) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._again: deque[Letter] = deque()  # to be sent once more
        self._kept: deque[Letter] = deque(maxlen=n_kept)
        self._seq = first_seq
        self._on_take = on_take
        self._news = asyncio.Event()
        self._is_over = False
        self._reader: Reader | None = None

    @property
    def n_waiting(self) -> int:
        return len(self._waiting) + len(self._again)

    @property
    def next_seq(self) -> int:
        """Of the next event that has not left yet."""
        return self._seq

    def put(self, event: LiveEvent, cursors: Cursors) -> None:
        """After the last event nothing is taken in."""
        if self._is_over:
            return
        self._is_over = isinstance(event, Closed | Failed)
        last = self._waiting[-1] if self._waiting else None
        if last is not None and (joined := _join(last.event, event)) is not None:
            last.event, last.cursors, last.made_s = joined, cursors, time.time()
        else:
            self._waiting.append(_Waiting(event, cursors, time.time()))
        self._news.set()

    def open(self) -> Reader:
        """For a new reader."""
        self._reader = Reader(self)
        self._news.set()
        return self._reader

    async def take(self, reader: Reader) -> Letter:
        """For Reader.take."""
        while reader is self._reader and not self._again and not self._waiting:
            self._news.clear()
            await self._news.wait()
        if reader is not self._reader:
            self._news.set()  # for the one that has come
            raise SessionTaken("the session goes on at another connection")
        if self._again:
            letter = self._again.popleft()
        else:
            waiting = self._waiting.popleft()
            letter = Letter(self._seq, waiting.event, waiting.cursors, waiting.made_s)
            self._seq += 1
        self._kept.append(letter)
        self._on_take()
        return letter

    def rewind(self, after_seq: int) -> None:
        """Everything after this event will be sent again, to a new reader. Raises ResumeWindowGone when not all is kept."""
        if after_seq >= self._seq:
            raise ResumeWindowGone(f"last_seq: {after_seq} was never sent (the last one is {self._seq - 1})")
        by_seq = {letter.seq: letter for letter in (*self._kept, *self._again)}
        letters = [by_seq[seq] for seq in sorted(by_seq)]
        oldest = letters[0].seq if letters else self._seq
        if after_seq + 1 < oldest:
            raise ResumeWindowGone(f"last_seq: events after {after_seq} are no longer kept (the oldest is {oldest})")
        if self._is_over and not self._waiting and after_seq + 1 == self._seq:
            raise ResumeWindowGone(f"last_seq: {after_seq} was the last event of the session; it has ended")
        self._reader = None
        self._kept.clear()
        self._kept.extend(letter for letter in letters if letter.seq <= after_seq)
        self._again = deque(letter for letter in letters if letter.seq > after_seq)
        self._news.set()


def _join(first: LiveEvent, second: LiveEvent) -> LiveEvent | None:
    """Two events that one can stand for, one right after the other."""
    if isinstance(first, Partial) and isinstance(second, Partial) and first.utterance == second.utterance:
        return replace(second, committed_delta=first.committed_delta + second.committed_delta)
    if isinstance(first, Decided | Throttled) and type(first) is type(second):
        return second
    return None
