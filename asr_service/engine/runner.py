"""One recogniser that does one thing at a time, as SlotEngine sees it: a process, a thread, or a fake."""

from __future__ import annotations

from typing import Protocol

from asr_service.request import Hypothesis, Work


class Runner(Protocol):
    """Life: start, then run after run, then stop; start again is allowed after stop and after a crash.

    The caller sees to it that calls do not overlap, except `abort`, which is made for that.
    """

    @property
    def alive(self) -> bool:
        """Could `run` be called now? False before start, after stop and after a crash."""
        ...

    async def start(self) -> None:
        """Returns when warm. Raises EngineFailed or OSError when it cannot be; nothing is left behind then."""
        ...

    async def run(self, work: Work) -> Hypothesis:
        """Raises RunnerCrashed (not alive any more), RunnerFailed (this work only), RunnerAborted (after `abort`)."""
        ...

    async def abort(self) -> None:
        """Ends the current run, by force if need be, within a fraction of a second. The runner may not be alive after it.
        Without a run it does nothing."""
        ...

    async def stop(self) -> None:
        """Frees everything. Idempotent."""
        ...


class RunnerCrashed(Exception):
    """The recogniser died under the work; the message says how."""


class RunnerFailed(Exception):
    """The recogniser could not do this work and is as healthy as before."""


class RunnerAborted(Exception):
    """The run was ended by `abort`."""
