"""Subtitles at the client: bytes go out and events come in at the same time, then the file is complete.

Writing waits while the service takes nothing more (flow control), so a source is never read further ahead than that. A source
that fails cancels the call, and the caller gets the source's own exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import grpc
from google.api.httpbody_pb2 import HttpBody

from asr_service.client.errors import from_rpc, from_stream
from asr_service.client.late_status import await_late_status
from asr_service.pb.asr.v1.audio_pb2 import AudioFormat
from asr_service.pb.asr.v1.subtitles_pb2 import (
    CueRules,
    SubtitleFormat,
    SubtitleMode,
    SubtitlesCompleted,
    SubtitlesRequest,
    SubtitlesResponse,
)
from asr_service.pb.asr.v1.transcript_pb2 import RecognitionConfig, Warning  # noqa: A004 - the contract's name

SubtitlesStream = grpc.aio.StreamStreamCall[SubtitlesRequest, SubtitlesResponse]


@dataclass(frozen=True, slots=True)
class SubtitleWish:
    """What is asked of Subtitles; see asr.v1.SubtitlesRequest. What is left out is the server's default."""

    config: RecognitionConfig = field(default_factory=RecognitionConfig)
    subtitle_format: SubtitleFormat.ValueType = SubtitleFormat.SUBTITLE_FORMAT_UNSPECIFIED
    mode: SubtitleMode.ValueType = SubtitleMode.SUBTITLE_MODE_UNSPECIFIED
    rules: CueRules = field(default_factory=CueRules)
    live: bool = False

    def first_message(self, audio_format: AudioFormat | None) -> SubtitlesRequest:
        return SubtitlesRequest(
            config=self.config,
            format=audio_format,
            subtitle_format=self.subtitle_format,
            mode=self.mode,
            rules=self.rules,
            live=self.live,
        )


class SubtitleFile:
    """Feed it every event; after the last one `completed` has the file."""

    def __init__(self) -> None:
        self.warnings: list[Warning] = []
        self.newest_text = ""
        self.processed_ms = 0
        self.total_ms: int | None = None
        self.completed: SubtitlesCompleted | None = None

    def feed(self, event: SubtitlesResponse) -> None:
        match event.WhichOneof("event"):
            case "cue":
                self.newest_text = " ".join(event.cue.lines)
            case "warning":
                self.warnings.append(event.warning)
            case "progress":
                self.processed_ms = event.progress.processed_ms
                self.total_ms = event.progress.total_ms if event.progress.HasField("total_ms") else None
            case "completed":
                self.completed = event.completed
                self.processed_ms = self.total_ms = event.completed.duration_ms


async def subtitle_events(
    start: Callable[[], SubtitlesStream], first: SubtitlesRequest, chunks: AsyncIterator[bytes]
) -> AsyncGenerator[SubtitlesResponse]:
    """Sends `first`, then the chunks, and yields the events. Raises AsrClientError, or what the source raised."""
    call = start()
    await_late_status(call)
    writer = asyncio.create_task(_write(call, first, chunks))
    try:
        async for event in call:
            if event.WhichOneof("event") == "error":
                raise from_stream(event.error)
            yield event
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from None
    except asyncio.CancelledError:
        if writer.done() and not writer.cancelled() and (failure := writer.exception()) is not None:
            raise failure from None  # the writer cancelled the call because its source failed
        raise
    finally:
        call.cancel()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def _write(call: SubtitlesStream, first: SubtitlesRequest, chunks: AsyncIterator[bytes]) -> None:
    """When the service has ended the call, writing raises what grpc.aio happens to raise; the reader hears the status."""
    ended = (asyncio.InvalidStateError, grpc.aio.AioRpcError)
    try:
        with suppress(*ended):
            await call.write(first)
            async for chunk in chunks:
                await call.write(SubtitlesRequest(audio=HttpBody(data=chunk)))
            await call.done_writing()
    except Exception:
        call.cancel()
        raise
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
