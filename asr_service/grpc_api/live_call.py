"""StreamTranscribe: one connection of a client to a live session.

Reading and writing are two tasks, so that a slow reader does not stop the audio before the session has enough of it, and audio
that does not come does not stop the events. The connection ends with the first of: the last event written, the session taken by
another connection, the client gone. Then the session is left; whether it waits for its client is up to it.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from time import monotonic

from asr_service.errors import (
    AsrError,
    AudioTooLarge,
    DeadlineExceeded,
    InternalError,
    InvalidValue,
    MessageOrder,
    SessionTaken,
    SlowConsumer,
    Violation,
)
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.interceptors import Context, as_answer
from asr_service.grpc_api.live_config import effective_session, read_patch, read_session
from asr_service.grpc_api.live_messages import LiveWriter
from asr_service.grpc_api.resume_token import ResumeToken
from asr_service.grpc_api.service import Service
from asr_service.live.events import Closed, Failed, Noted
from asr_service.live.live_session import MAX_UNDECIDED
from asr_service.live.plan import Beginning
from asr_service.live.sessions import Held
from asr_service.pb.asr.v1 import stream_pb2
from asr_service.request import Priority
from asr_service.session.events import EndReason
from asr_service.session.order import MessageKind, Order

_SETTLE_S = 0.015  # grpc.aio lets a cancelled call look like a clean end of the client's stream for a moment
_DEADLINE_MARGIN_S = (0.1, 0.5)
_MAX_MARKER_CHARS = 128
MAX_SILENCE_MS = 60_000
_SESSION_ID = re.compile(r"[\x21-\x7e]{1,128}")

Request = stream_pb2.StreamTranscribeRequest


class LiveCall:
    """Serves one call; see the module."""

    def __init__(self, service: Service, call: Call, context: Context) -> None:
        self._service = service
        self._call = call
        self._context = context
        self._order = Order()
        self._patience_s = service.settings.upload_idle_timeout

    async def serve(self, incoming: AsyncIterable[Request]) -> None:
        """Returns when the session has ended well. Raises what it failed with."""
        with self._service.admit(0, Priority.INTERACTIVE):
            requests = aiter(incoming)
            held, notes = self._open(await self._first(requests))
            attached = held.attached
            try:
                headers = (*self._call.headers, ("x-session-id", held.session_id))
                await self._context.send_initial_metadata(headers)
                for note in notes:
                    held.live.note(note.code, note.field, note.message)
                await self._converse(held, requests)
            finally:
                self._service.live.leave(held, attached)
            await held.live.closed()

    # Opening

    async def _first(self, requests: AsyncIterator[Request]) -> Request:
        try:
            async with asyncio.timeout(self._patience_s):
                first = await anext(requests, None)
        except TimeoutError:
            raise DeadlineExceeded(f"no config came within {self._patience_s:g} s (limit {self._patience_s:g} s)") from None
        if first is None:
            raise MessageOrder("the stream ended without a message; expected config or resume first")
        self._order.check(_kind(first))
        return first

    def _open(self, first: Request) -> tuple[Held, list[Noted]]:
        try:
            if first.HasField("resume"):
                return self._resume(first.resume), []
            session_id = self._call.session_id
            if not _SESSION_ID.fullmatch(session_id):
                session_id = str(uuid.uuid4())
            return self._begin(first.config, session_id, None)
        except InvalidValue as error:
            raise _at(error, 0) from None

    def _begin(
        self, config: stream_pb2.SessionConfig, session_id: str, beginning: Beginning | None
    ) -> tuple[Held, list[Noted]]:
        service = self._service
        max_channels, deadline_s = service.settings.max_channels, self._call.deadline_s
        plan, notes = read_session(config, service.engine.info, max_channels=max_channels, deadline_s=deadline_s)
        return service.live.open(plan, session_id, beginning), notes

    def _resume(self, resume: stream_pb2.Resume) -> Held:
        token = ResumeToken.unpack(resume.resume_token)
        held = self._service.live.resume(token.key, token.instance, resume.last_seq)
        if held is not None:
            return held
        beginning = Beginning(resume.durable_samples, max(0, resume.utterances), resume.last_seq + 1, is_resumed=True)
        return self._begin(token.config, token.session_id, beginning)[0]

    # Running

    async def _converse(self, held: Held, requests: AsyncIterator[Request]) -> None:
        writing = asyncio.create_task(self._write(held))
        reading = asyncio.create_task(self._read(held, requests))
        taken = asyncio.create_task(held.attached.wait())
        deadline = self._arm_deadline(held)
        waiting: set[asyncio.Task[None] | asyncio.Task[bool] | asyncio.Task[object]] = {writing, reading, taken}
        try:
            while not writing.done():
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if taken.done() and not writing.done():
                    raise SessionTaken("the session goes on at another connection")
                if reading.done() and reading in waiting:
                    waiting.discard(reading)
                    if reading.result():
                        raise MessageOrder("the stream ended without finish; the session waits to be resumed")
            writing.result()
        finally:
            if deadline is not None:
                deadline.cancel()
            for task in (writing, reading, taken):
                task.cancel()
            await asyncio.gather(writing, reading, taken, return_exceptions=True)
            waiting.clear()
            del writing, reading, taken  # a failed task keeps the traceback that leads here

    def _arm_deadline(self, held: Held) -> asyncio.TimerHandle | None:
        """With partial_on_deadline: a little before the call ends by itself, what is known goes out."""
        deadline_s = self._call.deadline_s
        if deadline_s is None or not held.live.plan.partial_on_deadline:
            return None
        left_s = deadline_s - monotonic()
        least_s, most_s = _DEADLINE_MARGIN_S
        margin_s = min(most_s, max(least_s, left_s / 10))
        loop = asyncio.get_running_loop()
        return loop.call_later(max(0.0, left_s - margin_s), held.live.truncate, EndReason.DEADLINE)

    async def _read(self, held: Held, requests: AsyncIterator[Request]) -> bool:
        """Hears the client out. Returns whether it left without finish a session that can be resumed."""
        live = held.live
        try:
            await self._hear_out(held, requests)
        except Exception as error:
            live.fail(error)
            return False
        if self._order.is_finished:
            return False
        await asyncio.sleep(_SETTLE_S)  # if it was cancelled, so are we
        if not live.plan.resume_window_ms:
            live.fail(MessageOrder("the stream ended without finish; what was not decided is dropped"))
        return live.plan.resume_window_ms > 0

    async def _hear_out(self, held: Held, requests: AsyncIterator[Request]) -> None:
        live, order = held.live, self._order
        async for request in requests:
            kind = _kind(request)
            order.check(kind)
            if live.is_over:
                continue
            try:
                self._hear(held, kind, request)
            except InvalidValue as error:
                raise _at(error, order.n_messages - 1) from None
            await live.room()

    def _hear(self, held: Held, kind: MessageKind, request: Request) -> None:
        live = held.live
        match kind:
            case MessageKind.AUDIO:
                live.audio(*self._read_audio(request.audio))
            case MessageKind.SILENCE:
                live.silence(_read_silence(request.silence))
            case MessageKind.FLUSH:
                live.flush()
            case MessageKind.PATCH:
                options, settings, notes = read_patch(request.patch, live.plan, self._service.engine.info)
                live.patch(options, settings)
                for note in notes:
                    live.note(note.code, note.field, note.message)
            case MessageKind.MARKER:
                live.mark(_read_marker(request.marker))
            case MessageKind.FINISH:
                live.finish()

    def _read_audio(self, audio: stream_pb2.Audio) -> tuple[bytes, int | None]:
        limit = self._service.settings.max_inline_bytes
        if len(audio.data) > limit:
            raise AudioTooLarge(f"audio.data: {len(audio.data)} bytes in one message (limit {limit})")
        return audio.data, audio.first_sample if audio.HasField("first_sample") else None

    async def _write(self, held: Held) -> None:
        """Brings the events to the client, the last one included. Raises the session's failure."""
        writer, reader = self._writer(held), held.live.outbox.open()
        while True:
            letter = await reader.take()
            writer.options = held.live.plan.options
            message = writer.message(letter)
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._context.write(message)
            except TimeoutError:
                limit = f"limit {self._patience_s:g} s"
                raise SlowConsumer(f"the client read no events for {self._patience_s:g} s ({limit})") from None
            if isinstance(letter.event, Closed):
                return
            if isinstance(letter.event, Failed):
                raise self._answer(letter.event.error)

    def _writer(self, held: Held) -> LiveWriter:
        service, live = self._service, held.live
        engine = service.engine.info

        def token() -> str:
            if not live.plan.resume_window_ms:
                return ""
            config = effective_session(live.plan, engine)
            return ResumeToken(service.live.instance, held.key, held.session_id, config).pack()

        return LiveWriter(
            session_id=held.session_id,
            engine=engine,
            rate_hz=live.plan.rate_hz,
            options=live.plan.options,
            trace_id=self._call.trace_id,
            token=token,
            effective=lambda: effective_session(live.plan, engine),
            limits=lambda: stream_pb2.SessionLimits(
                max_message_bytes=service.settings.max_inline_bytes,
                max_silence_ms=MAX_SILENCE_MS,
                max_utterance_ms=live.plan.settings.endpointing.hard_max_ms,
                max_undecided=MAX_UNDECIDED,
            ),
            answer=self._answer,
        )

    def _answer(self, error: AsrError) -> AsrError:
        """Our own faults go to the log, once, and not to the client."""
        cause = error.__cause__
        if isinstance(error, InternalError) and isinstance(cause, Exception):
            error.__cause__ = None
            error.message = as_answer(cause, self._call).message
        return error


def _read_silence(silence: stream_pb2.Silence) -> int:
    ms = silence.duration_ms
    if not 1 <= ms <= MAX_SILENCE_MS:
        raise InvalidValue.of("silence.duration_ms", f"{ms} is outside 1 to {MAX_SILENCE_MS}")
    return ms


def _read_marker(marker: stream_pb2.Marker) -> str:
    if len(marker.id) > _MAX_MARKER_CHARS:
        raise InvalidValue.of("marker.id", f"{len(marker.id)} characters are too many (limit {_MAX_MARKER_CHARS})")
    return marker.id


def _kind(request: Request) -> MessageKind:
    return _KINDS[request.WhichOneof("message")]


_KINDS: dict[str | None, MessageKind] = {kind.value: kind for kind in MessageKind} | {None: MessageKind.EMPTY}


def _at(error: InvalidValue, index: int) -> InvalidValue:
    """The error with the message's index in front of its fields."""
    violations = tuple(replace(v, field=f"messages[{index}].{v.field}") for v in error.violations)
    if not violations:
        violations = (Violation(f"messages[{index}]", error.message),)
    return type(error)(f"message {index}: {error.message}", retry_after_s=error.retry_after_s, violations=violations)
