"""`asr demo`: everything on free ports, one recording three ways, and whether each way got it right; then, where it is
installed, the Qwen3-ASR engine beside the embedded one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from asr_service.cli import exit_codes
from asr_service.cli.calls import find_sample
from asr_service.cli.children import ChildDied, NotReady, Ports, Stack, first_of, free_port, running_stack
from asr_service.cli.demo_qwen3 import find_qwen3_demo, over_qwen3
from asr_service.cli.up import stop_signals
from asr_service.client import AsrClient, AsrClientError

HOST = "127.0.0.1"
CALL_S = 120.0
OURS = {
    "ENGINE": "pocketsphinx",
    "HOST": HOST,
    "API_KEYS": "",
    "MODEL_ID": "",
    "MODEL_NAME": "",
    "DEVICE": "",
    "DTYPE": "",
    "LOG_LEVEL": "warning",
}


class WrongAnswer(Exception):
    """A way in did not answer with a transcript."""


async def run_demo(sample: Path | None) -> int:
    """Returns the exit code."""
    sample = sample or find_sample()
    if sample is None or not sample.is_file():
        sys.stderr.write(f"asr demo: no such recording: {sample or 'the sample comes with the source; give --sample FILE'}\n")
        return exit_codes.USAGE
    text = sample.with_suffix(".txt")
    if not text.is_file():
        sys.stderr.write(f"asr demo: {text} should hold what is said in {sample}\n")
        return exit_codes.USAGE
    ports = Ports(free_port(), free_port(), free_port())
    with stop_signals() as (stopped, hurried):
        async with running_stack(ports, {**os.environ, **OURS}, HOST, drain_s=10.0, hurried=hurried) as stack:
            return await first_of(_interrupted(stopped), _show(stack, sample, text.read_text().strip()))


async def _show(stack: Stack, sample: Path, expected: str) -> int:
    try:
        await stack.wait_ready(HOST)
    except (ChildDied, NotReady) as error:
        sys.stderr.write(f"asr demo: {error}\n")
        return exit_codes.FAILED
    return max(await _compare(stack, sample, expected), await _show_qwen3(stack))


async def _compare(stack: Stack, sample: Path, expected: str) -> int:
    _say("expected", expected)
    code = exit_codes.OK
    ways: dict[str, Callable[[Ports, Path], Awaitable[str]]] = {"gRPC": over_grpc, "HTTP": over_http, "asr": over_command}
    for name, way in ways.items():
        try:
            async with asyncio.timeout(CALL_S):
                text = await way(stack.ports, sample)
        except (AsrClientError, aiohttp.ClientError, WrongAnswer, TimeoutError) as error:
            _say(name, f"failed: {error or type(error).__name__}")
            code = exit_codes.FAILED
            continue
        is_right = spoken(text) == spoken(expected)
        _say(name, text if is_right else f"{text}   <- not what is said")
        code = code if is_right else exit_codes.FAILED
    _say("result", "all three are right" if code == exit_codes.OK else "not right")
    return code


async def _show_qwen3(stack: Stack) -> int:
    demo = find_qwen3_demo()
    if isinstance(demo, str):
        _say("qwen3", demo)
        return exit_codes.OK
    _say("expected", f"{demo.text}   (a synthetic clip, {demo.clip.name})")
    try:
        async with asyncio.timeout(2 * CALL_S):
            _say("embedded", await over_grpc(stack.ports, demo.clip))
            code, text = await over_qwen3(demo, {**os.environ, **OURS})
    except (AsrClientError, TimeoutError) as error:
        _say("qwen3", f"failed: {error or type(error).__name__}")
        return exit_codes.FAILED
    is_right = code == 0 and spoken(text) == spoken(demo.text)
    _say("qwen3", text if is_right else f"{text or f'failed with exit code {code}'}   <- not what is said")
    return exit_codes.OK if is_right else exit_codes.FAILED


async def over_grpc(ports: Ports, sample: Path) -> str:
    async with AsrClient(f"{HOST}:{ports.grpc}") as client:
        response = await client.transcribe(await asyncio.to_thread(sample.read_bytes), timeout_s=CALL_S)
        return str(response.transcript.text)


async def over_http(ports: Ports, sample: Path) -> str:
    form = aiohttp.FormData()
    form.add_field("file", await asyncio.to_thread(sample.read_bytes), filename=sample.name)
    url = f"http://{HOST}:{ports.http}/v1/audio/transcriptions"
    async with aiohttp.ClientSession() as session, session.post(url, data=form) as answer:
        body = await answer.text()
    if answer.status != 200:
        raise WrongAnswer(f"HTTP {answer.status}: {body}")
    return str(json.loads(body)["text"])


async def over_command(ports: Ports, sample: Path) -> str:
    arguments = ("-m", "asr_service", "transcribe", "--server", f"{HOST}:{ports.grpc}", str(sample))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise WrongAnswer(f"exit code {process.returncode}")
    return output.decode().strip()


def spoken(text: str) -> str:
    """What is compared: the words, without case and punctuation."""
    return " ".join(re.findall(r"[\w']+", text.lower()))


async def _interrupted(stopped: asyncio.Event) -> int:
    await stopped.wait()
    return exit_codes.INTERRUPTED


def _say(name: str, text: str) -> None:
    sys.stdout.write(f"{name:9} {text}\n")
    sys.stdout.flush()
