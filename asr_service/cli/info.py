"""`asr models list` and `asr info`."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from asr_service.cli import exit_codes
from asr_service.cli.complaints import complaint
from asr_service.cli.target import ABSENT, ServiceAbsent, ready_client
from asr_service.client import AsrClient, AsrClientError, GetServerInfoResponse, ListModelsResponse

M = TypeVar("M", bound=Message)


async def show_models(server: str | None, api_key: str | None, as_json: bool, wait_s: float) -> int:
    return await _show(server, api_key, as_json, wait_s, lambda client: client.list_models(), model_lines)


async def show_info(server: str | None, api_key: str | None, as_json: bool, wait_s: float) -> int:
    return await _show(server, api_key, as_json, wait_s, lambda client: client.server_info(), info_lines)


def model_lines(answer: ListModelsResponse) -> list[str]:
    """One line per model: id, engine, state, languages; separated by tabs."""
    return [
        "\t".join(
            (m.id, m.engine, "loaded" if m.loaded else "not loaded", ", ".join(language.name for language in m.languages))
        )
        for m in answer.models
    ]


def info_lines(answer: GetServerInfoResponse) -> list[str]:
    engine, limits, load = answer.engine, answer.limits, answer.load
    state = "ready" if answer.engine_ready else "not ready"
    lines = [
        f"version     {answer.version}",
        f"engine      {engine.name}, model {engine.model}, on {answer.device}, {state}",
        f"chosen      {engine.reason}",
        f"languages   {', '.join(f'{language.name} ({language.code})' for language in answer.languages)}",
        f"formats     {', '.join(answer.audio_formats)}",
        f"limits      {limits.max_inline_bytes} bytes in one message, {limits.max_upload_bytes} bytes in an upload, "
        f"{limits.max_audio_seconds} s, {limits.max_channels} channels",
        f"load        {load.requests} requests, {load.queued_segments} segments waiting, "
        f"{load.running_segments} of {load.slots} slots busy",
    ]
    lines += [f"feature     {f.name}: {'yes' if f.available else f'no: {f.reason}'}" for f in answer.features]
    return lines


async def _show(
    server: str | None,
    api_key: str | None,
    as_json: bool,
    wait_s: float,
    ask: Callable[[AsrClient], Awaitable[M]],
    lines: Callable[[M], list[str]],
) -> int:
    try:
        async with ready_client(server, api_key, wait_s) as client:
            answer = await ask(client)
    except ServiceAbsent as error:
        sys.stderr.write(f"asr: {error}\n")
        return exit_codes.NOT_READY
    except AsrClientError as error:
        sys.stderr.write(f"asr: {complaint(error)}\n")
        return exit_codes.NOT_READY if error.reason in ABSENT else exit_codes.FAILED
    if as_json:
        plain = MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        sys.stdout.write(json.dumps(plain, ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(answer)))
    return exit_codes.OK
