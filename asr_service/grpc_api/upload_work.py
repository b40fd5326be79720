"""One upload being transcribed: what the transcriber says becomes messages in the outbox, whether or not it is read."""

from __future__ import annotations

from collections.abc import Sequence

from asr_service.grpc_api import convert
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.interceptors import as_answer
from asr_service.grpc_api.service import Service
from asr_service.grpc_api.status import to_stream_error
from asr_service.grpc_api.upload_jobs import UploadJob
from asr_service.pb.asr.v1 import transcribe_pb2, transcript_pb2
from asr_service.request import Cursors, SegmentResult
from asr_service.transcriber.job import Completed, Event, Job, Partial, Progress


class UploadWork:
    """`call` is the one that began it."""

    def __init__(self, service: Service, call: Call, plan: Job, warnings: Sequence[transcript_pb2.Warning]) -> None:
        self._service = service
        self._call = call
        self._plan = plan
        self._warnings = warnings

    async def run(self, job: UploadJob) -> None:
        """Returns when the last event is in the outbox, whichever it is."""
        outbox = job.outbox

        async def emit(event: Event) -> None:
            outbox.cursors = event.cursors
            if isinstance(event.body, Progress):
                await outbox.put(is_passing=True, progress=convert.progress_message(event.body))
            elif isinstance(event.body, Partial):
                await outbox.put(is_passing=True, partial=convert.partial_message(event.body))
            elif isinstance(event.body, SegmentResult):
                await outbox.put(segment=convert.segment_message(event.body, self._plan.options))

        try:
            for warning in self._warnings:
                await outbox.put(warning=warning)
            completed = await self._service.transcriber.run(job.feed.chunks(), self._plan, emit, job.feed.confirm_end)
        except Exception as raised:
            answer = as_answer(raised, self._call)
            # It may be kept for long: without what leads to the frames that hold audio.
            answer.__traceback__ = answer.__context__ = answer.__cause__ = None
            outbox.put_last(answer, error=to_stream_error(answer))
        else:
            outbox.cursors = Cursors(completed.duration_ms, completed.duration_ms, completed.duration_ms)
            outbox.put_last(completed=self._message(completed))

    def _message(self, completed: Completed) -> transcribe_pb2.UploadCompleted:
        return transcribe_pb2.UploadCompleted(
            text=completed.text,
            language=convert.language_message(completed.language),
            duration_ms=completed.duration_ms,
            segment_count=completed.segment_count,
            engine=convert.engine_message(self._service.engine.info),
            usage=convert.usage_message(completed),
            timings=convert.timings_message(completed.times, self._call.trace_id),
        )
