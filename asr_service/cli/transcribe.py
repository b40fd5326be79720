"""`asr transcribe`: files go up side by side, transcripts come out in the order of the files."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from asr_service.cli import exit_codes
from asr_service.cli.complaints import complaint
from asr_service.cli.output import STDIN, Sink, UsageError
from asr_service.cli.progress import Progress, clock, shown_progress
from asr_service.cli.stdin import descriptor_chunks
from asr_service.cli.target import ABSENT, ServiceAbsent, ready_client
from asr_service.client import AsrClient, AsrClientError, RecognitionConfig, UploadTranscript


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the service for every file."""

    config: RecognitionConfig
    timeout_s: float

    @classmethod
    def of(cls, form: str, language: str | None, context: str, *, words: bool, timeout_s: float) -> Wanted:
        if words and form != "json":
            raise UsageError("--words goes with --format json")
        word_times = words or form in ("srt", "vtt")
        config = RecognitionConfig(language=language, context=context, word_times=word_times, word_confidence=words)
        return cls(config, timeout_s)


Outcome = UploadTranscript | AsrClientError | OSError


async def transcribe_files(
    files: Sequence[str],
    wanted: Wanted,
    sink: Sink,
    *,
    jobs: int,
    server: str | None,
    api_key: str | None,
    wait_s: float,
) -> int:
    """Returns the exit code."""
    try:
        async with ready_client(server, api_key, wait_s) as client:
            with shown_progress() as progress:
                return await _all(client, files, wanted, sink, progress, jobs)
    except ServiceAbsent as error:
        sys.stderr.write(f"asr: {error}\n")
        return exit_codes.NOT_READY


async def _all(client: AsrClient, files: Sequence[str], wanted: Wanted, sink: Sink, progress: Progress, jobs: int) -> int:
    free = asyncio.Semaphore(jobs)

    async def one(name: str) -> Outcome:
        async with free:
            return await _transcript(client, name, wanted, progress)

    code = exit_codes.OK
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(name)) for name in files]
        for name, task in zip(files, tasks, strict=True):
            outcome = await task
            with progress.aside():
                code = max(code, _report(name, outcome, sink))
    return code


async def _transcript(client: AsrClient, name: str, wanted: Wanted, progress: Progress) -> Outcome:
    transcript = UploadTranscript()
    source = descriptor_chunks(sys.stdin.fileno()) if name == STDIN else Path(name)
    try:
        async with aclosing(client.transcribe_upload(source, wanted.config, timeout_s=wanted.timeout_s)) as events:
            async for event in events:
                transcript.feed(event)
                progress.update(name, transcript.processed_ms, transcript.total_ms, transcript.newest_text)
    except (AsrClientError, OSError) as error:
        return error
    finally:
        progress.finish(name)
    if not transcript.is_complete:
        return AsrClientError("INTERNAL", "", "the service ended the call without a transcript")
    return transcript


def _report(name: str, outcome: Outcome, sink: Sink) -> int:
    """Writes the transcript, or the complaint; returns the exit code that stands for it."""
    if isinstance(outcome, UploadTranscript):
        try:
            sink.put(name, outcome)
        except BrokenPipeError:
            _silence_stdout()
            return exit_codes.FAILED
        except OSError as error:
            outcome = error
            name = str(sink.paths.get(name, name))
        else:
            for warning in outcome.warnings:
                sys.stderr.write(f"{name}: warning: {warning.message}\n")
            for segment in outcome.truncated:
                sys.stderr.write(f"{name}: warning: the text from {clock(segment.start_ms)} ends early\n")
            return exit_codes.OK
    sys.stderr.write(f"{name}: {complaint(outcome)}\n")
    is_absent = isinstance(outcome, AsrClientError) and outcome.reason in ABSENT
    return exit_codes.NOT_READY if is_absent else exit_codes.FAILED


def _silence_stdout() -> None:
    """Nobody reads any more (`asr ... | head`): what is still in the buffer must not fail again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
