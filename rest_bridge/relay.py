"""Carries one transcription from the form to the service and back.

The law:
* A small file waits for the end of the form and goes as one message, which the service serves before uploads.
* A larger one is sent on while it arrives, with the fields known so far; the service's pace is the client's pace.
* A copy of it is spooled. If a field after the file changes what the service was asked, the call is cancelled and the copy
  sent.
* If the service answers UNAVAILABLE, nothing was answered to the client yet: the copy is sent once more.
* Any other failure ends the reading of the form at once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from rest_bridge.config import BridgeSettings
from rest_bridge.errors import HttpError, UpstreamError, invalid_value
from rest_bridge.form import FilePart, Form, TextField
from rest_bridge.inline import InlineCall
from rest_bridge.metrics import Metrics
from rest_bridge.monitor import Monitor
from rest_bridge.parameters import Parameters, parse_parameters
from rest_bridge.spool import MEMORY_BYTES, Spool
from rest_bridge.transcription import Transcription
from rest_bridge.upload import CallEnded, UploadCall
from rest_bridge.upstream import Metadata, Upstream

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2  # before sending again, where the service gives no hint
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Services:
    """What every request needs."""

    settings: BridgeSettings
    upstream: Upstream
    monitor: Monitor
    metrics: Metrics


class Relay:
    """One transcription. `async with` it, then `run` it once."""

    def __init__(self, services: Services, form: Form, metadata: Metadata) -> None:
        self._services = services
        self._settings = services.settings
        self._form = form
        self._metadata = metadata
        self._fields: list[tuple[str, str]] = []
        self._extra_files: list[str] = []
        self._content_type = ""
        self._has_file = False
        self._held: list[bytes] = []  # the file, as long as it is small
        self._held_bytes = 0
        self._spool = Spool(services.settings.bridge_spool_bytes)
        self._call: UploadCall | InlineCall | None = None
        self._refusal: asyncio.Future[UpstreamError] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Relay:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._call is not None:
            await self._call.aclose()
        await self._spool.give_up()
        # A failure's traceback leads back here; without these its audio would wait for the cycle collector.
        self._call = None
        self._held.clear()

    async def run(self) -> tuple[Parameters, Transcription]:
        """Raises HttpError and UpstreamError."""
        await self._read_form()
        if not self._has_file:
            raise HttpError(400, "the form has no `file`", code="missing_required_parameter", param="file")
        wanted = self._parameters(is_complete=True)
        if self._call is None:
            self._call = self._start_inline(wanted)
        elif wanted.config != self._call.config:
            if not self._spool.is_whole:
                limit = self._settings.bridge_spool_bytes
                raise invalid_value(None, f"with a file of more than {limit} bytes, put every other form field before `file`")
            await self._send_again(wanted, "late_field")
        return wanted, await self._answer(wanted)

    async def _answer(self, wanted: Parameters) -> Transcription:
        assert self._call is not None  # noqa: S101  for the type checker
        await self._call.finish()
        try:
            return await self._call.outcome
        except UpstreamError as error:
            if not self._can_repeat(error):
                raise
            log.info("the service answered %s %s; the upload is sent again", error.status, error.reason)
            await asyncio.sleep(min(error.retry_after_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S))
        await self._send_again(wanted, "unavailable")
        await self._call.finish()
        return await self._call.outcome

    async def _read_form(self) -> None:
        """Reads to the end of the form, or to the service's refusal."""
        reading = asyncio.create_task(self._take_parts())
        try:
            either: set[asyncio.Future[Any]] = {reading, self._refusal}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()  # seen; it counts only if nothing said more
        if self._refusal.done():
            raise self._refusal.result()
        reading.result()

    async def _take_parts(self) -> None:
        async for part in self._form.parts():
            if isinstance(part, TextField):
                self._fields.append((part.name, part.value))
            elif part.name == "file":
                await self._take_file(part)
            else:
                self._extra_files.append(part.name)
                async for _ in part.pieces():
                    pass

    async def _take_file(self, part: FilePart) -> None:
        if self._has_file:
            raise invalid_value("file", "the form has more than one `file`")
        self._has_file = True
        self._content_type = part.content_type
        inline_bytes = self._inline_bytes()
        call: UploadCall | None = None
        async for piece in part.pieces():
            self._services.metrics.upload_bytes.inc(len(piece))
            await self._spool.append(piece)
            self._held.append(piece)
            self._held_bytes += len(piece)
            if call is None and self._held_bytes > inline_bytes:
                call = self._call = self._start_upload(self._parameters(is_complete=False))
                call.outcome.add_done_callback(self._on_end)
            if call is not None:
                held, self._held = self._held, []
                await self._pass_on(call, held)

    async def _pass_on(self, call: UploadCall, pieces: list[bytes]) -> None:
        """Nothing happens where the call has ended: the pieces are spooled for another attempt, or `_on_end` refuses."""
        try:
            for piece in pieces:
                await call.write(piece)
        except CallEnded:
            if not self._spool.is_whole:
                await call.outcome  # raises: there can be no other attempt

    def _inline_bytes(self) -> int:
        limits = self._services.monitor.info.limits if self._services.monitor.info is not None else None
        theirs = limits.max_inline_bytes if limits is not None and limits.max_inline_bytes else MEMORY_BYTES
        return min(self._settings.bridge_inline_bytes, theirs)

    def _on_end(self, outcome: asyncio.Task[Transcription]) -> None:
        """The first call ended while the form is being read."""
        if outcome.cancelled() or self._refusal.done():
            return
        error = outcome.exception()
        if isinstance(error, UpstreamError) and not self._can_repeat(error):
            self._refusal.set_result(error)

    def _can_repeat(self, error: UpstreamError) -> bool:
        is_kept = isinstance(self._call, InlineCall) or self._spool.is_whole
        return error.is_safe_to_repeat and is_kept and not self._services.monitor.is_down

    async def _send_again(self, wanted: Parameters, cause: str) -> None:
        assert self._call is not None  # noqa: S101  for the type checker
        self._services.metrics.resends.labels(cause).inc()
        was_inline = isinstance(self._call, InlineCall)
        await self._call.aclose()
        if was_inline:
            self._call = self._start_inline(wanted)
            return
        call = self._call = self._start_upload(wanted)
        try:
            async for piece in self._spool.pieces():
                await call.write(piece)
        except CallEnded:
            return  # its outcome says how

    def _start_inline(self, wanted: Parameters) -> InlineCall:
        return InlineCall(
            self._services.upstream,
            wanted.config,
            b"".join(self._held),
            metadata=self._metadata,
            timeout_s=self._settings.request_timeout,
        )

    def _start_upload(self, wanted: Parameters) -> UploadCall:
        return UploadCall(
            self._services.upstream,
            wanted.config,
            content_type=self._content_type,
            metadata=self._metadata,
            progress_timeout_s=self._settings.request_timeout,
        )

    def _parameters(self, *, is_complete: bool) -> Parameters:
        return parse_parameters(
            self._fields, aliases=self._settings.model_aliases, is_complete=is_complete, extra_files=self._extra_files
        )
