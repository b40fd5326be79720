"""The order of messages."""

from __future__ import annotations

import pytest

from asr_service.errors import MessageOrder
from asr_service.session.order import MessageKind as Kind
from asr_service.session.order import Order


def test_a_whole_session_is_in_order() -> None:
    order = Order()
    for kind in (Kind.CONFIG, Kind.AUDIO, Kind.SILENCE, Kind.FLUSH, Kind.PATCH, Kind.MARKER, Kind.AUDIO, Kind.FINISH):
        order.check(kind)

    assert order.n_messages == 8


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ([Kind.AUDIO], "message 0: audio came first"),
        ([Kind.CONFIG, Kind.CONFIG], "message 1: config came again"),
        ([Kind.RESUME, Kind.AUDIO, Kind.RESUME], "message 2: resume came again"),
        ([Kind.CONFIG, Kind.FINISH, Kind.AUDIO], "message 2: audio came after finish"),
        ([Kind.CONFIG, Kind.EMPTY], "message 1: nothing is set"),
        ([Kind.EMPTY], "message 0: nothing is set"),
    ],
)
def test_a_breach_names_the_message(kinds: list[Kind], message: str) -> None:
    order = Order()
    for kind in kinds[:-1]:
        order.check(kind)

    with pytest.raises(MessageOrder, match=message):
        order.check(kinds[-1])
