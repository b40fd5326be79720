"""Damaged files of every format: each is read or refused, none crashes or hangs a decoder."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from asr_service.audio.limits import AudioLimits
from asr_service.audio.pool import DecodePool
from asr_service.audio.source import SourceFormat
from asr_service.errors import InvalidValue
from asr_service.metrics import Metrics
from tests.synth import RECIPES, make

LIMITS = AudioLimits(max_bytes=50_000_000, max_seconds=600, max_channels=8, spool_bytes=50_000_000)

Damage = Callable[[random.Random, bytearray, bytes], None]


def flip(chance: random.Random, data: bytearray, _: bytes) -> None:
    for _again in range(chance.choice([1, 3, 20, 200])):
        data[chance.randrange(len(data))] = chance.randrange(256)


def cut(chance: random.Random, data: bytearray, _: bytes) -> None:
    del data[chance.randrange(len(data)) :]


def repeat(chance: random.Random, data: bytearray, _: bytes) -> None:
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.randrange(1, 3000)]


def blank(chance: random.Random, data: bytearray, _: bytes) -> None:
    at = chance.randrange(len(data))
    n = len(data[at : at + chance.randrange(1, 3000)])
    data[at : at + n] = bytes(n)


def insert(chance: random.Random, data: bytearray, _: bytes) -> None:
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.randrange(1, 500))


def splice(chance: random.Random, data: bytearray, other: bytes) -> None:
    data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]


DAMAGES: tuple[Damage, ...] = (flip, cut, repeat, blank, insert, splice)


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 4096):
        yield data[at : at + 4096]


@pytest.mark.parametrize("n_files", [150, pytest.param(50_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
async def test_no_damage_crashes_or_hangs_a_decoder(n_files: int, capsys: pytest.CaptureFixture[str]) -> None:
    seed = n_files
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    files = {name: make(name, seconds=1.0) for name in RECIPES}
    outcomes: Counter[str] = Counter()
    pool = DecodePool(LIMITS, max_workers=1, metrics=Metrics(), stall_s=10.0)
    await pool.start()
    for index in range(n_files):
        name, other = chance.choice(list(files)), chance.choice(list(files))
        data = bytearray(files[name])
        damage = chance.choice(DAMAGES)
        damage(chance, data, files[other])
        outcome = "read"
        try:
            async for _ in pool.decode(chunks(bytes(data)), SourceFormat(), interactive=True):
                pass
        except InvalidValue as error:
            outcome = error.reason
        except Exception as error:
            error.add_note(f"file {index} of seed {seed}: {name} after {damage.__name__}")
            raise
        outcomes[outcome] += 1
    await pool.stop()

    assert sum(outcomes.values()) == n_files
    with capsys.disabled():
        print(f"\n{n_files} damaged files: {dict(outcomes)}")  # noqa: T201
