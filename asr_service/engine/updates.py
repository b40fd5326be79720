"""What the engine's thread tells the event loop after a step, all in one."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr_service.decoding.reply import FinishReason
from asr_service.errors import AsrError


@dataclass(slots=True)
class Updates:
    """News by uid. Times are of the engine's clock, in seconds. A uid is in `finished` or `failed` once, and last there."""

    started_s: dict[int, float] = field(default_factory=dict)  # when it was given to the model (again after an eviction)
    partials: dict[int, str] = field(default_factory=dict)  # the text so far
    finished: dict[int, FinishReason] = field(default_factory=dict)  # its reply is complete and is not touched any more
    failed: dict[int, AsrError] = field(default_factory=dict)

    @property
    def are_empty(self) -> bool:
        return not (self.started_s or self.partials or self.finished or self.failed)


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and steps begin."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The thread is about to end; `failure` says why if it had to."""

    failure: str | None


News = Updates | Ready | Ended
