"""The pool with real processes: what it promises its callers, also when they or the processes misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import numpy as np
import pytest

from asr_service.audio.decoder_process import DecoderProcess
from asr_service.audio.pool import DecodePool
from asr_service.audio.source import Encoding, SourceFormat
from asr_service.errors import (
    AsrError,
    AudioTooLarge,
    AudioTruncated,
    AudioUndecodable,
    DecoderRestarting,
    Draining,
    InvalidValue,
)
from asr_service.metrics import Metrics
from tests.synth import make, tone
from tests.unit.audio.pools import HOUR_BYTES, RAW, WAV, Endless, counted, decoded, limits, pool, until


async def test_a_source_comes_out_as_it_went_in() -> None:
    samples = (tone(2.5) * 32767).astype("<i2")
    async with pool() as made:
        heard = await decoded(made, samples.tobytes(), RAW)

        assert np.array_equal(heard, samples.astype(np.float32) / 32768)
        assert counted(made, "asr_audio_seconds_total") == pytest.approx(2.5)


@pytest.mark.parametrize("name", ["wav-s16", "mp3", "m4a", "m4a-fragmented", "ogg-opus", "webm-opus", "flac"])
async def test_containers_come_through(name: str) -> None:
    async with pool() as made:
        assert len(await decoded(made, make(name, 2.0))) == pytest.approx(32_000, abs=1_000)


async def test_a_process_serves_one_source_after_the_other() -> None:
    async with pool() as made:
        for _ in range(5):
            await decoded(made, make("wav-s16", 1.0))

        assert made.n_processes == 1


async def test_errors_arrive_as_they_were_raised() -> None:
    async with pool() as made:
        with pytest.raises(AudioUndecodable, match="look like text"):
            await decoded(made, b"hello" * 1_000)
        with pytest.raises(AudioTruncated, match="ends early"):
            await decoded(made, make("wav-s16", 1.0)[:10_000])
        with pytest.raises(InvalidValue) as caught:
            await decoded(made, b"", SourceFormat(Encoding.MULAW))
        assert [violation.field for violation in caught.value.violations] == ["format.sample_rate_hz"]
        assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000


async def test_an_early_verdict_arrives_while_bytes_are_still_coming() -> None:
    async def text() -> AsyncIterator[bytes]:
        while True:
            yield b"these are words " * 1_000

    async with pool() as made:
        with pytest.raises(AudioUndecodable, match="look like text"):
            [_ async for _ in made.decode(text(), WAV, interactive=True)]


async def test_too_many_bytes_are_refused_on_their_way() -> None:
    source = Endless()
    async with pool(max_bytes=1_000_000) as made:
        with pytest.raises(AudioTooLarge, match="limit 1000000 bytes"):
            [_ async for _ in made.decode(source, RAW, interactive=True)]

    assert source.n_taken <= 1_032_000


async def test_what_the_source_raises_reaches_the_consumer() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        raise AsrError("the client went away")

    async with pool() as made:
        with pytest.raises(AsrError, match="the client went away"):
            [_ async for _ in made.decode(failing(), RAW, interactive=True)]
        assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000


async def test_a_consumer_that_does_not_read_stops_the_source() -> None:
    source = Endless()
    async with pool() as made:
        blocks = made.decode(source, RAW, interactive=True)
        await anext(blocks)
        n_taken = -1
        while n_taken != source.n_taken:
            n_taken = source.n_taken
            await asyncio.sleep(0.1)

        assert source.n_taken < 2_000_000 < HOUR_BYTES
        await blocks.aclose()


async def test_a_consumer_that_leaves_frees_the_process() -> None:
    async with pool() as made:
        blocks = made.decode(Endless(), RAW, interactive=True)
        await anext(blocks)
        await blocks.aclose()

        assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000
        assert made.n_processes == 1
        assert sum(counted(made, "asr_decoder_restarts_total", why=why) for why in ("crash", "stall", "stuck")) == 0


async def test_a_cancelled_consumer_frees_the_process_and_closes_the_source() -> None:
    is_closed = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        try:
            yield bytes(1_000)
            await asyncio.Event().wait()
        finally:
            is_closed.set()

    async with pool() as made:

        async def consume() -> None:
            async for _ in made.decode(slow(), RAW, interactive=True):
                pass

        task = asyncio.create_task(consume())
        await until(lambda: made.busy == 1)
        task.cancel()
        await asyncio.wait([task])

        assert is_closed.is_set()
        assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000


async def test_a_source_that_is_given_up_while_it_waits_leaves_the_queue() -> None:
    async with pool() as made:
        blocks = made.decode(Endless(), RAW, interactive=True)
        await anext(blocks)
        task = asyncio.create_task(decoded(made, make("wav-s16", 1.0)))
        await until(lambda: made.waiting == 1)
        task.cancel()
        await asyncio.wait([task])

        assert made.waiting == 0
        assert counted(made, "asr_decoders_waiting") == 0
        await blocks.aclose()


async def test_a_slow_client_is_no_stall() -> None:
    data = make("wav-s16", 1.0)
    may_go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield data[:1_000]
        await may_go_on.wait()
        yield data[1_000:]

    async with pool(stall_s=0.2) as made:
        asyncio.get_running_loop().call_later(0.6, may_go_on.set)
        heard = [len(block) async for block in made.decode(slow(), WAV, interactive=True)]

    assert sum(heard) == 16_000


async def test_two_sources_are_decoded_at_once() -> None:
    async with pool(2) as made:
        first, second = (made.decode(Endless(), RAW, interactive=True) for _ in range(2))
        for _ in range(20):
            await anext(first)
            await anext(second)

        assert made.busy == 2
        await first.aclose()
        await second.aclose()


async def test_batch_sources_leave_a_process_for_an_interactive_one() -> None:
    async with pool(2) as made:
        upload = made.decode(Endless(), RAW, interactive=False)
        await anext(upload)
        waiting = asyncio.create_task(decoded(made, make("wav-s16", 1.0), interactive=False))
        await until(lambda: made.waiting == 1)

        assert len(await decoded(made, make("wav-s16", 1.0), interactive=True)) == 16_000
        assert not waiting.done()
        await upload.aclose()
        assert len(await waiting) == 16_000


@pytest.mark.parametrize("failpoint", ["decode.source=crash", "decode.block=crash", "decode.block=error"])
async def test_a_crash_is_told_and_the_next_source_works(failpoint: str) -> None:
    async with pool(failpoints=failpoint) as made:
        with pytest.raises(DecoderRestarting) as caught:
            await decoded(made, make("wav-s16", 3.0))
        assert caught.value.retry_after_s == 1.0

        assert len(await decoded(made, make("wav-s16", 3.0))) == 48_000
        assert counted(made, "asr_decoder_restarts_total", why="crash") == 1


@pytest.mark.parametrize("failpoint", ["decode.source=hang", "decode.block=hang"])
async def test_a_hang_is_ended_by_the_stall_guard(failpoint: str) -> None:
    async with pool(failpoints=failpoint, stall_s=1.0) as made:
        with pytest.raises(DecoderRestarting, match=r"did nothing for 1 s"):
            await decoded(made, make("wav-s16", 3.0))

        assert len(await decoded(made, make("wav-s16", 3.0))) == 48_000
        assert counted(made, "asr_decoder_restarts_total", why="stall") == 1


async def test_a_process_that_does_not_come_back_is_replaced() -> None:
    made = DecodePool(limits(), max_workers=1, metrics=Metrics(), stall_s=30.0, ready_s=0.2)
    await made.start()
    blocks = made.decode(Endless(), RAW, interactive=True)
    await anext(blocks)  # it is in the middle of a source
    (process,) = made._processes
    os.kill(process.pid, signal.SIGSTOP)
    await blocks.aclose()

    assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000
    assert counted(made, "asr_decoder_restarts_total", why="stuck") == 1
    await made.stop()


async def test_a_process_killed_while_idle_is_replaced_unseen_or_told() -> None:
    async with pool() as made:
        os.kill(made._idle[0].process.pid, 9)
        await until(lambda: not made._idle[0].process.is_alive)

        assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000


async def test_processes_beyond_the_warm_ones_retire() -> None:
    async with pool(3, warm=1, retire_s=0.1) as made:
        await asyncio.gather(*(decoded(made, make("wav-s16", 1.0)) for _ in range(3)))
        await until(lambda: made.n_processes == 1)

        assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000


async def test_stopping_answers_everyone() -> None:
    async with pool() as made:
        blocks = made.decode(Endless(), RAW, interactive=True)
        await anext(blocks)

        async def read_on() -> None:
            async for _ in blocks:
                pass

        running = asyncio.create_task(read_on())
        waiting = asyncio.create_task(decoded(made, make("wav-s16", 1.0)))
        await until(lambda: made.waiting == 1)
        await made.stop()

        outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DecoderRestarting, Draining]
        with pytest.raises(Draining):
            await decoded(made, make("wav-s16", 1.0))


async def test_many_sources_of_all_kinds_each_get_one_answer() -> None:
    good, bad = make("wav-s16", 1.0), make("flac", 1.0)[:5_000]
    async with pool(2) as made:
        tasks = [
            asyncio.create_task(decoded(made, good if n % 3 else bad, interactive=n % 2 == 0), name=str(n)) for n in range(30)
        ]
        await until(lambda: sum(task.done() for task in tasks) >= 5)
        for task in tasks[25:]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: made.busy == 0)

        kinds = {type(outcome).__name__ for outcome in outcomes}
        assert kinds <= {"ndarray", "AudioTruncated", "CancelledError"}
        assert made.waiting == 0
        assert made.n_processes <= 2


async def test_a_process_dies_with_its_parent() -> None:
    process = await DecoderProcess.start("decode.source=hang")
    process._control.close()

    async with asyncio.timeout(20):
        assert await process._process.wait() == 0


async def test_an_interrupt_from_the_keyboard_does_not_end_a_process() -> None:
    async with pool() as made:
        os.kill(made._idle[0].process.pid, 2)

        assert len(await decoded(made, make("wav-s16", 1.0))) == 16_000


def test_a_process_imports_little() -> None:
    code = "import sys, asr_service.audio.worker; print(*{name.split('.')[0] for name in sys.modules})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"grpc", "onnxruntime", "prometheus_client", "torch", "pydantic", "google"} & set(done.stdout.split())


def test_it_runs_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> int:
        async with pool(2) as made:
            blocks = made.decode(Endless(), RAW, interactive=True)
            await anext(blocks)
            await blocks.aclose()
            with pytest.raises(AudioUndecodable):
                await decoded(made, b"hello" * 100_000)
            return len(await decoded(made, make("flac", 2.0)))

    assert uvloop.run(main()) == 32_000
