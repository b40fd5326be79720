import asyncio
from typing import Any

import pytest

from asr_service.errors import SlowConsumer
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.events import EventWriter
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadResponse, UploadProgress
from asr_service.request import Cursors


class Context:
    """A client that reads, or does not."""

    def __init__(self, *, reads: bool) -> None:
        self.written: list[TranscribeUploadResponse] = []
        self._reads = reads

    async def write(self, event: TranscribeUploadResponse) -> None:
        if not self._reads:
            await asyncio.Event().wait()
        self.written.append(event)


def writer(context: Any, patience_s: float = 60.0) -> EventWriter:
    return EventWriter(Call.of("TranscribeUpload", {"x-request-id": "mine"}, None), context, patience_s)


async def test_events_are_numbered_and_stamped() -> None:
    context = Context(reads=True)
    events = writer(context)

    for _ in range(3):
        await events.write(progress=UploadProgress(processed_ms=5))
        events.cursors = Cursors(9, 8, 7)

    assert [event.seq for event in context.written] == [0, 1, 2]
    assert {event.request_id for event in context.written} == {"mine"}
    assert [event.cursors.committed_ms for event in context.written] == [0, 7, 7]
    assert all(event.HasField("server_time") for event in context.written)


async def test_a_client_that_does_not_read_is_not_waited_for_without_end() -> None:
    with pytest.raises(SlowConsumer, match="the client read no events"):
        await writer(Context(reads=False), patience_s=0.01).write(progress=UploadProgress())
