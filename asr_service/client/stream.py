"""A live session at the client: audio goes out and events come in at the same time, over one connection after another.

Rules:

1. What is said goes into the log (sent_log); a writer of its own brings it to the connection. `send` waits while the connection
   takes nothing more, and while the log is full; not for a connection to come back.
2. Events come in whether or not they are read, up to a limit; then the server is made to wait.
3. Where the session can be resumed and a connection is lost, or its server closes, the next one resumes: what the server may
   not have is said again, and no event is passed on twice.
4. The session ends once: with `end`, after which iteration stops, or with an error, which iteration raises.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self

import grpc

from asr_service.client.errors import SESSION_OVER, UNREACHABLE, AsrClientError, from_rpc, from_stream
from asr_service.client.late_status import await_late_status
from asr_service.client.patience import Patience
from asr_service.client.sent_log import RawFormat, SentLog
from asr_service.pb.asr.v1.stream_pb2 import (
    SESSION_END_REASON_GO_AWAY,
    ConfigPatch,
    Finish,
    Flush,
    Resume,
    SessionConfig,
    StreamTranscribeRequest,
    StreamTranscribeResponse,
)

EVENTS_AHEAD = 2_000

Metadata = tuple[tuple[str, str], ...]
StreamCall = grpc.aio.StreamStreamCall[StreamTranscribeRequest, StreamTranscribeResponse]
StartCall = Callable[[Metadata, float | None], StreamCall]


class _Lost(Exception):
    """The connection is gone; the session may not be."""

    def __init__(self, error: AsrClientError) -> None:
        super().__init__(str(error))
        self.error = error


class StreamSession:
    """An async context manager, and an iterator over the events, `end` included. See AsrClient.stream_transcribe."""

    def __init__(self, start: StartCall, config: SessionConfig, session_id: str, timeout_s: float | None) -> None:
        self.session_id = session_id or str(
            uuid.uuid4()
        )  # also brings every connection to the same replica, if there are several
        self._start = start
        self._config = config
        self._deadline_s = None if timeout_s is None else monotonic() + timeout_s
        self._raw = RawFormat.of(config.format) if config.resume_window_ms > 0 else None
        self._log = SentLog(self._raw)
        self._patience = Patience(config.resume_window_ms / 1000)
        self._token = ""
        self._last_seq = -1
        self._n_finals = 0
        self._is_connected = False
        self._was_connected = False
        self._is_finished = False
        self._is_over = False
        self._failure: BaseException | None = None
        self._said = asyncio.Event()
        self._room = asyncio.Event()
        self._events: asyncio.Queue[StreamTranscribeResponse | None] = asyncio.Queue(EVENTS_AHEAD)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._spawn(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what still runs. Without `finish` before, audio that is not decided is dropped."""
        self._end(None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What is said

    async def send(self, audio: bytes) -> None:
        """The next samples, or bytes of the container; any number. Raises AsrClientError (reason SESSION_OVER) after the end,
        and the session's own error after a failure."""
        self._check_open()
        for piece in self._log.pieces(audio):
            await self._wait_for_room()
            self._log.add_audio(piece)
            self._said.set()

    async def silence(self, duration_ms: int) -> None:
        """Silence instead of samples, 1 to 60000 ms. Raises as `send`."""
        await self._say(lambda: self._log.add_silence(duration_ms))

    async def flush(self) -> None:
        """Decide everything up to here now. Raises as `send`."""
        await self._say(lambda: self._log.add(StreamTranscribeRequest(flush=Flush())))

    async def patch(self, changes: ConfigPatch) -> None:
        """Change these settings from here on. Raises as `send`."""
        await self._say(lambda: self._log.add(StreamTranscribeRequest(patch=changes)))

    async def mark(self, id_: str) -> None:
        """Answered by `marker_ack` when all audio before is decided; ids should differ. Raises as `send`."""
        await self._say(lambda: self._log.add_marker(id_))

    async def finish(self) -> None:
        """No more audio: the rest is decided, then comes `end`. Raises as `send`."""
        await self._say(lambda: self._log.add_end(StreamTranscribeRequest(finish=Finish())))
        self._is_finished = True

    def feed(self, source: AsyncIterable[bytes]) -> None:
        """Sends all of it meanwhile, then finishes. When the source fails, iteration raises what it raised."""
        self._spawn(self._feed(source))

    async def _feed(self, source: AsyncIterable[bytes]) -> None:
        try:
            async for chunk in source:
                await self.send(chunk)
            await self.finish()
        except Exception as error:  # the reader has to hear of it, if not already of a better one
            self._end(error)
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def _say(self, add: Callable[[], None]) -> None:
        self._check_open()
        await self._wait_for_room()
        add()
        self._said.set()

    async def _wait_for_room(self) -> None:
        while self._log.is_full or (self._log.is_ahead and (self._is_connected or self._raw is None)):
            self._room.clear()
            await self._room.wait()
            self._check_open()

    def _check_open(self) -> None:
        if isinstance(self._failure, AsrClientError):
            raise self._failure
        if self._is_over:
            raise AsrClientError("FAILED_PRECONDITION", SESSION_OVER, "the session has ended; nothing more can be said")
        if self._is_finished:
            raise AsrClientError("INVALID_ARGUMENT", "MESSAGE_ORDER", "something was said after finish; expected nothing")

    # What is heard

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamTranscribeResponse:
        event = None if self._is_over and self._events.empty() else await self._events.get()
        if event is not None:
            return event
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    def _end(self, failure: BaseException | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._failure = failure
        self._room.set()
        with suppress(asyncio.QueueFull):  # then the reader does not wait
            self._events.put_nowait(None)

    # Connections

    async def _run(self) -> None:
        try:
            while not await self._connect_once():
                pass
        except Exception as error:  # whatever it is, the reader has to hear of it
            self._end(error)
        else:
            self._end(None)

    async def _connect_once(self) -> bool:
        """One connection. Returns whether the session is over; if not, it is time for the next one. Raises AsrClientError."""
        try:
            await self._converse()
        except _Lost as lost:
            pause_s = self._patience.pause_s(monotonic(), lost.error.retry_after_s or 0.0)
            if pause_s is None:
                raise lost.error from None
            await asyncio.sleep(pause_s)
            return False
        return True

    async def _converse(self) -> None:
        """Returns when the session has ended well. Raises _Lost, AsrClientError."""
        call = self._start((("x-session-id", self.session_id),), self._left_s())
        await_late_status(call)
        writer = asyncio.create_task(self._write(call, self._opening()))
        heard_seq = self._last_seq
        try:
            await self._wait_until_it_stands(call)
            async for event in call:
                if await self._hear(event):
                    return
        except grpc.aio.AioRpcError as failed:
            raise self._judged(from_rpc(failed), is_heard=self._last_seq > heard_seq) from None
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            error = AsrClientError("CANCELLED", "", "the call was cancelled on its way")  # grpc.aio says it like this
            raise self._judged(error, is_heard=self._last_seq > heard_seq) from None
        finally:
            self._is_connected = False
            self._room.set()
            call.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        raise AsrClientError("INTERNAL", "", "the service ended the session without an end")

    def _judged(self, error: AsrClientError, *, is_heard: bool) -> _Lost | AsrClientError:
        """What a connection ended with: is it the connection's fault, or a server's that cannot go on with the session now?

        The service names a reason for what it ends itself. A session that never began is tried again only once a server was
        there.
        """
        if error.reason in ("", UNREACHABLE):
            is_lost = error.status in ("UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN")
        else:
            is_lost = bool(self._token) and not is_heard and error.status in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
        may_go_on = bool(self._token) or (self._last_seq < 0 and self._was_connected)
        return _Lost(error) if self._raw is not None and is_lost and may_go_on else error

    def _left_s(self) -> float | None:
        return None if self._deadline_s is None else max(0.0, self._deadline_s - monotonic())

    def _opening(self) -> list[StreamTranscribeRequest]:
        again = self._log.rewind()
        if not self._token:
            return [StreamTranscribeRequest(config=self._config)]
        resume = Resume(
            resume_token=self._token,
            last_seq=self._last_seq,
            durable_samples=self._log.durable,
            utterances=self._n_finals,
        )
        return [StreamTranscribeRequest(resume=resume), *again]

    async def _wait_until_it_stands(self, call: StreamCall) -> None:
        """The server sends its headers once it has the session. Raises _Lost when that takes longer than the window."""
        left_s = self._patience.left_s(monotonic())
        try:
            async with asyncio.timeout(left_s):
                headers = await call.initial_metadata()
        except TimeoutError:
            message = f"the session could not be resumed within {self._config.resume_window_ms / 1000:g} s"
            raise _Lost(AsrClientError("UNAVAILABLE", UNREACHABLE, message)) from None
        if headers.get("x-session-id"):
            self._patience.stood()

    async def _write(self, call: StreamCall, opening: list[StreamTranscribeRequest]) -> None:
        """Brings the log to the connection. Whatever goes wrong is for the reading side to hear."""
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            for message in opening:
                await call.write(message)
                self._is_connected = self._was_connected = True
            while True:
                message_or_none = self._log.take()
                if message_or_none is None:
                    self._said.clear()
                    await self._said.wait()
                    continue
                self._room.set()
                await call.write(message_or_none)

    async def _hear(self, event: StreamTranscribeResponse) -> bool:
        """Takes note of an event and passes it on. Returns whether it was the last. Raises _Lost, AsrClientError."""
        if event.seq <= self._last_seq:
            return False
        self._last_seq = event.seq
        self._patience.stood()
        if self._note(event):
            await self._events.put(event)
        return event.HasField("end")

    def _note(self, event: StreamTranscribeResponse) -> bool:
        """Returns whether it is news for the reader. Raises _Lost, AsrClientError."""
        match event.WhichOneof("event"):
            case "started":
                self._token = event.started.resume_token
            case "go_away":
                self._token = event.go_away.resume_token
            case "ack":
                self._forget(event.ack.durable_samples)
            case "final":
                self._n_finals = event.final.utterance + 1
                if self._raw is not None:
                    self._forget(event.final.segment.end_ms * self._raw.rate_hz // 1000)
            case "marker_ack":
                return self._log.answered(event.marker_ack.id)
            case "error":
                raise from_stream(event.error)
            case "end" if event.end.reason == SESSION_END_REASON_GO_AWAY and self._token and self._raw is not None:
                raise _Lost(AsrClientError("UNAVAILABLE", "DRAINING", "the server has closed"))
        return True

    def _forget(self, durable: int) -> None:
        self._log.forget(durable)
        self._room.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
