"""Callers that call all the time, over gRPC, REST and live sessions, and remember what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc

from asr_service.client import AsrClient, SessionConfig
from asr_service.pb.asr.v1 import transcribe_pb2
from asr_service.pb.asr.v1.stream_pb2 import Endpointing
from tests.stack.front import TEXT, FrontStack, channel, stub_of
from tests.stack.processes import SAMPLE
from tests.wire.conftest import PCM
from tests.wire.talking import quiet, sample_pcm

AUDIO = SAMPLE.read_bytes()
PIECE_BYTES = 3200  # 100 ms
PIECE_S = 0.025  # four times as fast as it was spoken
RESUME_MS = 60_000
# The fake recogniser has a word for each 400 ms. This makes the utterances 6.2 s long, in the middle between 15 and 16 words:
# edges that move by a few frames at another replica (ADR 12) change no text, and a lost or repeated word does.
PADDING_MS = 450


@dataclass(frozen=True)
class Said:
    """One utterance's final. Times are of the session's audio."""

    utterance: int
    start_ms: int
    end_ms: int
    text: str


@dataclass
class Session:
    """What was heard in a live session, how many services said that they had begun, and whether one said it would close."""

    said: list[Said] = field(default_factory=list)
    n_started: int = 0
    is_sent_away: bool = False


@dataclass
class Load:
    """What came of it."""

    n_unary: int = 0
    sessions: list[Session] = field(default_factory=list)
    """Live sessions that have ended."""
    failures: list[str] = field(default_factory=list)
    """Unary calls that failed."""
    is_stopping: bool = False


@asynccontextmanager
async def load(front: FrontStack, *, n_grpc: int = 0, n_rest: int = 0, n_live: int = 0) -> AsyncIterator[Load]:
    """Calls while it is open. On leaving, calls that run are finished."""
    made = Load()
    callers: list[Coroutine[Any, Any, None]] = [
        *(_grpc(front, made) for _ in range(n_grpc)),
        *(_rest(front, made) for _ in range(n_rest)),
        *(_live(front, made) for _ in range(n_live)),
    ]
    tasks = [asyncio.create_task(caller) for caller in callers]
    try:
        yield made
        made.is_stopping = True
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _grpc(front: FrontStack, made: Load) -> None:
    async with channel(front.public) as connection:
        stub = stub_of(connection)
        while not made.is_stopping:
            call = stub.Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO), timeout=60)
            try:
                answer = await call
            except grpc.aio.AioRpcError as error:
                made.failures.append(f"gRPC: {error!r}")
                continue
            _take(made, "gRPC", answer.transcript.text)


async def _rest(front: FrontStack, made: Load) -> None:
    async with aiohttp.ClientSession(base_url=front.url) as session:
        while not made.is_stopping:
            form = aiohttp.FormData()
            form.add_field("response_format", "text")
            form.add_field("file", AUDIO, filename="sample.flac")
            try:
                async with session.post("/v1/audio/transcriptions", data=form) as answer:
                    _take(made, f"REST {answer.status}", (await answer.text()).strip())
            except aiohttp.ClientError as error:
                made.failures.append(f"REST: {error!r}")


def _take(made: Load, how: str, text: str) -> None:
    made.n_unary += 1
    if text != TEXT:
        made.failures.append(f"{how}: {text[:200]}")


async def _live(front: FrontStack, made: Load) -> None:
    async with AsrClient(front.public) as client:
        while not made.is_stopping:
            try:
                made.sessions.append(await live_session(client))
            except Exception as error:
                made.failures.append(f"live: {error!r}")


async def live_session(client: AsrClient) -> Session:
    """Three sentences."""
    made = Session()
    endpointing = Endpointing(prefix_padding_ms=PADDING_MS)
    config = SessionConfig(format=PCM, resume_window_ms=RESUME_MS, endpointing=endpointing)
    async with client.stream_transcribe(config) as session:
        session.feed(_speech())
        async for event in session:
            made.n_started += event.HasField("started")
            made.is_sent_away |= event.HasField("go_away")
            if event.HasField("final"):
                segment = event.final.segment
                made.said.append(Said(event.final.utterance, segment.start_ms, segment.end_ms, segment.text))
    return made


async def _speech() -> AsyncIterator[bytes]:
    data = (quiet(300) + sample_pcm() + quiet(900)) * 3
    for at in range(0, len(data), PIECE_BYTES):
        yield data[at : at + PIECE_BYTES]
        await asyncio.sleep(PIECE_S)
