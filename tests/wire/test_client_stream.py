"""The client's live sessions against real services, over connections that are cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from asr_service.client import (
    SESSION_OVER,
    UNREACHABLE,
    AsrClient,
    AsrClientError,
    AudioEncoding,
    AudioFormat,
    ConfigPatch,
    Endpointing,
    EndpointMode,
    SessionConfig,
    SessionEndReason,
    StreamSession,
)
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeResponse as Hear
from tests.wire.conftest import PCM, Served, served, speech
from tests.wire.talking import quiet, sample_pcm
from tests.wire.test_stream import check

_WINDOW_MS = 60_000
_DATA = quiet(300) + sample_pcm() + quiet(900) + sample_pcm() + quiet(900)


class Proxy:
    """Passes bytes on to the targets in turn. Each connection is cut after its share of bytes, both ways counted together, or
    by `cut`; without shares left it stands. While it is deaf, what the targets say is lost."""

    def __init__(self, *targets: str) -> None:
        self.targets: Iterator[str] = cycle(targets)
        self.shares: list[int] = []
        self.n_connections = 0
        self.is_deaf = False
        self.address = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        host, _, port = next(self.targets).rpartition(":")
        share = [self.shares.pop(0)] if self.shares else None
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, sink, share, pair, is_answer=sink is writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        share: list[int] | None,
        pair: set[asyncio.StreamWriter],
        *,
        is_answer: bool,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(1000):
                if share is not None and (share := _less(share, len(data))) == [0]:
                    break
                if self.is_deaf and is_answer:
                    continue
                sink.write(data)
                await sink.drain()
        self._abort(pair)

    def cut(self) -> None:
        """All that stand."""
        self._abort(set(self._writers))

    def _abort(self, writers: set[asyncio.StreamWriter]) -> None:
        for writer in writers & self._writers:
            writer.transport.abort()
        self._writers -= writers

    async def close(self) -> None:
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _less(share: list[int], n_bytes: int) -> list[int]:
    share[0] = max(0, share[0] - n_bytes)
    return share


@asynccontextmanager
async def proxied(*targets: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(*targets)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()


def config(**fields: Any) -> SessionConfig:
    chosen: dict[str, Any] = {"format": PCM, "resume_window_ms": _WINDOW_MS} | fields
    return SessionConfig(**chosen)


async def pieces(data: bytes, size: int = 3200) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def hear(session: StreamSession) -> list[Hear]:
    return [event async for event in session]


async def whole(address: str, data: bytes = _DATA, **fields: Any) -> list[Hear]:
    """A session from beginning to end."""
    async with AsrClient(address) as client, client.stream_transcribe(config(**fields)) as session:
        session.feed(pieces(data))
        return await hear(session)


def kinds(events: list[Hear]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


def of(events: list[Hear], kind: str) -> list[Any]:
    return [getattr(event, kind) for event in events if event.WhichOneof("event") == kind]


def spans(events: list[Hear]) -> list[tuple[int, int, int, str]]:
    return [(f.utterance, f.segment.start_ms, f.segment.end_ms, f.segment.text) for f in of(events, "final")]


async def test_a_session_without_accidents(service: Served) -> None:
    events = await whole(service.running.address)

    check(events)
    assert [span[:3] for span in spans(events)] == [(0, 180, 6216), (1, 6900, 12936)]
    assert kinds(events)[-1] == "end"
    assert of(events, "end")[0].reason == SessionEndReason.SESSION_END_REASON_FINISHED


async def test_everything_can_be_said(service: Served) -> None:
    endpointing = Endpointing(mode=EndpointMode.ENDPOINT_MODE_EXTERNAL)
    async with (
        AsrClient(service.running.address) as client,
        client.stream_transcribe(config(endpointing=endpointing), session_id="mine") as session,
    ):
        await session.silence(300)
        await session.send(sample_pcm())
        await session.flush()
        await session.patch(ConfigPatch(language="de"))
        await session.send(sample_pcm())
        await session.flush()
        await session.mark("m")
        await session.finish()
        events = await hear(session)

    check(events)
    assert [final.segment.language.code for final in of(events, "final")] == ["en", "de"]
    assert [ack.id for ack in of(events, "marker_ack")] == ["m"]
    assert {event.session_id for event in events} == {"mine"}


async def test_a_container_is_heard_too(service: Served) -> None:
    async with AsrClient(service.running.address) as client, client.stream_transcribe() as session:
        session.feed(pieces(speech(), 1000))
        events = await hear(session)

    check(events)
    assert len(of(events, "final")) == 1


async def test_nothing_can_be_said_after_the_end(service: Served) -> None:
    async with AsrClient(service.running.address) as client, client.stream_transcribe(config()) as session:
        await session.finish()
        with pytest.raises(AsrClientError, match="after finish"):
            await session.send(b"\0\0")
        await hear(session)
        with pytest.raises(AsrClientError) as caught:
            await session.flush()

    assert caught.value.reason == SESSION_OVER


async def test_a_refusal_is_raised_to_whoever_reads(service: Served) -> None:
    with pytest.raises(AsrClientError) as caught:
        await whole(service.running.address, resume_window_ms=-1)

    assert caught.value.reason == "INVALID_VALUE"
    assert caught.value.violations[0].field == "messages[0].config.resume_window_ms"


async def test_a_source_that_fails_ends_the_session_with_its_own_exception(service: Served) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"\0\0"
        raise OSError("microphone gone")

    async with AsrClient(service.running.address) as client, client.stream_transcribe(config()) as session:
        session.feed(breaking())
        with pytest.raises(OSError, match="microphone gone"):
            await hear(session)


async def test_nobody_at_the_address_is_said_at_once() -> None:
    async with AsrClient("127.0.0.1:1") as client, client.stream_transcribe(config()) as session:
        with pytest.raises(AsrClientError) as caught:
            await hear(session)

    assert caught.value.reason == UNREACHABLE


async def test_without_a_window_a_lost_connection_is_an_error(service: Served) -> None:
    async with (
        proxied(service.running.address) as proxy,
        AsrClient(proxy.address) as client,
        client.stream_transcribe(config(resume_window_ms=0)) as session,
    ):
        await session.send(_DATA[:64_000])
        assert (await anext(session)).HasField("started")
        proxy.cut()
        with pytest.raises(AsrClientError) as caught:
            await hear(session)

    assert caught.value.status == "UNAVAILABLE"


@pytest.mark.parametrize("seed", range(8))
async def test_cut_anywhere_and_often_it_loses_no_word_and_repeats_none(service: Served, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    expected = await whole(service.running.address)

    async with proxied(service.running.address) as proxy:
        proxy.shares = [rng.choice((400, 3_000, 40_000, 200_000)) + rng.randrange(3_000) for _ in range(6)]
        events = await whole(proxy.address)

        assert proxy.n_connections > 1
    check(events)
    assert spans(events) == spans(expected)
    assert kinds(events).count("started") == 1
    assert kinds(events)[-1] == "end"


@pytest.mark.parametrize("seed", range(6))
async def test_replicas_take_turns_without_losing_or_repeating_a_word(service: Served, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    expected = await whole(service.running.address)

    async with served() as other, proxied(service.running.address, other.running.address) as proxy:
        proxy.shares = [rng.choice((3_000, 40_000, 200_000)) + rng.randrange(3_000) for _ in range(5)]
        events = await whole(proxy.address)

        assert proxy.n_connections > 1
    check(events)
    # A replica's detector has not heard what was before, and its frames lie elsewhere: the edges may move by a few.
    for found, wanted in zip(spans(events), spans(expected), strict=True):
        assert found[0] == wanted[0]
        assert found[1:3] == pytest.approx(wanted[1:3], abs=100)
        assert found[3] == wanted[3]
    assert kinds(events)[-1] == "end"


async def until(service: Served, state: str, n: int) -> None:
    """Waits until the server has noticed."""
    registry = service.running.metrics.registry
    async with asyncio.timeout(10):
        while registry.get_sample_value("asr_live_sessions", {"state": state}) != n:  # noqa: ASYNC110  # a gauge cannot be awaited
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
async def test_a_connection_lost_after_the_last_word_was_said(rate_hz: int) -> None:
    fmt = AudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=rate_hz)
    data = np.frombuffer(sample_pcm(), "<i2")
    data = data[np.arange(0, len(data) * rate_hz // 16_000) * 16_000 // rate_hz]
    async with served() as service, proxied(service.running.address) as proxy, AsrClient(proxy.address) as client:
        async with client.stream_transcribe(config(format=fmt)) as session:
            service.controls.hold()
            session.feed(pieces(data.tobytes()))
            await service.controls.wait_running(1)
            proxy.cut()
            await until(service, "detached", 1)
            service.controls.release()
            events = await hear(session)

        assert proxy.n_connections == 2
    check(events)
    assert len(of(events, "final")) == 1
    assert of(events, "end")[0].usage.audio_ms == pytest.approx(len(sample_pcm()) / 32, abs=5)


async def test_another_replica_gets_the_newest_settings_and_the_open_questions(service: Served) -> None:
    async with (
        served() as other,
        proxied(service.running.address, other.running.address) as proxy,
        AsrClient(proxy.address) as client,
        client.stream_transcribe(config()) as session,
    ):
        await session.patch(ConfigPatch(language="de"))
        for data in (sample_pcm(), quiet(1000)):
            await session.send(data)
        events = [event async for event in _up_to(session, "ack")]
        await session.mark("m")
        proxy.cut()
        await session.send(sample_pcm())
        await session.finish()
        events += await hear(session)

    check(events)
    assert [final.segment.language.code for final in of(events, "final")] == ["de", "de"]
    assert [ack.id for ack in of(events, "marker_ack")] == ["m"]
    assert kinds(events).count("started") == 2


async def _up_to(session: StreamSession, kind: str) -> AsyncIterator[Hear]:
    async for event in session:
        yield event
        if event.WhichOneof("event") == kind:
            return


async def test_a_server_that_closes_hands_over_to_the_next() -> None:
    async with (
        served(drain_timeout=1.0) as service,
        served() as other,
        proxied(service.running.address, other.running.address) as proxy,
        AsrClient(proxy.address) as client,
        client.stream_transcribe(config()) as session,
    ):
        await session.send(sample_pcm())
        events = [event async for event in _up_to(session, "partial")]
        await service.running.drain()
        await session.send(sample_pcm() + quiet(1000))
        await session.finish()
        events += await hear(session)

    assert kinds(events).count("go_away") == 1
    assert kinds(events).count("started") == 2
    assert kinds(events).count("end") == 1  # the first server's is kept back
    assert [final.utterance for final in of(events, "final")] == [0, 1]
    seqs = [event.seq for event in events]
    assert seqs == sorted(set(seqs))


async def test_a_session_that_the_server_no_longer_has_is_over() -> None:
    async with (
        served(max_resumable_sessions=0) as service,
        proxied(service.running.address) as proxy,
        AsrClient(proxy.address) as client,
        client.stream_transcribe(config()) as session,
    ):
        assert (await anext(session)).HasField("started")
        proxy.cut()
        with pytest.raises(AsrClientError) as caught:
            await hear(session)

    assert (caught.value.status, caught.value.reason) == ("OUT_OF_RANGE", "RESUME_WINDOW_GONE")


async def test_after_the_window_the_loss_is_an_error(service: Served) -> None:
    async with (
        proxied(service.running.address) as proxy,
        AsrClient(proxy.address) as client,
        client.stream_transcribe(config(resume_window_ms=300)) as session,
    ):
        assert (await anext(session)).HasField("started")
        proxy.targets = cycle(["127.0.0.1:1"])
        proxy.cut()
        with pytest.raises(AsrClientError) as caught:
            await hear(session)

    assert caught.value.reason == UNREACHABLE


async def test_a_client_that_sends_first_and_reads_later_is_served_too(service: Served) -> None:
    async with AsrClient(service.running.address) as client, client.stream_transcribe(config()) as session:
        await session.send(_DATA * 3)
        await session.finish()
        events = await hear(session)

    check(events)
    assert len(of(events, "final")) == 6
