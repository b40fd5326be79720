"""Whether two models fit side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr_service.engine.protocol import EngineFailed
from asr_service.engines.room import Need, check_room, host_room

MIB = 2**20
GIB = 2**30
MAIN = Need("big", 3 * GIB, GIB)
FAST = Need("small", GIB, 512 * MIB)


def test_what_fits_passes() -> None:
    check_room([MAIN, FAST], MAIN.total + FAST.total, "cpu")


def test_what_does_not_fit_names_both_sizes_and_the_room() -> None:
    with pytest.raises(EngineFailed) as refusal:
        check_room([MAIN, FAST], MAIN.total + FAST.total - 1, "cuda:0")

    assert str(refusal.value).startswith(
        "DUAL_MODEL=true: big needs 4096 MiB (weights 3072 MiB, cache 1024 MiB) and "
        "small needs 1536 MiB (weights 1024 MiB, cache 512 MiB), but cuda:0 has room for 5632 MiB; "
    )


@pytest.mark.parametrize(
    ("limit", "used", "room"),
    [(None, None, 4 * GIB), ("max", GIB, 4 * GIB), (3 * GIB, GIB, 2 * GIB), (64 * GIB, GIB, 4 * GIB), (GIB, 2 * GIB, 0)],
)
def test_the_hosts_room_is_what_the_machine_or_the_container_has_to_spare(
    tmp_path: Path, limit: object, used: object, room: int
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:  16777216 kB\nMemAvailable:  {4 * GIB // 1024} kB\n")
    for name, value in (("memory.max", limit), ("memory.current", used)):
        if value is not None:
            (tmp_path / name).write_text(f"{value}\n")

    assert host_room(meminfo, tmp_path) == room


def test_this_machine_has_room() -> None:
    assert host_room() > 0
