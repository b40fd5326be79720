"""What happens around every RPC: ids, keys, metrics, the access log, and errors becoming statuses.

A handler raises AsrErrors and never names a status code. Health checks need no key, so that probes work without secrets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from inspect import isasyncgen, iscoroutine
from time import monotonic
from typing import Any

import grpc
from grpc.aio import ServicerContext

from asr_service.errors import AsrError, Draining, InternalError
from asr_service.grpc_api.call import Call, current_call
from asr_service.grpc_api.keys import ApiKeys
from asr_service.grpc_api.status import to_rich_status
from asr_service.logs import request_id
from asr_service.metrics import Metrics

log = logging.getLogger(__name__)
_ROUTINE = ("GetServerInfo", "ListModels", "ServerReflectionInfo")  # asked by machines all the time
_UNKEYED = ("/grpc.health.v1.Health/",)

Context = ServicerContext[Any, Any]


async def _finish(handling: Any, context: Context) -> Any:
    """What the handler returns: a response, or nothing where it writes or yields its responses.

    No headers are sent ahead of a response: a call whose headers are out can no longer be sent again by a proxy, and a process
    that is killed between the two would lose it. The request id is in the trailers.
    """
    if isasyncgen(handling):
        async with aclosing(handling):
            async for response in handling:
                await context.write(response)
        return None
    return await handling


def as_answer(raised: Exception, call: Call) -> AsrError:
    """The error that the caller hears of. Our own faults go to the log whole and to the caller without a word of the inside."""
    if isinstance(raised, AsrError):
        return raised
    log.error("unexpected error", extra={"rpc": call.rpc}, exc_info=raised)
    return InternalError(f"internal error; the log has it under request id {call.request_id}")


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the server. While `draining` is set, new calls of the service are turned away."""

    def __init__(self, keys: ApiKeys, metrics: Metrics) -> None:
        self._keys = keys
        self._metrics = metrics
        self._n_inside = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    async def wait_idle(self) -> None:
        """Returns when no call is inside. Health checks and watches do not count: a watch lasts as long as its client."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_UNKEYED):
            return handler
        makers: dict[tuple[bool, bool], Any] = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        make = makers[handler.request_streaming, handler.response_streaming]
        behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        made: grpc.RpcMethodHandler[Any, Any] = make(
            self._wrap(behavior, handler_call_details.method), handler.request_deserializer, handler.response_serializer
        )
        return made

    def _wrap(self, behavior: Any, method: str) -> Callable[[Any, Context], Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            handling = behavior(request, context)
            del request  # grpc.aio keeps an aborted call's frames until the cycle collector runs; the audio must not wait there
            return await self._run(method, context, handling)

        return call

    async def _run(self, method: str, context: Context, handling: Any) -> Any:
        """Awaits a handler, not begun yet, with all that belongs around it. A failure becomes the call's status."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        call = Call.of(method.rpartition("/")[2], metadata, context.time_remaining())
        self._enter(call, context)
        error: AsrError | None = None
        status = "OK"
        try:
            self._keys.check(metadata)
            self._check_open()
            return await _finish(handling, context)
        except (asyncio.CancelledError, GeneratorExit):
            status = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            status = "ABORTED"
            raise
        except Exception as raised:
            error = as_answer(raised, call)
            status = error.status
        finally:
            if iscoroutine(handling):
                handling.close()  # one that was refused has never begun
            self._leave()
            self._account(call, status, error, context.peer())
        rich = to_rich_status(error, call.request_id)
        error = None  # its traceback leads to the handler's frames
        return await context.abort_with_status(rich)

    def _enter(self, call: Call, context: Context) -> None:
        context.set_trailing_metadata(call.headers)
        current_call.set(call)
        request_id.set(call.request_id)
        self._metrics.requests_in_flight.labels(call.rpc).inc()
        self._n_inside += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._n_inside -= 1
        if self._n_inside == 0:
            self._idle.set()

    def _check_open(self) -> None:
        if self.draining:
            raise Draining("the server is shutting down", retry_after_s=1.0)

    def _account(self, call: Call, status: str, error: AsrError | None, peer: str) -> None:
        spent_s = monotonic() - call.arrival_s
        reason = error.reason if error else ""
        self._metrics.requests_in_flight.labels(call.rpc).dec()
        self._metrics.requests.labels(call.rpc, status, reason).inc()
        self._metrics.request_seconds.labels(call.rpc).observe(spent_s)
        if error is not None and error.status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNAUTHENTICATED"):
            self._metrics.refusals.labels(reason).inc()
        fields: dict[str, object] = {"rpc": call.rpc, "status": status, "ms": round(spent_s * 1000), "peer": peer}
        if error is not None:
            fields |= {"reason": reason, "error": error.message}
        if call.trace_id:
            fields["trace_id"] = call.trace_id
        level = logging.DEBUG if status == "OK" and call.rpc in _ROUTINE else logging.INFO
        log.log(level, "call", extra=fields)
