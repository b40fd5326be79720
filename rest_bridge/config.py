"""The settings of the bridge. One field is one environment variable: type, default, unit and reason stand together."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from asr_service.environment import EnvironmentSettings, Refusal
from asr_service.hosts import host_port, is_loopback, reachable
from rest_bridge.spool import MEMORY_BYTES

_MIB = 1024 * 1024
_NO_WEBSOCKET = "the WebSocket endpoints are not part of this version"
_NO_SSE = "streamed answers (SSE) are not part of this version"
_NO_SUBTITLER = "the subtitle endpoint is not part of this version; srt and vtt use fixed limits"
_NO_TRANSLATION = "translation is not part of this version"

REFUSALS = (
    Refusal("WS_BUFFER_SIZE", (), _NO_WEBSOCKET),
    Refusal("WS_OVERLAP_SIZE", (), _NO_WEBSOCKET),
    Refusal("WS_WINDOW_MAX_S", (), _NO_WEBSOCKET),
    Refusal("WS_FLUSH_SILENCE_MS", (), _NO_WEBSOCKET),
    Refusal("ASR_USE_SERVER_VAD", ("false", "0"), _NO_WEBSOCKET),
    Refusal("SSE_CHUNK_SECONDS", (), _NO_SSE),
    Refusal("SSE_OVERLAP_SECONDS", (), _NO_SSE),
    Refusal("SUBTITLE_MAX_DURATION", (), _NO_SUBTITLER),
    Refusal("SUBTITLE_PAUSE_THRESHOLD", (), _NO_SUBTITLER),
    Refusal("SUBTITLE_MIN_DURATION", (), _NO_SUBTITLER),
    Refusal("SUBTITLE_MIN_GAP", (), _NO_SUBTITLER),
    Refusal("TRANSLATE_MODEL", (), _NO_TRANSLATION),
    Refusal("TRANSLATE_TEMPERATURE", (), _NO_TRANSLATION),
    Refusal("TRANSLATE_SRT_TEMPERATURE", (), _NO_TRANSLATION),
    Refusal("OPENAI_BASE_URL", (), _NO_TRANSLATION),
    Refusal("HTTP_WORKERS", ("1",), "the bridge is one process; run several behind the proxy instead"),
)


class BridgeSettings(EnvironmentSettings):
    """What the bridge was told, frozen at the door."""

    refusals: ClassVar[tuple[Refusal, ...]] = REFUSALS

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Beyond loopback, API_KEYS or ALLOW_UNAUTHENTICATED=true is needed"
    )
    http_port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("http_port", "port"),
        description="Port of the HTTP bridge; 0 picks a free one",
    )
    asr_target: str = Field(
        "", description="Where the gRPC service is, HOST:PORT or any gRPC target; empty: this machine and GRPC_PORT"
    )
    grpc_port: int = Field(50051, ge=0, le=65535, description="Port of the gRPC service, where ASR_TARGET is not set")
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated keys, checked by the service; the bridge asks for the service's state with the first"
    )
    allow_unauthenticated: bool = Field(False, description="Listen beyond loopback without keys, on your own responsibility")
    model_aliases: Annotated[tuple[str, ...], NoDecode] = Field(
        ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe"),
        description="Comma-separated model names of other services that mean the default model here",
    )
    max_upload_bytes: int = Field(4096 * _MIB, ge=1024, description="Bytes of one upload")
    bridge_spool_bytes: int = Field(
        1024 * _MIB,
        ge=0,
        description="Bytes of one upload kept in a temporary file, to send them again after a lost connection or a late form "
        "field; an upload beyond that is only streamed",
    )
    bridge_inline_bytes: int = Field(
        MEMORY_BYTES,
        ge=0,
        le=MEMORY_BYTES,
        description="A file up to this many bytes goes to the service as one interactive request; larger ones are streamed",
    )
    upload_idle_timeout: float = Field(
        30.0, gt=0, le=3600, description="Seconds an upload may bring no bytes before it is ended"
    )
    request_timeout: float = Field(
        300.0, gt=0, le=86400, description="Seconds a transcription may go without any progress before it is given up"
    )
    drain_timeout: float = Field(30.0, ge=0, le=3600, description="Seconds that running calls get to finish at shutdown")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["json", "text"] = Field("json", description="json (one object a line) or text")

    @field_validator("api_keys", "model_aliases", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _spell_level(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        level = value.strip().lower()
        return "warning" if level == "warn" else level

    @model_validator(mode="after")
    def _guard_exposure(self) -> Self:
        if not (is_loopback(self.host) or self.api_keys or self.allow_unauthenticated):
            raise ValueError(
                f"HOST={self.host!r}: listening beyond loopback needs API_KEYS, or ALLOW_UNAUTHENTICATED=true to do without"
            )
        return self

    @property
    def target(self) -> str:
        return self.asr_target or host_port(reachable(self.host), self.grpc_port)
