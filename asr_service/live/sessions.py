"""The live sessions of a service: who has a client, who waits for one to come back, and how all of them end.

state        -> next       when
attached     -> (gone)     it ended, or its client left, and it may not be resumed, or there is no room for another that waits
attached     -> detached   its client left, or it ended: nobody knows whether the last events arrived
detached     -> attached   a client resumed it
attached     -> attached   another client resumed it: the one before is told that it was taken
detached     -> (gone)     its window is over, it failed, or the service goes away
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field

from asr_service.errors import ResumeWindowGone
from asr_service.live.live_session import LiveParts, LiveSession
from asr_service.live.plan import Beginning, LivePlan
from asr_service.metrics import Metrics
from asr_service.session.events import EndReason

_DRAIN_SHARE = 0.7
"""Of the time until the service closes, after which sessions that are still open are ended, so that their finals come out."""


@dataclass(eq=False, slots=True)
class Held:
    """A session and its place in the service. `key` is the secret by which it is resumed."""

    live: LiveSession
    session_id: str
    key: str
    attached: asyncio.Event = field(default_factory=asyncio.Event)  # the present client's; set when it is taken from it
    expiry: asyncio.TimerHandle | None = None  # while detached


class LiveSessions:
    """`max_detached` sessions at most wait for their clients. `instance` tells this process from other replicas."""

    def __init__(self, parts: LiveParts, metrics: Metrics, *, max_detached: int) -> None:
        self.parts = parts
        self.instance = secrets.token_hex(8)
        self._metrics = metrics
        self._max_detached = max_detached
        self._held: dict[str, Held] = {}
        self._going_away_at_s: float | None = None

    @property
    def n_detached(self) -> int:
        return sum(held.expiry is not None and not held.live.is_over for held in self._held.values())

    @property
    def _ended(self) -> list[Held]:
        """Those that only wait to say so again, the oldest first. They hold nothing but their last events."""
        return [held for held in self._held.values() if held.expiry is not None and held.live.is_over]

    def open(self, plan: LivePlan, session_id: str, beginning: Beginning | None = None) -> Held:
        """A new session, attached."""
        held = Held(LiveSession(plan, self.parts, beginning), session_id, secrets.token_hex(16))
        self._held[held.key] = held
        self._show()
        if self._going_away_at_s is not None:
            held.live.going_away(max(0.0, self._going_away_at_s - asyncio.get_running_loop().time()))
        return held

    def resume(self, key: str, instance: str, after_seq: int) -> Held | None:
        """The session, attached to whoever asks; None when it was begun at another replica. Raises ResumeWindowGone."""
        held = self._held.get(key)
        if held is None:
            if instance == self.instance:
                self._metrics.live_resumes.labels("gone").inc()
                raise ResumeWindowGone("resume_token: the session has ended, or its window is over")
            self._metrics.live_resumes.labels("elsewhere").inc()
            return None
        held.live.resumed(after_seq)
        held.attached.set()
        held.attached = asyncio.Event()
        if held.expiry is not None:
            held.expiry.cancel()
            held.expiry = None
        self._metrics.live_resumes.labels("here").inc()
        self._show()
        return held

    def leave(self, held: Held, attached: asyncio.Event) -> None:
        """A client is gone, or its session has ended."""
        if held.attached is not attached:
            return  # taken by another
        window_s = held.live.plan.resume_window_ms / 1000
        may_wait = window_s > 0 and self._going_away_at_s is None and held.expiry is None
        if may_wait and (held.live.is_over or self.n_detached < self._max_detached):
            held.expiry = asyncio.get_running_loop().call_later(window_s, self._drop, held)
            if len(ended := self._ended) > self._max_detached:
                self._drop(ended[0])
        else:
            self._drop(held)
        self._show()

    def go_away(self, in_s: float) -> None:
        """The service closes in so many seconds: clients are told, and sessions still open later on are ended."""
        loop = asyncio.get_running_loop()
        self._going_away_at_s = loop.time() + in_s
        for held in list(self._held.values()):
            if held.expiry is not None:
                self._drop(held)
            else:
                held.live.going_away(in_s)
        loop.call_later(in_s * _DRAIN_SHARE, self._end_all)

    def _end_all(self) -> None:
        for held in list(self._held.values()):
            if not held.live.is_over:
                held.live.end(EndReason.GO_AWAY)

    def _drop(self, held: Held) -> None:
        if held.expiry is not None:
            held.expiry.cancel()
            held.expiry = None
        self._held.pop(held.key, None)
        held.live.abandon()
        self._show()

    def _show(self) -> None:
        n_detached = self.n_detached
        self._metrics.live_sessions.labels("attached").set(sum(held.expiry is None for held in self._held.values()))
        self._metrics.live_sessions.labels("detached").set(n_detached)
