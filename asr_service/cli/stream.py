"""`asr stream`: audio goes up as it comes, captions come down."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from google.protobuf.json_format import MessageToDict

from asr_service.cli import exit_codes
from asr_service.cli.captions import Captions
from asr_service.cli.children import first_of
from asr_service.cli.complaints import complaint
from asr_service.cli.latency import Latency
from asr_service.cli.live_audio import RATE_HZ, LiveAudio, from_file, from_stdin
from asr_service.cli.microphone import NoMicrophone, from_microphone
from asr_service.cli.output import STDIN, UsageError
from asr_service.cli.target import ABSENT, ServiceAbsent, ready_client
from asr_service.cli.up import stop_signals
from asr_service.client import (
    AsrClient,
    AsrClientError,
    RecognitionConfig,
    SessionConfig,
    SessionEndReason,
    StreamTranscribeResponse,
)

RESUME_WINDOW_MS = 30_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to listen to, and how. `name`: what complaints begin with."""

    file: str | None
    at_own_speed: bool
    rate_hz: int
    as_json: bool
    recognition: RecognitionConfig

    @classmethod
    def of(
        cls,
        file: str | None,
        *,
        mic: bool,
        at_own_speed: bool,
        rate_hz: int | None,
        as_json: bool,
        language: str | None,
        context: str,
    ) -> Wanted:
        """Raises UsageError."""
        if mic is (file is not None):
            raise UsageError("expected one of FILE, - and --mic")
        if mic and at_own_speed:
            raise UsageError("--realtime is for files; a microphone has no other speed")
        if rate_hz is not None and file not in (STDIN, None):
            raise UsageError("--rate goes with - and --mic; a file says its own")
        recognition = RecognitionConfig(language=language, context=context)
        return cls(file, at_own_speed, rate_hz or RATE_HZ, as_json, recognition)

    @property
    def name(self) -> str:
        return "microphone" if self.file is None else "stdin" if self.file == STDIN else self.file

    @property
    def has_speed(self) -> bool:
        """It is known when each sample was spoken."""
        return self.at_own_speed or self.file is None

    def open(self) -> LiveAudio:
        """Raises NoMicrophone."""
        if self.file is None:
            return from_microphone(self.rate_hz)
        if self.file == STDIN:
            return from_stdin(self.rate_hz, at_own_speed=self.at_own_speed)
        return from_file(Path(self.file), at_own_speed=self.at_own_speed)


async def stream(wanted: Wanted, *, server: str | None, api_key: str | None, wait_s: float) -> int:
    """Returns the exit code."""
    try:
        audio = wanted.open()
    except NoMicrophone as error:
        sys.stderr.write(f"asr: {error}\n")
        return exit_codes.FAILED
    async with aclosing(audio.chunks):
        try:
            async with ready_client(server, api_key, wait_s) as client:
                if wanted.file not in (None, STDIN):
                    return await _listen(client, wanted, audio)
                return await _until_stopped(client, wanted, audio)
        except ServiceAbsent as error:
            sys.stderr.write(f"asr: {error}\n")
            return exit_codes.NOT_READY


async def _until_stopped(client: AsrClient, wanted: Wanted, audio: LiveAudio) -> int:
    """What has no end of its own ends with Ctrl-C, and what was said until then comes out; the second one ends it at once."""

    async def interrupted(hurried: asyncio.Event) -> int:
        await hurried.wait()
        return exit_codes.INTERRUPTED

    with stop_signals() as (stopped, hurried):
        audio = replace(audio, chunks=_until(audio.chunks, stopped))
        return await first_of(_listen(client, wanted, audio), interrupted(hurried))


async def _until(chunks: AsyncGenerator[bytes], stopped: asyncio.Event) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        while (chunk := await first_of(_next(chunks), _none(stopped))) is not None:
            yield chunk


async def _next(chunks: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _none(event: asyncio.Event) -> None:
    await event.wait()


async def _listen(client: AsrClient, wanted: Wanted, audio: LiveAudio) -> int:
    latency = Latency(audio.clock)
    captions = Captions(_write, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    show: Callable[[StreamTranscribeResponse], None] = _print_json if wanted.as_json else captions.feed
    reason = SessionEndReason.SESSION_END_REASON_FINISHED
    try:
        config = await _config(client, wanted, audio)
        async with client.stream_transcribe(config) as session:
            session.feed(audio.chunks)
            async for event in session:
                latency.feed(event, monotonic())
                show(event)
                if event.HasField("warning"):
                    captions.clear()
                    sys.stderr.write(f"{wanted.name}: warning: {event.warning.message}\n")
                if event.HasField("end"):
                    reason = event.end.reason
    except BrokenPipeError:
        _silence_stdout()
        return exit_codes.FAILED
    except (AsrClientError, OSError) as error:
        captions.clear()
        sys.stderr.write(f"{wanted.name}: {complaint(error)}\n")
        return exit_codes.NOT_READY if isinstance(error, AsrClientError) and error.reason in ABSENT else exit_codes.FAILED
    sys.stderr.write("".join(f"{line}\n" for line in latency.lines()))
    if reason != SessionEndReason.SESSION_END_REASON_FINISHED:
        sys.stderr.write(f"{wanted.name}: the service is shutting down\n")
        return exit_codes.FAILED
    return exit_codes.OK


async def _config(client: AsrClient, wanted: Wanted, audio: LiveAudio) -> SessionConfig:
    """Words are asked for where their times are of use and the engine has them."""
    recognition = RecognitionConfig()
    recognition.CopyFrom(wanted.recognition)
    if wanted.has_speed:
        features = (await client.server_info()).features
        recognition.word_times = any(feature.name == "word_times" and feature.available for feature in features)
    return SessionConfig(
        recognition=recognition, format=audio.format, resume_window_ms=RESUME_WINDOW_MS if audio.format is not None else None
    )


def _print_json(event: StreamTranscribeResponse) -> None:
    plain = MessageToDict(event, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    _write(json.dumps(plain, ensure_ascii=False) + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _silence_stdout() -> None:
    """Nobody reads any more (`asr ... | head`): what is still in the buffer must not fail again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
