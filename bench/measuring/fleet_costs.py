"""What a round of live speech costs a replica: from what was measured, or from what a device is specified to do.

A round hears a chunk of new audio of some streams at once: their open windows are encoded again, their prompts read, and some
tokens decoded, all streams in the same steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]

CADENCE_S = 2.0
_AUDIO_TOKENS_PER_S = 13
_WINDOW_S = 8.0
_GPU_LIMIT_S = 0.5


@dataclass(frozen=True)
class ChunkWork:
    """What one chunk of one stream asks for: seconds of audio to encode, prompt tokens to read, tokens to decode."""

    encoded_s: float
    n_prompt: float
    n_steps: float
    source: str


# The open window is encoded again with each chunk: 2, 4, 6 and 8 s of it by turns. Its tokens are read again, with those around
# them and the text so far of an utterance of 8 s; two seconds bring eight tokens.
DESIGNED_WORK = ChunkWork(5.0, 5.0 * _AUDIO_TOKENS_PER_S + 16 + 16, 8.0, "of the algorithm: not counted in a run")


def counted_work(streaming: Rows) -> ChunkWork:
    """As counted by bench/streaming.py (C7), where it has run; else as the algorithm has it."""
    encoded = _value(streaming, r"guess each 2 s: seconds encoded for each second of audio$")
    read = _value(streaming, r"guess each 2 s: prompt tokens read for each guess beside the text so far, mean$")
    steps = _value(streaming, r"guess each 2 s: decode steps for each token of the final$")
    if encoded is None or read is None or steps is None:
        return DESIGNED_WORK
    return ChunkWork(encoded * CADENCE_S, read + 16, steps * DESIGNED_WORK.n_steps, "counted: bench/results/streaming.json, C7")


@dataclass(frozen=True)
class Costs:
    """Seconds of a round of k chunks: `fixed_s + k * chunk_s`; at most `batch` chunks go into one.

    `limit_s`: the p95, from a chunk's arrival to its text, up to which such a replica counts as in time.
    """

    name: str
    kind: str  # measured, floor or assumed
    fixed_s: float
    chunk_s: float
    batch: int
    limit_s: float

    def round_s(self, k: Any) -> Any:
        return self.fixed_s + k * self.chunk_s

    def slower(self, share: float, name: str) -> Costs:
        """As fast as this share of it."""
        return replace(self, name=name, kind="assumed", fixed_s=self.fixed_s / share, chunk_s=self.chunk_s / share)


def measured_cpu(engine: Rows, work: ChunkWork) -> Costs:
    """One core and the checkpoint of bench/engine.py, in float32, from its rows C1, C2 and C3.

    C1 is the encoder and the prompt of 30 s together, so a chunk counts as the longer of what it encodes and what it reads.
    """
    first_s = _seconds(engine, "first token of 30 s, alone, float32")
    alone_s = _seconds(engine, "30 s and 100 tokens, alone, float32")
    eight_s = _seconds(engine, "8 at once, 2 to 30 s, 4 tokens per second, float32; one by one")
    audio_s = first_s / 30
    step_1_s = (alone_s - first_s) / 99
    # 106 s of audio in 8 clips, 4 tokens a second: 120 steps for the longest, 424 rows in all.
    step_mean_s = (eight_s - 106 * audio_s) / 120
    row_s = (step_mean_s - step_1_s) / (424 / 120 - 1)
    heard_s = max(work.encoded_s, work.n_prompt / _AUDIO_TOKENS_PER_S)
    chunk_s = heard_s * audio_s + work.n_steps * row_s
    return Costs("one core, 121 M checkpoint, float32", "measured", work.n_steps * (step_1_s - row_s), chunk_s, 8, CADENCE_S)


@dataclass(frozen=True)
class Size:
    """A released checkpoint, in bfloat16: bytes read by each step, operations for a second encoded, a token read or decoded."""

    name: str
    step_bytes: float
    encode_flop: float
    token_flop: float


SIZES = (
    Size("0.6B", 2 * 596.0e6, 9.03e9, 2 * 440.5e6),
    Size("1.7B", 2 * 1720.6e6, 12.48e9, 2 * 1409.4e6),
)
_KV_BYTES = 114_688  # of one token, both sizes
H200_BYTES_S = 4.8e12
H200_FLOP_S = 989e12


def floor_h200(size: Size, work: ChunkWork, batch: int = 128) -> Costs:
    """What the data sheet of an H200 SXM allows at best: no launch, no wait, no byte read twice."""
    row_s = work.n_prompt * _KV_BYTES / H200_BYTES_S + size.token_flop / H200_FLOP_S
    chunk_s = (work.encoded_s * size.encode_flop + work.n_prompt * size.token_flop) / H200_FLOP_S + work.n_steps * row_s
    fixed_s = (work.n_steps + 1) * size.step_bytes / H200_BYTES_S
    return Costs(f"H200, {size.name}, floor of its data sheet", "floor", fixed_s, chunk_s, batch, _GPU_LIMIT_S)


def measured_gpu(gpu: Rows, size: Size, work: ChunkWork, batch: int = 128) -> Costs | None:
    """From the rows H1, H2, H4 and H5 of bench/gpu.py, where it has run on a GPU; None where it has not."""
    steps = _by_number(gpu, rf"{size.name}\b.*decode step, batch (\d+), .*until the tokens are read$")
    windows = _by_number(gpu, rf"{size.name}\b.*encoder, (\d+) windows of 8 s, frames on the host$")
    first_ms = _value(gpu, rf"{size.name}\b.*first token of a clip of 30 s, features ready$")
    if len(steps) < 2 or len(windows) < 2 or first_ms is None:
        return None
    row_ms, step_ms = np.polyfit(*zip(*steps, strict=True), 1)
    window_ms, encode_ms = np.polyfit(*zip(*windows, strict=True), 1)
    prompt_ms = max(0.0, first_ms - encode_ms - 4 * window_ms) / (30 * _AUDIO_TOKENS_PER_S + 16)
    chunk_ms = work.encoded_s / _WINDOW_S * window_ms + work.n_prompt * prompt_ms + work.n_steps * row_ms
    fixed_ms = encode_ms + work.n_steps * step_ms
    return Costs(f"GPU of bench/gpu.py, {size.name}", "measured", fixed_ms / 1000, chunk_ms / 1000, batch, _GPU_LIMIT_S)


def _value(rows: Rows, pattern: str) -> float | None:
    found = [float(row["value"]) for row in rows if re.search(pattern, row["what"])]
    return found[0] if found else None


def _seconds(rows: Rows, what: str) -> float:
    (found,) = [row for row in rows if row["what"] == what]
    return float(found["conditions"]["seconds"])


def _by_number(rows: Rows, pattern: str) -> list[tuple[int, float]]:
    matches = [(re.search(pattern, row["what"]), float(row["value"])) for row in rows]
    return [(int(match[1]), value) for match, value in matches if match]
