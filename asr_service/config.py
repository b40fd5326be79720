"""The settings of the service. One field is one environment variable: type, default, unit and reason stand together."""

from __future__ import annotations

import os
import re
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from asr_service.environment import EnvironmentSettings, Refusal
from asr_service.failpoints import Failpoints
from asr_service.hosts import is_loopback

_MIB = 1024 * 1024
_ENCODER = "an encoder from another file is not part of this version"
_PROCESS = "a supervised engine process is not part of this version"

REFUSALS = (
    Refusal("USE_SPECULATIVE", ("false", "0"), "speculative decoding is not part of this version"),
    Refusal("USE_VLLM", ("false", "0"), "the vLLM adapter is not part of this version"),
    Refusal("USE_CAUSAL_ENCODER", ("false", "0"), "a causal encoder is not part of this version"),
    Refusal("ONNX_ENCODER_PATH", (), _ENCODER),
    Refusal("TRT_ENCODER_PATH", (), _ENCODER),
    Refusal("GATEWAY_MODE", ("false", "0"), _PROCESS),
    Refusal("WORKER_MODE", ("thread",), _PROCESS),
    Refusal("WORKER_HOST", (), _PROCESS),
    Refusal("WORKER_PORT", (), _PROCESS),
    Refusal("NUMA_NODE", ("-1",), "pinning to a NUMA node is not part of this version"),
    Refusal("USE_GRANIAN", ("false", "0"), "HTTP is served by aiohttp"),
)

DEFAULT_MODEL_ID = "Qwen/Qwen3-ASR-0.6B"
"""The checkpoint of ENGINE=qwen3 and reference where MODEL_ID is empty, and the one that ENGINE=auto looks for."""


class Settings(EnvironmentSettings):
    """What the service was told, frozen at the door."""

    refusals: ClassVar[tuple[Refusal, ...]] = REFUSALS

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Beyond loopback, API_KEYS or ALLOW_UNAUTHENTICATED=true is needed"
    )
    grpc_port: int = Field(50051, ge=0, le=65535, description="Port of the gRPC service; 0 picks a free one")
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port of the Prometheus metrics; 0 picks a free one")
    metrics_enabled: bool = Field(True, description="Serve metrics at all")
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated keys; when set, every call but health checks needs one"
    )
    allow_unauthenticated: bool = Field(False, description="Listen beyond loopback without keys, on your own responsibility")

    engine: Literal["auto", "qwen3", "reference", "pocketsphinx", "fake", "vllm"] = Field(
        "auto",
        description="Which recogniser: qwen3 (Qwen3-ASR), reference (the stock qwen-asr package, to compare with), "
        "pocketsphinx (embedded, English), fake (tests), or auto: qwen3 where it is installed and its weights are on disk, "
        "else pocketsphinx",
    )
    model_id: str = Field(
        "",
        validation_alias=AliasChoices("model_id", "model_name"),
        description="Model to load. For qwen3 and reference: a folder with a checkpoint, or a name on the Hugging Face hub; "
        f"empty: {DEFAULT_MODEL_ID}",
    )
    dual_model: bool = Field(
        False,
        description="Two models: FAST_MODEL_ID guesses at live speech while it goes on, MODEL_ID decides and does all else. "
        "The settings of qwen3 hold for each of them, KV_CACHE_MIB too; ENGINE=qwen3 only",
    )
    fast_model_id: str = Field(
        "", description="The other model of DUAL_MODEL=true: a folder with a checkpoint, or a name on the Hugging Face hub"
    )
    forced_aligner_id: str = Field(
        "",
        description="Forced aligner that gives qwen3's and reference's words their times and serves Align: a folder with a "
        "Qwen3-ForcedAligner checkpoint, or a name on the Hugging Face hub, such as Qwen/Qwen3-ForcedAligner-0.6B. Loaded when "
        "it is needed first; empty: none",
    )
    device: str = Field(
        "auto", description="Where qwen3 and reference compute: auto (CUDA if there is one), cpu, cuda or cuda:N"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="What qwen3 and reference compute in: float32, bfloat16, float16, or auto: bfloat16 on CUDA, else float32",
    )
    quantize: Literal["", "int8"] = Field(
        "",
        description="int8: qwen3 keeps its decoder's layers in 8 bits on a CPU, which is faster and takes less memory, and may "
        "choose another word here and there; empty: as they are",
    )
    max_inference_batch_size: int = Field(
        0, ge=0, le=1024, description="Segments that qwen3 recognises at once; 0: 32 on CUDA, 8 on a CPU"
    )
    max_new_tokens: int = Field(
        0,
        ge=0,
        le=65_536,
        description="Most tokens of one segment's text, for qwen3 and reference; 0: from the segment's length",
    )
    kv_cache_mib: int = Field(
        0, ge=0, le=1_048_576, description="MiB of qwen3's attention cache, for all segments together; 0: by device"
    )
    gpu_memory_fraction: float = Field(
        0.85,
        ge=0.05,
        le=0.95,
        description="Share of the GPU's memory left beside the weights that qwen3's cache takes where KV_CACHE_MIB is 0",
    )
    use_cuda_graphs: bool = Field(
        True,
        description="Capture the steps of qwen3 on CUDA once and replay them, which is faster; without effect on a CPU",
    )
    step_tokens: int = Field(
        0,
        ge=0,
        le=1_048_576,
        description="Prompt tokens that qwen3 reads in one step, which live speech waits for; 0: 2048 on CUDA, 256 on a CPU",
    )
    encode_windows: int = Field(
        0, ge=0, le=1024, description="Windows of 8 s of audio that qwen3 encodes in one step; 0: 32 on CUDA, 2 on a CPU"
    )
    live_window_seconds: Literal[1, 2, 4, 8] = Field(
        8,
        description="Window in seconds of qwen3's encoder for live speech, partial texts and finals alike: shorter ones cost "
        "less for each text and hear less around each word; recordings always have 8",
    )
    torch_threads: int = Field(0, ge=0, le=1024, description="CPU threads of qwen3 and reference; 0: one per CPU core")
    engine_slots: int = Field(
        0,
        ge=0,
        le=256,
        description="Processes of pocketsphinx or reference, each with one segment at a time; 0: one per CPU "
        "core, and one for reference",
    )
    idle_timeout: float = Field(
        0.0, ge=0, description="Seconds without work after which the engine gives its memory back; 0: never"
    )

    request_timeout: float = Field(300.0, gt=0, le=86400, description="Deadline in seconds of a unary call that brings none")
    max_requests: int = Field(
        128, ge=1, le=100_000, description="Requests inside the server at once; more are refused with a retry hint"
    )
    max_resumable_sessions: int = Field(
        64,
        ge=0,
        le=100_000,
        description="Live sessions whose clients are gone and that wait to be resumed at once; more are dropped. Each keeps "
        "its last utterance and events",
    )
    max_queued_segments: int = Field(1024, ge=1, le=1_000_000, description="Segments waiting for the engine at once")
    max_expected_wait: float = Field(
        60.0,
        ge=0,
        le=86400,
        description="Seconds of probable wait for the recogniser from which new requests are refused with a retry hint; "
        "0: no limit",
    )
    segment_soft_seconds: float = Field(
        30.0, ge=1, le=1200, description="Length in seconds from which a stretch of speech is cut at its next short pause"
    )
    segment_hard_seconds: float = Field(
        60.0, ge=10, le=1200, description="Length in seconds at which a stretch of speech is cut even without a pause"
    )
    segment_overlap_seconds: float = Field(
        1.5, ge=0, le=5, description="Seconds before a cut in speech that are heard again, so that no word is cut; 0: none"
    )
    max_inline_bytes: int = Field(32 * _MIB, ge=1024, le=1024 * _MIB, description="Audio bytes in one unary message")
    max_inline_bytes_total: int = Field(
        512 * _MIB, ge=1024, description="Audio bytes of all unary messages inside the server at once"
    )
    max_upload_bytes: int = Field(4096 * _MIB, ge=1024, description="Bytes of one upload")
    max_audio_seconds: float = Field(12 * 3600.0, gt=0, le=500 * 3600.0, description="Length in seconds of one source")
    max_channels: int = Field(8, ge=1, le=64, description="Channels of one source")
    max_spool_bytes: int = Field(
        1024 * _MIB,
        ge=1024,
        description="Bytes spooled to disk for a container that must be read out of order (MP4 with its index last)",
    )
    upload_idle_timeout: float = Field(
        30.0, gt=0, le=3600, description="Seconds an upload may bring no bytes, or its events stay unread, before it is ended"
    )
    decode_workers: int = Field(0, ge=0, le=256, description="Most decoder processes; 0: twice the CPU cores, at least 4")
    live_decode_workers: int = Field(
        8,
        ge=1,
        le=256,
        description="Most decoder processes of live sessions that send a container, each for as long as it lasts",
    )
    drain_timeout: float = Field(30.0, ge=0, le=3600, description="Seconds that running calls get to finish at shutdown")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["json", "text"] = Field("json", description="json (one object a line) or text")
    failpoints: str = Field(
        "", description="Faults to inject, for trying out recovery: NAME=error|crash|hang[*N], comma-separated"
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value

    @field_validator("log_level", "engine", "device", "dtype", "quantize", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        lower = value.strip().lower()
        return "warning" if lower == "warn" else lower

    @field_validator("failpoints")
    @classmethod
    def _known_failpoints(cls, value: str) -> str:
        Failpoints(value)
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
            raise ValueError("expected auto, cpu, cuda or cuda:N")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.max_inline_bytes > self.max_inline_bytes_total:
            total = self.max_inline_bytes_total
            raise ValueError(f"MAX_INLINE_BYTES={self.max_inline_bytes}: expected at most MAX_INLINE_BYTES_TOTAL={total}")
        if self.segment_soft_seconds >= self.segment_hard_seconds:
            hard = self.segment_hard_seconds
            raise ValueError(
                f"SEGMENT_SOFT_SECONDS={self.segment_soft_seconds:g}: expected less than SEGMENT_HARD_SECONDS={hard:g}"
            )
        if self.dual_model and self.engine != "qwen3":
            raise ValueError(f"DUAL_MODEL=true: ENGINE={self.engine} cannot do that; expected ENGINE=qwen3")
        if self.dual_model and not self.fast_model_id:
            raise ValueError("DUAL_MODEL=true: expected FAST_MODEL_ID to name the model that guesses")
        if self.fast_model_id and not self.dual_model:
            raise ValueError(f"FAST_MODEL_ID={self.fast_model_id!r}: expected DUAL_MODEL=true with it")
        if not self.is_loopback and not self.api_keys and not self.allow_unauthenticated:
            raise ValueError(
                f"HOST={self.host!r}: listening beyond loopback needs API_KEYS, or ALLOW_UNAUTHENTICATED=true to do without"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def effective_decode_workers(self) -> int:
        return self.decode_workers or max(4, 2 * cpu_count())


def cpu_count() -> int:
    """Cores this process may use (its affinity, not the machine's total)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
