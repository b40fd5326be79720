"""In which order the messages of a live session may come.

state      message                                      next
new        config, resume                               open
open       audio, silence, flush, patch, marker         open
open       finish                                       finished
any        anything else, an empty message included     MessageOrder, naming the message's index
"""

from __future__ import annotations

from enum import Enum

from asr_service.errors import MessageOrder, Violation


class MessageKind(Enum):
    """The arms of StreamTranscribeRequest; EMPTY: none of them."""

    CONFIG = "config"
    RESUME = "resume"
    AUDIO = "audio"
    SILENCE = "silence"
    FLUSH = "flush"
    PATCH = "patch"
    MARKER = "marker"
    FINISH = "finish"
    EMPTY = "empty"


_OPENING = (MessageKind.CONFIG, MessageKind.RESUME)


class Order:
    """Of one connection."""

    def __init__(self) -> None:
        self.n_messages = 0
        self._is_open = False
        self._is_finished = False

    @property
    def is_finished(self) -> bool:
        return self._is_finished

    def check(self, kind: MessageKind) -> None:
        """The next message. Raises MessageOrder."""
        index = self.n_messages
        self.n_messages += 1
        if kind is MessageKind.EMPTY:
            raise _breach(index, "", "nothing is set; expected one of config, audio, silence, flush, patch, marker, finish")
        if self._is_finished:
            raise _breach(index, kind.value, f"{kind.value} came after finish; expected nothing")
        if not self._is_open and kind not in _OPENING:
            raise _breach(index, kind.value, f"{kind.value} came first; expected config or resume")
        if self._is_open and kind in _OPENING:
            raise _breach(index, kind.value, f"{kind.value} came again; expected it as the first message only")
        self._is_open = True
        self._is_finished = kind is MessageKind.FINISH


def _breach(index: int, field: str, what: str) -> MessageOrder:
    path = f"messages[{index}].{field}" if field else f"messages[{index}]"
    return MessageOrder(f"message {index}: {what}", violations=(Violation(path, what),))
