"""POST /v1/audio/transcriptions."""

from __future__ import annotations

from aiohttp import hdrs, web

from rest_bridge.errors import file_too_large
from rest_bridge.form import MAX_FIELD_BYTES, Form
from rest_bridge.formats import render, render_notices
from rest_bridge.keys import REQUEST_ID, SERVICES
from rest_bridge.relay import Relay
from rest_bridge.upstream import forwarded_metadata


async def post_transcription(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    settings = services.settings
    if _is_too_large(request):
        raise file_too_large(request.content_length or 0, settings.max_upload_bytes)
    form = Form(request, max_file_bytes=settings.max_upload_bytes, idle_timeout_s=settings.upload_idle_timeout)
    metadata = forwarded_metadata(request.headers, request[REQUEST_ID])
    async with Relay(services, form, metadata) as relay:
        wanted, said = await relay.run()
    content_type, body = render(wanted, said)
    response = web.Response(text=body, content_type=content_type, charset="utf-8")
    if notices := render_notices(wanted.notices, said.warnings):
        response.headers["x-asr-warnings"] = notices
    return response


async def expect_continue(request: web.Request) -> None:
    """A client that asks first is told to go on only if its upload can be taken; the refusal is the handler's."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and not _is_too_large(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def _is_too_large(request: web.Request) -> bool:
    """Whether the announced length exceeds the limit, with room for the rest of the form."""
    limit_bytes = request.app[SERVICES].settings.max_upload_bytes + MAX_FIELD_BYTES
    return request.content_length is not None and request.content_length > limit_bytes
