"""How large the measurements are: on a GPU as the targets want them, or small enough to try the program out on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr_service.model.config import ModelConfig
from measuring.gpu_models import LARGE, SMALL, TINY


@dataclass(frozen=True)
class Targets:
    """ "Superb" of one model: milliseconds, or audio seconds per second. Keys are batch sizes, or
    numbers of live streams."""

    step_ms: dict[int, float] = field(default_factory=dict)
    roofline: dict[int, float] = field(default_factory=dict)
    window_ms: dict[int, float] = field(default_factory=dict)
    first_token_ms: float | None = None
    throughput: dict[int, float] = field(default_factory=dict)
    live_p50_ms: dict[int, float] = field(default_factory=dict)
    live_p95_ms: dict[int, float] = field(default_factory=dict)
    long_throughput: float | None = None


@dataclass(frozen=True)
class Scale:
    """`batches` of decode rows with `context` tokens each, `windows` at once, clips of `clip_s` (and `long_s`) with
    `tokens_per_s` tokens of text. `kv_share`: of the free memory, for the cache. `waits`: runs of what takes long.
    So many live `streams` bring a chunk every `chunk_s` for `stream_s`; `live_streams` of them beside `live_uploads`."""

    models: dict[str, tuple[ModelConfig, Targets]]
    dtype: str
    batches: tuple[int, ...]
    context: int
    windows: tuple[int, ...]
    clip_s: float
    long_s: float
    long_clips: int
    tokens_per_s: int
    live_s: tuple[float, float]
    streams: tuple[int, ...]
    chunk_s: float
    stream_s: float
    live_streams: int
    live_uploads: int
    repeats: int
    waits: int
    kv_bytes: int
    kv_share: float

    @property
    def has_targets(self) -> bool:
        """Figures at toy size mean nothing."""
        return any(targets != Targets() for _, targets in self.models.values())


_SMALL_TARGETS = Targets(
    step_ms={1: 0.9, 32: 1.15, 128: 2.8},
    roofline={1: 0.3, 32: 0.58, 128: 0.66},
    window_ms={1: 1.2, 32: 6.5},
    first_token_ms=10.0,
    throughput={1: 300, 32: 4500, 128: 6000},
    long_throughput=2600,
    live_p50_ms={1: 10, 128: 40, 512: 120},
    live_p95_ms={1: 15, 128: 80, 512: 250},
)
_LARGE_TARGETS = Targets(
    step_ms={1: 1.35, 32: 1.75, 128: 3.6},
    roofline={1: 0.6, 32: 0.68, 128: 0.66},
    first_token_ms=10.0,
    throughput={1: 180, 32: 2400, 128: 3500},
    long_throughput=2000,
)

FULL = Scale(
    models={"0.6B": (SMALL, _SMALL_TARGETS), "1.7B": (LARGE, _LARGE_TARGETS)},
    dtype="bfloat16",
    batches=(1, 32, 128),
    context=450,
    windows=(1, 32),
    clip_s=30.0,
    long_s=120.0,
    long_clips=128,
    tokens_per_s=4,
    live_s=(30.0, 300.0),
    streams=(1, 128, 512, 1024, 1536),
    chunk_s=2.0,
    stream_s=10.0,
    live_streams=128,
    live_uploads=32,
    repeats=50,
    waits=5,
    kv_bytes=44 << 30,
    kv_share=0.6,
)
TRIAL = Scale(
    models={"tiny": (TINY, Targets())},
    dtype="float32",
    batches=(1, 2),
    context=40,
    windows=(1, 2),
    clip_s=3.0,
    long_s=9.0,
    long_clips=2,
    tokens_per_s=2,
    live_s=(3.0, 17.0),
    streams=(1, 2),
    chunk_s=0.25,
    stream_s=0.5,
    live_streams=2,
    live_uploads=1,
    repeats=2,
    waits=1,
    kv_bytes=16 << 20,
    kv_share=1.0,
)
