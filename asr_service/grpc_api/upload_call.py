"""TranscribeUpload: one connection of a client to an upload.

Reading and writing are two tasks beside the one that transcribes. The connection ends with the first of: the last event
written, the upload taken by another connection, the client gone. Then the upload is left, and may wait for its client.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable
from dataclasses import dataclass
from hashlib import sha256

from asr_service.errors import AsrError, InvalidValue, SessionTaken, SlowConsumer
from asr_service.grpc_api import convert
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.events import Letter, Reader, UploadOutbox
from asr_service.grpc_api.interceptors import Context
from asr_service.grpc_api.service import Service
from asr_service.grpc_api.upload import Upload
from asr_service.grpc_api.upload_feed import Tap
from asr_service.grpc_api.upload_jobs import UploadJob, UploadJobs
from asr_service.grpc_api.upload_work import UploadWork
from asr_service.pb.asr.v1 import transcribe_pb2
from asr_service.request import Priority
from asr_service.scheduler.admission import Ticket
from asr_service.transcriber.job import Job

KEY_HEADER = "idempotency-key"
_KEY = re.compile(r"[\x21-\x7e]{1,128}")

Request = transcribe_pb2.TranscribeUploadRequest


@dataclass(slots=True)
class _Connection:
    """What this call has of an upload."""

    job: UploadJob
    attached: asyncio.Event
    tap: Tap
    reader: Reader
    started: transcribe_pb2.UploadStarted


class UploadCall:
    """Serves one call; see the module."""

    def __init__(self, service: Service, jobs: UploadJobs, call: Call, context: Context) -> None:
        self._service = service
        self._jobs = jobs
        self._call = call
        self._context = context
        self._metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        self._patience_s = service.settings.upload_idle_timeout

    async def serve(self, incoming: AsyncIterable[Request]) -> None:
        """Returns when the upload was transcribed, or abandoned. Raises what it failed with."""
        opened = await self._open(incoming)
        if opened is None:
            return
        upload, connection = opened
        del opened
        answer, was_told = None, False
        try:
            await self._context.send_initial_metadata(self._call.headers)
            answer = await self._converse(connection, upload)
            was_told = True
        finally:
            await self._jobs.leave(connection.job, connection.attached, was_told=was_told)
            del connection, upload
        if answer is not None:
            try:
                raise answer
            finally:
                del answer  # see the interceptor: no cycle through this frame

    # Opening

    async def _open(self, incoming: AsyncIterable[Request]) -> tuple[Upload, _Connection] | None:
        """None for an upload that was abandoned."""
        header = self._metadata.get(KEY_HEADER, "")
        # Whoever goes on has a place already.
        ticket = None if self._scoped(header) in self._jobs else self._service.admit(0, Priority.BATCH)
        try:
            upload = Upload(aiter(incoming), self._patience_s)
            first = await upload.open()
            key = self._scoped(_key_of(first, header))
            job = self._jobs.get(key)
            if first.resume.abandon:
                if job is not None:
                    await self._jobs.abandon(job)
            elif job is not None:
                return upload, self._go_on(job, first)
            else:
                place, ticket = ticket or self._service.admit(0, Priority.BATCH), None
                return upload, self._begin(first, key, place)
        finally:
            if ticket is not None:
                ticket.release()
        return None

    def _scoped(self, key: str) -> str:
        """Another caller's key is another key."""
        if not key:
            return ""
        caller = "\n".join((self._metadata.get("authorization", ""), self._metadata.get("x-api-key", ""), key))
        return sha256(caller.encode()).hexdigest()

    def _go_on(self, job: UploadJob, first: Request) -> _Connection:
        if _wanted(first) != job.wanted:
            raise InvalidValue.of("resume.idempotency_key", "belongs to an upload with another config or format")
        reader = job.outbox.open(first.resume.last_seq if first.resume.HasField("last_seq") else None)
        return self._connected(job, reader, is_resumed=True)

    def _begin(self, first: Request, key: str, place: Ticket) -> _Connection:
        service, call = self._service, self._call
        try:
            wanted = convert.read_config(first.config, service.engine.info)
            source_format = convert.read_format(first.format, first.audio.content_type, service.settings.max_channels)
        except BaseException:
            place.release()
            raise
        vad, deadline_s = wanted.voice_activity, call.deadline_s
        plan = Job(source_format, wanted.options, vad, Priority.BATCH, call.arrival_s, deadline_s, partials=True)
        effective = convert.effective_config(wanted, service.engine.info)
        outbox = UploadOutbox(keeps=key != "")
        job = UploadJob(key, _wanted(first), effective, deadline_s, outbox)
        connection = self._connected(job, outbox.open(), is_resumed=False)
        self._jobs.start(job, UploadWork(service, call, plan, wanted.warnings).run, place.release)
        return connection

    def _connected(self, job: UploadJob, reader: Reader, *, is_resumed: bool) -> _Connection:
        started = transcribe_pb2.UploadStarted(
            effective_config=job.effective_config,
            engine=convert.engine_message(self._service.engine.info),
            received_bytes=job.feed.received,
            resume_window_ms=round(self._jobs.window_s * 1000) if job.can_resume else 0,
            is_resumed=is_resumed,
        )
        return _Connection(job, self._jobs.attach(job), job.feed.open(), reader, started)

    # Conversing

    async def _converse(self, connection: _Connection, upload: Upload) -> AsrError | None:
        """Returns how the upload ended, once that was written; None: well. Raises what ends this connection alone."""
        await self._write(Letter(seq=0, started=connection.started, server_time=convert.now_message()))
        can_resume = connection.job.can_resume
        writing = asyncio.create_task(self._write_all(connection))
        reading = asyncio.create_task(upload.pour(connection.tap, can_resume=can_resume))
        taken = asyncio.create_task(connection.attached.wait())
        waiting: set[asyncio.Task[AsrError | None] | asyncio.Task[None] | asyncio.Task[bool]] = {writing, reading, taken}
        try:
            while not writing.done():
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if taken.done() and not writing.done():
                    raise SessionTaken("the upload goes on at another connection")
                if reading.done() and reading in waiting:
                    waiting.discard(reading)
                    if not connection.job.has_ended:
                        reading.result()
            return writing.result()
        finally:
            for task in (writing, reading, taken):
                task.cancel()
            await asyncio.gather(writing, reading, taken, return_exceptions=True)
            waiting.clear()
            del writing, reading, taken  # a failed task keeps the traceback that leads here

    async def _write_all(self, connection: _Connection) -> AsrError | None:
        outbox = connection.job.outbox
        while True:
            letter = await connection.reader.take()
            await self._write(letter)
            kind = letter.WhichOneof("event")
            if kind in ("completed", "error"):
                return outbox.failure

    async def _write(self, letter: Letter) -> None:
        letter.request_id = self._call.request_id
        try:
            async with asyncio.timeout(self._patience_s):
                await self._context.write(letter)
        except TimeoutError:
            limit = f"limit {self._patience_s:g} s"
            raise SlowConsumer(f"the client read no events for {self._patience_s:g} s ({limit})") from None


def _key_of(first: Request, header: str) -> str:
    """The idempotency key; "" for none. Raises InvalidValue."""
    name = "resume.idempotency_key"
    key = first.resume.idempotency_key
    if key and header and key != header:
        raise InvalidValue.of(name, f"differs from the `{KEY_HEADER}` metadata")
    key = key or header
    if first.HasField("resume") and not key:
        raise InvalidValue.of(name, "is missing")
    if key and not _KEY.fullmatch(key):
        raise InvalidValue.of(name, "is not 1 to 128 printable ASCII characters without spaces")
    return key


def _wanted(first: Request) -> bytes:
    """What was asked for, to be compared."""
    parts = (first.config.SerializeToString(deterministic=True), first.format.SerializeToString(deterministic=True))
    return sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
