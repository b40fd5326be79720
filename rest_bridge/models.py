"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from aiohttp import web

from asr_service.pb.asr.v1 import info_pb2
from rest_bridge.errors import HttpError
from rest_bridge.keys import REQUEST_ID, SERVICES
from rest_bridge.upstream import forwarded_metadata


async def get_models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": list((await _models(request)).values())})


async def get_model(request: web.Request) -> web.Response:
    wanted = request.match_info["id"]
    models = await _models(request)
    if wanted not in models:
        message = f"the model {wanted[:128]!r} does not exist; available: {', '.join(models)}"
        raise HttpError(404, message, code="model_not_found", param="model")
    return web.json_response(models[wanted])


async def _models(request: web.Request) -> dict[str, dict[str, object]]:
    """By id: what the service has, then the names of other services that mean its default model."""
    services = request.app[SERVICES]
    known = await services.upstream.list_models(forwarded_metadata(request.headers, request[REQUEST_ID]))
    models = {model.id: _describe(model.id, model) for model in known}
    if known:
        for alias in services.settings.model_aliases:
            models.setdefault(alias, _describe(alias, known[0]))
    return models


def _describe(model_id: str, model: info_pb2.Model) -> dict[str, object]:
    return {
        "id": model_id,
        "object": "model",
        "created": model.created.seconds,
        "owned_by": model.owner,
        "shutdown_date": None,
    }
