"""The pool with live sources: what they say is heard at once, and silence is no fault of theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from asr_service.audio.exchange import StallGuard
from asr_service.audio.pool import DecodePool
from asr_service.errors import AudioUndecodable, DecoderRestarting
from asr_service.metrics import Metrics
from tests.synth import make
from tests.unit.audio.pools import RAW, WAV, Endless, counted, decoded, limits, pieces, pool, until
from tests.unit.audio.spoken import SPOKEN, spoken


class Talking:
    """A live client: says what it is given, and then nothing more."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.n_said = 0

    def __aiter__(self) -> Talking:
        return self

    async def __anext__(self) -> bytes:
        if self.n_said == len(self._chunks):
            await asyncio.Event().wait()
        self.n_said += 1
        return self._chunks[self.n_said - 1]


@pytest.mark.parametrize("name", SPOKEN)
async def test_a_live_client_is_heard_while_it_says_nothing_more(name: str) -> None:
    chunks = spoken(name, 2.0)
    said = Talking(*(chunk.data for chunk in chunks if chunk.spoken_s is not None and chunk.spoken_s < 1.5))
    n_heard = 0
    async with pool() as made, contextlib.aclosing(made.decode(said, WAV, interactive=True, live=True)) as blocks:
        while n_heard < 1.2 * 16_000:
            n_heard += len(await anext(blocks))


async def test_what_comes_at_once_is_not_cut_into_crumbs() -> None:
    async with pool() as made:
        blocks = [len(block) async for block in made.decode(pieces(make("ogg-opus", 20.0)), WAV, interactive=True, live=True)]

    assert sum(blocks) == 20 * 16_000
    assert len(blocks) < 100  # of 1,000 packets
    assert max(blocks) <= 16_000


async def test_a_live_source_that_needs_its_end_is_refused_while_bytes_are_still_coming() -> None:
    async with pool() as made:
        with pytest.raises(AudioUndecodable, match="MP4 without its index in front"):
            [_ async for _ in made.decode(Talking(make("m4a", 2.0)[:500]), WAV, interactive=True, live=True)]


async def test_a_live_client_that_pauses_is_no_stall() -> None:
    data = make("ogg-opus", 2.0)
    may_go_on = asyncio.Event()

    async def pausing() -> AsyncIterator[bytes]:
        yield data[: len(data) // 2]
        await may_go_on.wait()
        yield data[len(data) // 2 :]

    async with pool(stall_s=0.2) as made:
        asyncio.get_running_loop().call_later(0.6, may_go_on.set)
        heard = [len(block) async for block in made.decode(pausing(), WAV, interactive=True, live=True)]

    assert sum(heard) == 32_000


@pytest.mark.parametrize("failpoint", ["decode.source=hang", "decode.block=hang"])
async def test_a_hang_is_seen_however_little_the_client_has_said(failpoint: str) -> None:
    said = Talking(*(chunk.data for chunk in spoken("ogg-opus", 1.0)))  # fits the socket, where it stays

    async with pool(failpoints=failpoint, stall_s=0.5) as made:
        with pytest.raises(DecoderRestarting, match=r"did nothing for 0\.5 s"):
            [_ async for _ in made.decode(said, WAV, interactive=True, live=True)]
        await until(lambda: counted(made, "asr_decoder_restarts_total", why="stall") == 1)


async def test_input_alone_is_no_sign_of_life() -> None:
    stalled = asyncio.Event()
    guard = StallGuard(0.05, stalled.set)
    guard.set_output_wanted(True)

    def go_on() -> bool:
        guard.set_input(True)
        return stalled.is_set()

    await until(go_on)


async def test_without_input_or_without_a_consumer_nothing_stalls() -> None:
    guard = StallGuard(0.0, lambda: pytest.fail("stalled"))
    for has_input, is_wanted in [(True, False), (False, False), (False, True)]:
        guard.set_input(has_input)
        guard.set_output_wanted(is_wanted)
        for _ in range(3):
            await asyncio.sleep(0)


async def test_pools_show_the_sums_of_their_load() -> None:
    metrics = Metrics()
    pools = [DecodePool(limits(), max_workers=1, warm=0, metrics=metrics) for _ in range(2)]
    held = [made.decode(Endless(), RAW, interactive=True) for made in pools]
    for blocks in held:
        await anext(blocks)
    waiting = asyncio.create_task(decoded(pools[0], make("wav-s16", 1.0)))
    await until(lambda: pools[0].waiting == 1)

    assert counted(pools[0], "asr_decoders_busy") == 2
    assert counted(pools[0], "asr_decoders_waiting") == 1
    for blocks in held:
        await blocks.aclose()
    await waiting
    await until(lambda: not any(made.busy for made in pools))
    assert counted(pools[0], "asr_decoders_busy") == counted(pools[0], "asr_decoders_waiting") == 0
    for made in pools:
        await made.stop()
