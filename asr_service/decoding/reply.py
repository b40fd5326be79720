"""What the model says about one stretch, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from asr_service.languages import Language


class FinishReason(Enum):
    """Why a reply ended."""

    STOP = "stop"  # a stop token
    LENGTH = "length"  # the token budget
    REPETITION = "repetition"  # it would not have ended by itself


class Reply(Protocol):
    """Filled by the engine's loop with `accept`, read by everybody.

    `ids` are the tokens so far, a stop token not among them.
    """

    @property
    def ids(self) -> list[int]: ...

    @property
    def logprobs(self) -> Sequence[float]:
        """Natural log, one for each of `ids`."""
        ...

    @property
    def text(self) -> str:
        """The transcript so far, without the language header; never ends in the middle of a character."""
        ...

    @property
    def language(self) -> Language | None: ...

    @property
    def mean_logprob(self) -> float | None:
        """Of the text tokens; None without any."""
        ...

    def accept(self, token: int, logprob: float) -> FinishReason | None:
        """Takes the next token. Not None: it is over, and nothing may be accepted any more."""
        ...

    def allowed(self, ahead: Sequence[int] = ()) -> tuple[int, ...] | None:
        """The only tokens that may come next, or once the reply has taken those `ahead`; None: any."""
        ...

    def text_of(self, n_tokens: int) -> str:
        """The transcript that the first `n_tokens` of `ids` make."""
        ...
