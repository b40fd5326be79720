"""The settings of the service. One field is one environment variable: type, default, unit and reason stand together."""

from __future__ import annotations

import os
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from asr_service.environment import EnvironmentSettings, Refusal
from asr_service.failpoints import Failpoints
from asr_service.hosts import is_loopback

_ENGINE = "the Qwen3-ASR engine is not part of this version"
_MIB = 1024 * 1024

REFUSALS = (
    Refusal("DTYPE", ("auto", "float32"), f"{_ENGINE}; the embedded engine computes in float32"),
    Refusal("MAX_INFERENCE_BATCH_SIZE", ("1",), _ENGINE),
    Refusal("MAX_NEW_TOKENS", ("0",), _ENGINE),
    Refusal("QUANTIZE", (), _ENGINE),
    Refusal("DUAL_MODEL", ("false", "0"), _ENGINE),
    Refusal("FAST_MODEL_ID", (), _ENGINE),
    Refusal("USE_CUDA_GRAPHS", ("false", "0"), _ENGINE),
    Refusal("USE_SPECULATIVE", ("false", "0"), _ENGINE),
    Refusal("USE_VLLM", ("false", "0"), "the vLLM adapter is not part of this version"),
    Refusal("USE_CAUSAL_ENCODER", ("false", "0"), _ENGINE),
    Refusal("ONNX_ENCODER_PATH", (), _ENGINE),
    Refusal("TRT_ENCODER_PATH", (), _ENGINE),
    Refusal("FORCED_ALIGNER_ID", (), "the forced aligner is not part of this version"),
    Refusal("GATEWAY_MODE", ("false", "0"), "a supervised engine process is not part of this version"),
    Refusal("WORKER_MODE", ("thread",), "a supervised engine process is not part of this version"),
    Refusal("WORKER_HOST", (), "a supervised engine process is not part of this version"),
    Refusal("WORKER_PORT", (), "a supervised engine process is not part of this version"),
    Refusal("NUMA_NODE", ("-1",), "pinning to a NUMA node is not part of this version"),
    Refusal("USE_GRANIAN", ("false", "0"), "HTTP is served by aiohttp"),
    Refusal("GPU_MEMORY_FRACTION", (), _ENGINE),
)


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

    engine: Literal["auto", "pocketsphinx", "fake", "qwen3", "vllm", "reference"] = Field(
        "auto", description="Which recogniser: auto, pocketsphinx (embedded, English) or fake (tests)"
    )
    model_id: str = Field(
        "", validation_alias=AliasChoices("model_id", "model_name"), description="Model to load; empty: the engine's default"
    )
    device: str = Field("auto", description="Where the engine computes: auto or cpu")
    engine_slots: int = Field(0, ge=0, le=256, description="Segments recognised at once; 0: one per CPU core")
    idle_timeout: float = Field(
        0.0, ge=0, description="Seconds without work after which the engine gives its memory back; 0: never"
    )

    request_timeout: float = Field(300.0, gt=0, le=86400, description="Deadline in seconds of a unary call that brings none")
    max_requests: int = Field(
        128, ge=1, le=100_000, description="Requests inside the server at once; more are refused with a retry hint"
    )
    max_queued_segments: int = Field(1024, ge=1, le=1_000_000, description="Segments waiting for the engine at once")
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

    @field_validator("log_level", "engine", "device", mode="before")
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
        if value not in ("auto", "cpu"):
            raise ValueError(f"{_ENGINE}, and only it uses a GPU; expected auto or cpu")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.max_inline_bytes > self.max_inline_bytes_total:
            total = self.max_inline_bytes_total
            raise ValueError(f"MAX_INLINE_BYTES={self.max_inline_bytes}: expected at most MAX_INLINE_BYTES_TOTAL={total}")
        if not self.is_loopback and not self.api_keys and not self.allow_unauthenticated:
            raise ValueError(
                f"HOST={self.host!r}: listening beyond loopback needs API_KEYS, or ALLOW_UNAUTHENTICATED=true to do without"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def effective_slots(self) -> int:
        return self.engine_slots or cpu_count()

    @property
    def effective_decode_workers(self) -> int:
        return self.decode_workers or max(4, 2 * cpu_count())


def cpu_count() -> int:
    """Cores this process may use (its affinity, not the machine's total)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
