"""Far more requests than fit, through HTTP, on the real processes: clear refusals, a lively server, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic

import aiohttp
import psutil
import pytest

from tests.stack.processes import EXPECTED, SAMPLE, up

N_REQUESTS = 40
PLACES = 4

Answer = tuple[int, str, str | None]
"""Status, text, Retry-After."""


async def post(session: aiohttp.ClientSession, url: str, audio: bytes) -> Answer:
    form = aiohttp.FormData()
    form.add_field("response_format", "text")
    form.add_field("file", audio, filename="sample.flac", content_type="audio/flac")
    async with session.post(f"{url}/v1/audio/transcriptions", data=form) as response:
        return response.status, (await response.text()).strip(), response.headers.get("Retry-After")


async def health_while(session: aiohttp.ClientSession, url: str, burst: asyncio.Future[list[Answer]]) -> list[float]:
    """Seconds that each /health took, one after the other, as long as the burst lasts."""
    took_s: list[float] = []
    while not burst.done():
        started_s = monotonic()
        async with session.get(f"{url}/health") as response:
            assert response.status == 200
            await response.read()
        took_s.append(monotonic() - started_s)
        await asyncio.wait([burst], timeout=0.02)
    return took_s


def memory(processes: list[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


async def test_a_burst_beyond_capacity_is_refused_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    audio = await asyncio.to_thread(SAMPLE.read_bytes)
    with up(MAX_REQUESTS=str(PLACES)) as running:
        await asyncio.to_thread(running.wait_for, "asyncio.run(main())")
        url = f"http://127.0.0.1:{running.ports.http}"
        parents = psutil.Process(running.process.pid).children()
        async with aiohttp.ClientSession() as session:
            await post(session, url, audio)
            before = memory(parents)
            burst = asyncio.gather(*(post(session, url, audio) for _ in range(N_REQUESTS)))
            took_s = await health_while(session, url, burst)
            answers = await burst
            again = await post(session, url, audio)
            after = memory(parents)

    statuses = Counter(status for status, _, _ in answers)
    assert statuses.keys() == {200, 429}
    assert all(text == EXPECTED for status, text, _ in answers if status == 200)
    assert all(int(hint or 0) >= 1 and '"rate_limit_exceeded"' in text for status, text, hint in answers if status == 429)
    assert again[:2] == (200, EXPECTED)
    assert after - before < 64 * 2**20
    with capsys.disabled():
        grown_mib = (after - before) / 2**20
        print(  # noqa: T201
            f"\n{N_REQUESTS} requests for {PLACES} places: {dict(statuses)}; /health during it: median "
            f"{sorted(took_s)[len(took_s) // 2] * 1000:.1f} ms, slowest of {len(took_s)} {max(took_s) * 1000:.1f} ms; "
            f"memory of service and bridge {grown_mib:+.1f} MiB"
        )
