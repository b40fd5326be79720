"""One place in an engine where work can run, and the patience with which its runner is started.

COLD ──start──> STARTING ──warm──> FREE <──────> BUSY
  ^                │ ^               │             │
  │                │ └──not alive────┼─────────────┘
  └──STOPPING <────┼─────────idle────┘
                   └──too many failures──> DEAD
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from asr_service.engine.ear import Ear, HearingRunner
from asr_service.engine.protocol import EngineFailed
from asr_service.engine.runner import Runner
from asr_service.request import Hypothesis

_log = logging.getLogger(__name__)


class SlotState(Enum):
    """Where a slot is; the drawing is at the top of the module."""

    COLD = "cold"
    STARTING = "starting"
    FREE = "free"
    BUSY = "busy"
    STOPPING = "stopping"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class StartPolicy:
    """How often and how patiently a runner is started. After `max_failures` in a row its slot is given up."""

    max_failures: int = 5
    first_backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    start_limit_s: float = 60.0
    stop_limit_s: float = 5.0

    def backoff_s(self, n_failures: int) -> float:
        """The pause after this many failures in a row (1, 2, ...)."""
        return min(self.max_backoff_s, self.first_backoff_s * 2.0 ** (n_failures - 1))


@dataclass(eq=False, slots=True)
class Slot:
    """A runner and what it is doing. Only SlotEngine moves `state`; `failure` is why the last start failed."""

    runner: Runner
    policy: StartPolicy
    state: SlotState = SlotState.COLD
    failure: str = ""
    n_lent: int = 0  # ears of the runner

    @property
    def may_hear(self) -> bool:
        """Will a guess that waits for this slot be served soon?"""
        return self.state in (SlotState.FREE, SlotState.BUSY, SlotState.STARTING)

    def lend(self) -> Lease | None:
        """An ear of the runner, if it has one to spare."""
        if not self.may_hear or not isinstance(self.runner, HearingRunner) or (ear := self.runner.lend_ear()) is None:
            return None
        self.n_lent += 1
        return Lease(self, ear)

    async def start(self, on_failure: Callable[[], None]) -> bool:
        """Starts the runner, again and again within the policy. True when it is warm, False when it is given up."""
        for n_failures in range(1, self.policy.max_failures + 1):
            try:
                async with asyncio.timeout(self.policy.start_limit_s):
                    await self.runner.start()
            except TimeoutError:
                self.failure = f"not warm after {self.policy.start_limit_s:g} s"
            except (EngineFailed, OSError) as error:
                self.failure = str(error)
            except Exception as error:  # whatever it is, the slot must not stay in STARTING and its work unanswered
                self.failure = f"{type(error).__name__}: {error}"
                _log.exception("unexpected error at the start of a recogniser")
            else:
                return True
            on_failure()
            _log.warning("recogniser start failed (%d of %d): %s", n_failures, self.policy.max_failures, self.failure)
            if n_failures < self.policy.max_failures:
                await asyncio.sleep(self.policy.backoff_s(n_failures))
        return False

    async def stop(self) -> None:
        """Stops the runner; one that cannot be stopped is logged and left."""
        try:
            async with asyncio.timeout(self.policy.stop_limit_s):
                await self.runner.stop()
        except Exception:
            _log.exception("recogniser did not stop within %g s", self.policy.stop_limit_s)

    async def abort(self, run: asyncio.Future[Hypothesis]) -> None:
        """Ends the run, first as the runner knows how, then by stopping the runner. `run` is done after it."""
        try:
            async with asyncio.timeout(self.policy.stop_limit_s):
                await self.runner.abort()
                await asyncio.wait({run})
        except Exception:
            _log.exception("recogniser did not end its run within %g s", self.policy.stop_limit_s)
            await self.stop()
            run.cancel()
            await asyncio.wait({run}, timeout=self.policy.stop_limit_s)


@dataclass(eq=False, slots=True)
class Lease:
    """An ear, lent to one stretch, and the slot that it is in."""

    slot: Slot
    ear: Ear
    _is_closed: bool = False

    @property
    def is_usable(self) -> bool:
        return self.slot.may_hear

    def close(self) -> None:
        """Gives the ear back. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self.slot.n_lent -= 1
            self.ear.close()
