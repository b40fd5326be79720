"""One Transcribe call: a small recording in one message, the transcript out.

Small recordings are the ones somebody waits for: the service serves this call before uploads.
"""

from __future__ import annotations

import asyncio

import grpc.aio

from asr_service.pb.asr.v1 import transcribe_pb2, transcript_pb2
from rest_bridge.transcription import Transcription
from rest_bridge.upstream import Metadata, Upstream, read_failure

Answering = grpc.aio.UnaryUnaryCall[transcribe_pb2.TranscribeRequest, transcribe_pb2.TranscribeResponse]


class InlineCall:
    """`outcome` is the Transcription, or fails with UpstreamError. Always `aclose` it."""

    def __init__(
        self,
        upstream: Upstream,
        config: transcript_pb2.RecognitionConfig,
        audio: bytes,
        *,
        metadata: Metadata,
        timeout_s: float,
    ) -> None:
        self.config = config
        request = transcribe_pb2.TranscribeRequest(config=config, audio=audio)
        self._call = upstream.asr.Transcribe(request, metadata=metadata, timeout=timeout_s)
        self.outcome = asyncio.create_task(_read(self._call))

    async def finish(self) -> None:
        """Everything was said with the call itself."""

    async def aclose(self) -> None:
        self._call.cancel()
        self.outcome.cancel()
        await asyncio.wait([self.outcome])
        if not self.outcome.cancelled():
            self.outcome.exception()  # seen; whoever wanted it has awaited it


async def _read(call: Answering) -> Transcription:
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        raise read_failure(error) from None
    transcript = answer.transcript
    completed = transcribe_pb2.UploadCompleted(
        text=transcript.text,
        language=transcript.language if transcript.HasField("language") else None,
        duration_ms=transcript.duration_ms,
        segment_count=len(transcript.segments),
        engine=answer.engine,
        usage=answer.usage,
        timings=answer.timings,
    )
    return Transcription(completed, list(transcript.segments), list(answer.warnings))
