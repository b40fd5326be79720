import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.errors import ResumeWindowGone, SessionTaken, SlowConsumer
from asr_service.grpc_api import events as module
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.events import MAX_KEPT, MAX_WAITING, Letter, Reader, UploadOutbox
from asr_service.grpc_api.upload_call import UploadCall
from asr_service.pb.asr.v1.transcribe_pb2 import UploadCompleted, UploadProgress
from asr_service.pb.asr.v1.transcript_pb2 import Segment
from asr_service.request import Cursors


async def put_segments(outbox: UploadOutbox, n: int, first: int = 0) -> None:
    for index in range(first, first + n):
        await outbox.put(segment=Segment(index=index))


async def take(reader: Reader, n: int) -> list[Letter]:
    return [await reader.take() for _ in range(n)]


async def test_events_are_numbered_and_stamped() -> None:
    outbox = UploadOutbox(keeps=False)
    reader = outbox.open()
    for at in (0, 7, 9):
        outbox.cursors = Cursors(at, at, at)
        await outbox.put(segment=Segment())
    letters = await take(reader, 3)

    assert [letter.seq for letter in letters] == [1, 2, 3]  # `started` is 0
    assert [letter.cursors.committed_ms for letter in letters] == [0, 7, 9]
    assert all(letter.HasField("server_time") for letter in letters)


async def test_whoever_makes_events_waits_for_a_reader() -> None:
    outbox = UploadOutbox(keeps=False)
    reader = outbox.open()
    await put_segments(outbox, MAX_WAITING)
    late = asyncio.create_task(put_segments(outbox, 1, MAX_WAITING))
    await asyncio.sleep(0)
    assert not late.done()

    await reader.take()

    await late


async def test_progress_waits_until_everything_before_it_was_taken() -> None:
    outbox = UploadOutbox(keeps=False)
    reader = outbox.open()
    await put_segments(outbox, 2)
    late = asyncio.create_task(outbox.put(is_passing=True, progress=UploadProgress(processed_ms=5)))
    await reader.take()
    await asyncio.sleep(0)
    assert not late.done()

    await reader.take()

    assert (await reader.take()).progress.processed_ms == 5


async def test_nobody_keeps_progress_for_later() -> None:
    outbox = UploadOutbox(keeps=True)
    outbox.open()
    await put_segments(outbox, 1)
    waiting = asyncio.create_task(outbox.put(is_passing=True, progress=UploadProgress()))
    await asyncio.sleep(0)
    outbox.leave()
    await waiting
    await outbox.put(is_passing=True, progress=UploadProgress())
    outbox.put_last(completed=UploadCompleted())
    letters = await take(outbox.open(), 2)

    assert [letter.WhichOneof("event") for letter in letters] == ["segment", "completed"]
    assert [letter.seq for letter in letters] == [1, 2]


async def test_a_later_reader_takes_the_place_of_an_earlier_one() -> None:
    outbox = UploadOutbox(keeps=True)
    first = outbox.open()
    waiting = asyncio.create_task(first.take())
    await asyncio.sleep(0)
    second = outbox.open()
    await put_segments(outbox, 1)

    with pytest.raises(SessionTaken):
        await waiting
    assert (await second.take()).seq == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 12)), max_size=8))
def test_a_reader_that_comes_back_misses_nothing(steps: list[tuple[int, int, int]]) -> None:
    """Each step comes back after one of those that left, puts some events and takes some."""

    async def run() -> None:
        outbox = UploadOutbox(keeps=True)
        n_put = n_sent = 0
        for n_new, n_read, back_to in steps:
            n_taken = min(back_to, n_sent)
            reader = outbox.open(n_taken)
            await put_segments(outbox, n_new, n_put)
            n_put += n_new
            letters = await take(reader, min(n_read, n_put - n_taken))
            n_sent = max(n_sent, n_taken + len(letters))
            assert [letter.seq for letter in letters] == list(range(n_taken + 1, n_taken + 1 + len(letters)))
            assert [letter.segment.index for letter in letters] == [letter.seq - 1 for letter in letters]

    asyncio.run(run())


async def test_what_is_kept_is_bounded() -> None:
    outbox = UploadOutbox(keeps=True)
    reader = outbox.open()
    for index in range(MAX_KEPT + 5):
        await put_segments(outbox, 1, index)
        await reader.take()

    with pytest.raises(ResumeWindowGone, match="the oldest is 6"):
        outbox.open(4)
    assert (await outbox.open(5).take()).seq == 6


async def test_what_is_kept_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 3000)
    outbox = UploadOutbox(keeps=True)
    reader = outbox.open()
    for _ in range(9):
        await outbox.put(segment=Segment(text="x" * 1000))
        await reader.take()

    with pytest.raises(ResumeWindowGone):
        outbox.open(6)
    assert (await outbox.open(7).take()).seq == 8


async def test_nobody_has_what_has_not_left() -> None:
    outbox = UploadOutbox(keeps=True)
    await put_segments(outbox, 3)
    await outbox.open().take()

    with pytest.raises(ResumeWindowGone, match=r"2 was never sent \(the last one is 1\)"):
        outbox.open(2)


async def test_without_a_key_nothing_is_kept() -> None:
    outbox = UploadOutbox(keeps=False)
    reader = outbox.open()
    await put_segments(outbox, 1)
    await reader.take()

    with pytest.raises(ResumeWindowGone):
        outbox.open(0)


class Context:
    """A client that reads, or does not."""

    def __init__(self, *, reads: bool) -> None:
        self.written: list[Letter] = []
        self._reads = reads

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def write(self, event: Letter) -> None:
        if not self._reads:
            await asyncio.Event().wait()
        self.written.append(event)


def upload_call(context: Any, patience_s: float) -> UploadCall:
    class Settings:
        upload_idle_timeout = patience_s

    class Service:
        settings = Settings()

    nothing: Any = None
    service: Any = Service()
    return UploadCall(service, nothing, Call.of("TranscribeUpload", {"x-request-id": "mine"}, None), context)


async def test_an_event_is_of_the_call_that_brings_it() -> None:
    context = Context(reads=True)
    await upload_call(context, 60.0)._write(Letter(seq=5, request_id="before"))

    assert [(event.seq, event.request_id) for event in context.written] == [(5, "mine")]


async def test_a_client_that_does_not_read_is_not_waited_for_without_end() -> None:
    with pytest.raises(SlowConsumer, match="the client read no events"):
        await upload_call(Context(reads=False), patience_s=0.01)._write(Letter())
