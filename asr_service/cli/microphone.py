"""The microphone: through the sounddevice package where it works, else through the system's arecord or parec."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any

from asr_service.cli.live_audio import AudioClock, LiveAudio, raw_audio

_READ_BYTES = 3_200
_MOST_WAITING = 600  # blocks; a service that does not take them for so long has failed


class NoMicrophone(Exception):
    """Nothing here can record; the message says what would help."""


def from_microphone(rate_hz: int) -> LiveAudio:
    """16-bit samples, mono. Raises NoMicrophone; iterating raises OSError when the recording breaks off."""
    clock = AudioClock()
    try:
        sounddevice = import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: the package is there, the PortAudio library is not
        command = _recorder(rate_hz)
        if command is None:
            raise NoMicrophone(
                f"no microphone can be opened: sounddevice cannot be used ({error}), and neither arecord nor parec is there; "
                "pip install -e '.[mic]', which needs the PortAudio library, or install alsa-utils"
            ) from None
        return LiveAudio(_recorded(command, rate_hz, clock), raw_audio(rate_hz), clock)
    return LiveAudio(_captured(sounddevice, rate_hz, clock), raw_audio(rate_hz), clock)


def _recorder(rate_hz: int) -> list[str] | None:
    if shutil.which("arecord"):
        return ["arecord", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", str(rate_hz)]
    if shutil.which("parec"):
        return ["parec", "--raw", "--format=s16le", "--channels=1", f"--rate={rate_hz}", "--latency-msec=50"]
    return None


async def _captured(sounddevice: Any, rate_hz: int, clock: AudioClock) -> AsyncGenerator[bytes]:
    blocks: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def on_block(data: Any, n_samples: int, _time: Any, _status: Any) -> None:
        """Called by a thread of the library."""
        block = bytes(data)
        loop.call_soon_threadsafe(blocks.put_nowait, block)

    try:
        stream = sounddevice.RawInputStream(samplerate=rate_hz, channels=1, dtype="int16", callback=on_block)
        with stream:
            while True:
                block = await blocks.get()
                if blocks.qsize() > _MOST_WAITING:
                    raise OSError("the service does not take the audio as fast as it is recorded")
                clock.start(len(block) / 2 / rate_hz)
                yield block
    except sounddevice.PortAudioError as error:
        raise OSError(f"the microphone cannot be read: {error}") from None


async def _recorded(command: list[str], rate_hz: int, clock: AudioClock) -> AsyncGenerator[bytes]:
    # In a process group of its own: a Ctrl-C is for us, who then stop it.
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, process_group=0)
    assert process.stdout is not None, "it was asked for"  # noqa: S101  # narrows the type
    try:
        while block := await process.stdout.read(_READ_BYTES):
            clock.start(len(block) / 2 / rate_hz)
            yield block
        raise OSError(f"{command[0]} ended with exit code {await process.wait()}")
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
