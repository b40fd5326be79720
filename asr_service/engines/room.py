"""Whether models fit side by side, before any is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_service.engine.protocol import EngineFailed

_MIB = 2**20
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Need:
    """What one model takes, in bytes."""

    model_id: str
    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache

    def __str__(self) -> str:
        return f"{self.model_id} needs {_mib(self.total)} (weights {_mib(self.weights)}, cache {_mib(self.cache)})"


def check_room(needs: Sequence[Need], room: int, where: str) -> None:
    """Raises EngineFailed, naming each size and the room in bytes, when they do not fit together."""
    if sum(need.total for need in needs) > room:
        raise EngineFailed(
            f"DUAL_MODEL=true: {' and '.join(map(str, needs))}, but {where} has room for {_mib(room)}; "
            "set KV_CACHE_MIB, take a smaller checkpoint, or unset DUAL_MODEL"
        )


def host_room(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Bytes that this process can still take: what the machine has to spare, or less where a container is held to less."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = (_read(cgroup / name) for name in ("memory.max", "memory.current"))
    if limit is None or used is None:
        return available
    return min(available, max(0, limit - used))


def _read(path: Path) -> int | None:
    """A number of bytes; None where there is no such file, or it says that there is no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _mib(n_bytes: int) -> str:
    return f"{-(-n_bytes // _MIB)} MiB"
