"""The part of `asr demo` that shows the Qwen3-ASR engine: the small checkpoint of the project beside the embedded engine."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asr_service.cli.calls import SAMPLE, shortened
from asr_service.engines import extras

_FOLDER = Path("qwen3")  # beside the sample
_CHECKPOINT = _FOLDER / "small"
_CLIPS = _FOLDER / "speech"


@dataclass(frozen=True, slots=True)
class Qwen3Demo:
    """A checkpoint, a clip, and what is said in it."""

    checkpoint: Path
    clip: Path
    text: str


def find_qwen3_demo() -> Qwen3Demo | str:
    """What there is to show; a line for the user where there is nothing."""
    if lack := extras.QWEN3.lack():
        return f"not shown: {lack}"
    for data in (SAMPLE.parent, Path(__file__).parents[2] / SAMPLE.parent):
        manifest = data / _CLIPS / "manifest.json"
        if manifest.is_file() and (data / _CHECKPOINT / "config.json").is_file():
            clips = json.loads(manifest.read_text(encoding="utf-8"))
            clip = next(clip for clip in clips if clip["kind"] == "clean" and clip["language"] == "en")
            return Qwen3Demo(shortened(data / _CHECKPOINT), data / _CLIPS / clip["file"], clip["text"])
    return f"not shown: the small checkpoint, {SAMPLE.parent / _CHECKPOINT}, comes with the source"


async def over_qwen3(demo: Qwen3Demo, environ: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and transcript of the command with this engine; its complaints go where ours go."""
    env = {**environ, "ENGINE": "qwen3", "MODEL_ID": str(demo.checkpoint)}
    arguments = ("-m", "asr_service", "transcribe", str(demo.clip))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=env, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode().strip()
