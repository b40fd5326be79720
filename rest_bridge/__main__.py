"""`python -m rest_bridge`: settings → upstream → HTTP server; SIGTERM or SIGINT drains, a second one stops at once."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import signal
import sys
from collections.abc import Callable

from asr_service import logs
from asr_service.environment import BadSettings
from rest_bridge.app import running_bridge
from rest_bridge.config import BridgeSettings

log = logging.getLogger("rest_bridge")

_BAD_SETTINGS = 2
_CANNOT_LISTEN = 1


def main() -> int:
    try:
        settings = BridgeSettings.load()
    except BadSettings as error:
        print(error, file=sys.stderr)  # noqa: T201  before there is a log
        return _BAD_SETTINGS
    logs.configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            return runner.run(_serve(settings))
        except OSError as error:
            log.error("cannot listen on %s port %s: %s", settings.host, settings.http_port, error)  # noqa: TRY400  said in full
            return _CANNOT_LISTEN


async def _serve(settings: BridgeSettings) -> int:
    stopped = asyncio.Event()
    serving = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopped.is_set() and serving is not None:
            serving.cancel()
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        async with running_bridge(settings) as url:
            log.info("listening", extra={"url": url, "upstream": settings.target})
            await stopped.wait()
            log.info("draining", extra={"at_most_s": settings.drain_timeout})
    except asyncio.CancelledError:
        log.warning("stopped before running requests ended")
        return 1
    log.info("stopped")
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
