"""Where a command's calls go: the service it was told, or one that lives in this process as long as the command."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asr_service.client import NOT_READY, UNREACHABLE, AsrClient, AsrClientError

ABSENT = (NOT_READY, UNREACHABLE)


class ServiceAbsent(Exception):
    """No service answers, or it cannot get ready."""


@asynccontextmanager
async def ready_client(server: str | None, api_key: str | None, wait_s: float) -> AsyncIterator[AsrClient]:
    """A client of a service that is ready. Raises ServiceAbsent, BadSettings."""
    if server is None:
        async with _local_service() as address, AsrClient(address) as client:
            yield client
        return
    async with AsrClient(server, api_key=api_key) as client:
        try:
            await client.wait_ready(wait_s)
        except AsrClientError as error:
            raise ServiceAbsent(error.message) from None
        yield client


@asynccontextmanager
async def _local_service() -> AsyncIterator[str]:
    """The whole service in this process, on a socket that only this user can reach."""
    from asr_service import app, logs
    from asr_service.audio.vad import VadModelMissing
    from asr_service.config import Settings
    from asr_service.engine.protocol import EngineFailed

    logs.configure("error", "text")
    settings = Settings.load(metrics_enabled=False, api_keys=(), log_level="error")
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        try:
            async with app.serving(settings, address=f"unix:{folder}/socket") as running:
                yield running.address
        except (EngineFailed, VadModelMissing) as error:
            raise ServiceAbsent(str(error)) from None
