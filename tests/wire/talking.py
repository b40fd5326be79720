"""Live sessions over real gRPC: what a test says and hears."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import av
import grpc
import numpy as np

from asr_service.client.late_status import await_late_status
from asr_service.pb.asr.v1 import stream_pb2
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeResponse as Hear
from tests.wire.conftest import PCM, SAMPLE, Served


def sample_pcm() -> bytes:
    """The five seconds of the sample as raw 16-bit PCM at 16 kHz."""
    with av.open(str(SAMPLE)) as container:
        resampler = av.AudioResampler("s16", "mono", 16000)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        return b"".join(frame.to_ndarray().astype("<i2").tobytes() for frame in [*frames, *resampler.resample(None)])


def quiet(ms: int) -> bytes:
    return np.zeros(16 * ms, "<i2").tobytes()


def config(**fields: Any) -> Say:
    return Say(config=stream_pb2.SessionConfig(**({"format": PCM} | fields)))


def audio(data: bytes, first_sample: int | None = None) -> Say:
    return Say(audio=stream_pb2.Audio(data=data, first_sample=first_sample))


def audio_pieces(data: bytes, size: int = 3200) -> list[Say]:
    return [audio(data[at : at + size]) for at in range(0, len(data), size)]


def marker(id_: str) -> Say:
    return Say(marker=stream_pb2.Marker(id=id_))


def silence_of(ms: int) -> Say:
    return Say(silence=stream_pb2.Silence(duration_ms=ms))


FLUSH = Say(flush=stream_pb2.Flush())
FINISH = Say(finish=stream_pb2.Finish())


class Talk:
    """One call. `say` sends, `hear` reads on until an event of that kind came; all events are kept."""

    def __init__(self, service: Served, **call: Any) -> None:
        self.call: Any = service.stub.StreamTranscribe(**call)
        await_late_status(self.call)
        self.events: list[Hear] = []
        self.error: grpc.aio.AioRpcError | None = None

    async def say(self, *messages: Say) -> Talk:
        for message in messages:
            await self.call.write(message)
        return self

    async def hear(self, kind: str, n: int = 1) -> Hear:
        """The n-th event of this kind from here on. Raises AioRpcError, AssertionError when the session ends first."""
        while True:
            received = await self.call.read()
            assert received is not grpc.aio.EOF, f"the session ended before {kind}: {self.kinds}"
            event: Hear = received
            self.events.append(event)
            n -= event.WhichOneof("event") == kind
            if n == 0:
                return event

    async def rest(self) -> Talk:
        """Reads to the end."""
        try:
            while (event := await self.call.read()) is not grpc.aio.EOF:
                self.events.append(event)
            code = await self.call.code()  # a read can end before the status is known
            if code is not grpc.StatusCode.OK:
                trailing, details = await self.call.trailing_metadata(), await self.call.details()
                self.error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)
        except grpc.aio.AioRpcError as error:
            self.error = error
        return self

    @property
    def kinds(self) -> list[str | None]:
        return [event.WhichOneof("event") for event in self.events]

    def of(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for event in self.events if event.WhichOneof("event") == kind]

    @property
    def texts(self) -> list[str]:
        return [final.segment.text for final in self.of("final")]


async def said(messages: Iterable[Say]) -> AsyncIterator[Say]:
    for message in messages:
        yield message


async def talk(service: Served, messages: Iterable[Say], **call: Any) -> Talk:
    """A whole session: says everything, hears everything."""
    made = Talk.__new__(Talk)
    made.call, made.events, made.error = service.stub.StreamTranscribe(said(messages), **call), [], None
    await_late_status(made.call)
    return await made.rest()
