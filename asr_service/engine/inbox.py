"""What the event loop asks of the engine's thread, and how that thread waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from asr_service.engine.step_model import Prepared
from asr_service.scheduler.plan import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A sequence to serve. `wants_partials`: its text is published whenever it changes. `is_extra`: as for StepScheduler."""

    sequence: Sequence
    prepared: Prepared
    wants_partials: bool
    is_extra: bool


@dataclass(frozen=True, slots=True)
class Departure:
    """Nobody waits for this sequence any more."""

    uid: int


@dataclass(frozen=True, slots=True)
class Forget:
    """There will be no more rounds of this stream, and all that were have arrived and departed."""

    stream: int


@dataclass(frozen=True, slots=True)
class Rest:
    """It has been quiet for long: give the model's memory back, unless something has come since."""


Message = Arrival | Departure | Forget | Rest


class Inbox:
    """Messages in order, put by any thread and taken by one. Once closed it wakes its reader and takes nothing more."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._is_closed = False
        self._changed = threading.Condition()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def put(self, message: Message) -> None:
        self._change(lambda: self._messages.append(message))

    def close(self) -> None:
        def do() -> None:
            self._is_closed = True

        self._change(do)

    def take(self) -> list[Message]:
        """Everything that has come, at once."""
        with self._changed:
            messages, self._messages = self._messages, []
            return messages

    def wait(self) -> None:
        """Returns when there is a message or it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._is_closed)

    def wait_closed(self, limit_s: float) -> bool:
        """Waits that long for the end; messages stay where they are. True when it is closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_closed, limit_s)

    def _change(self, do: Callable[[], None]) -> None:
        with self._changed:
            if not self._is_closed:
                do()
                self._changed.notify_all()
