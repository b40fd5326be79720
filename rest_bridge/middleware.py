"""Around every request: its id, its errors, its line in the log, its place in the metrics, and the headers of its answer."""

from __future__ import annotations

import logging
import re
import time
import uuid
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from rest_bridge.errors import HttpError, UpstreamError, from_upstream, internal_error
from rest_bridge.keys import REQUEST_ID, SERVICES, STARTED_S

access_log = logging.getLogger("rest_bridge.access")
log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_CLIENT_GONE = 499  # as nginx logs it; nobody is there to read it
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The only middleware: begins, answers, and accounts for a request."""
    request[STARTED_S] = time.monotonic()
    given = request.headers.get("x-request-id", "")
    request[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    status = _CLIENT_GONE
    request.app[SERVICES].metrics.in_flight.inc()
    try:
        response = await _respond(request, handler)
        status = response.status
        return response
    finally:
        request.app[SERVICES].metrics.in_flight.dec()
        _account(request, status)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Before the head of an answer is sent."""
    response.headers["Server"] = "asr-rest-bridge"
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if REQUEST_ID in request:
        response.headers["x-request-id"] = request[REQUEST_ID]
        response.headers["openai-processing-ms"] = str(round((time.monotonic() - request[STARTED_S]) * 1000))


async def _respond(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except HttpError as error:
        return _render(request, error)
    except UpstreamError as error:
        log.info("upstream: %s", error.status, extra={"request_id": request[REQUEST_ID], "reason": error.reason})
        return _render(request, from_upstream(error))
    except web.HTTPException as error:
        return _render(request, _from_aiohttp(request, error))
    except ConnectionError:
        return web.Response(status=_CLIENT_GONE)
    except Exception:
        log.exception("a handler failed", extra={"request_id": request[REQUEST_ID]})
        return _render(request, internal_error())


def _render(request: web.Request, error: HttpError) -> web.Response:
    response = web.json_response(error.body, status=error.status, headers=error.headers)
    if not request.content.is_eof():  # the rest of the body is not wanted
        response.force_close()
    return response


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> HttpError:
    if error.status == HTTPStatus.NOT_FOUND:
        return HttpError(404, f"there is nothing at {request.method} {request.path[:256]}", code="unknown_url")
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = error.headers.get("Allow", "")
        message = f"{request.method} is not allowed here; allowed: {allowed}"
        return HttpError(405, message, code="method_not_allowed", headers={"Allow": allowed})
    return HttpError(error.status, error.reason, code="http_error")


def _account(request: web.Request, status: int) -> None:
    metrics = request.app[SERVICES].metrics
    took_s = time.monotonic() - request[STARTED_S]
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unmatched"
    metrics.requests.labels(route, str(status)).inc()
    metrics.seconds.labels(route).observe(took_s)
    fields = {
        "request_id": request[REQUEST_ID],
        "method": request.method,
        "route": route,
        "status": status,
        "duration_ms": round(took_s * 1000, 1),
        "bytes_in": request.content.total_bytes,
    }
    is_probe = route in ("/health", "/ready", "/metrics")
    access_log.log(logging.DEBUG if is_probe else logging.INFO, "request", extra=fields)
