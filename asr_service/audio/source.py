"""What a client says about the bytes it sends, and whether that can be right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from asr_service.errors import InvalidValue

MIN_RAW_RATE_HZ = 8_000
MAX_RAW_RATE_HZ = 48_000
_RAW_RATES_HZ = f"{MIN_RAW_RATE_HZ} to {MAX_RAW_RATE_HZ}"


class Encoding(Enum):
    """How bytes become samples. CONTAINER: the bytes say it themselves."""

    CONTAINER = "container"
    PCM_S16LE = "pcm_s16le"
    PCM_F32LE = "pcm_f32le"
    MULAW = "mulaw"
    ALAW = "alaw"

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel; 0 for containers."""
        return _SAMPLE_BYTES[self]


_SAMPLE_BYTES = {
    Encoding.CONTAINER: 0,
    Encoding.PCM_S16LE: 2,
    Encoding.PCM_F32LE: 4,
    Encoding.MULAW: 1,
    Encoding.ALAW: 1,
}


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """The client's description. `content_type` is only ever quoted in messages: file names and MIME types are not trusted."""

    encoding: Encoding = Encoding.CONTAINER
    sample_rate_hz: int | None = None
    channels: int | None = None
    content_type: str = ""

    def check(self, *, max_channels: int) -> None:
        """Raises InvalidValue naming the field when the description can never be right."""
        if self.encoding is Encoding.CONTAINER:
            _check_container(self)
        else:
            _check_raw(self, max_channels)


def _check_container(fmt: SourceFormat) -> None:
    for field, value in (("sample_rate_hz", fmt.sample_rate_hz), ("channels", fmt.channels)):
        if value is not None:
            raise InvalidValue.of(f"format.{field}", f"{value} was given with a container, which states its own; leave it out")


def _check_raw(fmt: SourceFormat, max_channels: int) -> None:
    if fmt.sample_rate_hz is None:
        raise InvalidValue.of("format.sample_rate_hz", f"needed with the raw encoding {fmt.encoding.name}")
    if not MIN_RAW_RATE_HZ <= fmt.sample_rate_hz <= MAX_RAW_RATE_HZ:
        raise InvalidValue.of("format.sample_rate_hz", f"{fmt.sample_rate_hz} is outside {_RAW_RATES_HZ}")
    if fmt.channels is not None and not 1 <= fmt.channels <= max_channels:
        raise InvalidValue.of("format.channels", f"{fmt.channels} is outside 1 to {max_channels}")
