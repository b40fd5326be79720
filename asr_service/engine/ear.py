"""What a runner keeps of one growing stretch, so that a guess costs as much as what is new and not as much as all of it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from asr_service.engine.runner import Runner
from asr_service.request import Hypothesis, Work


class Ear(Protocol):
    """A runner's memory of one growing stretch. It may be gone at any time, and is made anew then: it decides nothing."""

    @property
    def n_heard(self) -> int:
        """Samples of the stretch that need not be computed again."""
        ...

    async def hear(self, work: Work) -> Hypothesis:
        """What was said so far. Samples that do not continue those before are heard from the start.

        A call to the runner like Runner.run: it overlaps with no other, ends by Runner.abort, and raises the same.
        """
        ...

    def close(self) -> None:
        """The runner may lend it to another stretch. Idempotent."""
        ...


@runtime_checkable
class HearingRunner(Runner, Protocol):
    """A Runner with ears."""

    def lend_ear(self) -> Ear | None:
        """One that nobody has; None while all are lent. It may be lent while the runner is busy or starts."""
        ...
