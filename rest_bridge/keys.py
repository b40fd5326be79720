"""Names under which things are kept with an application and a request."""

from __future__ import annotations

from aiohttp import web

from rest_bridge.relay import Services

SERVICES = web.AppKey("services", Services)
REQUEST_ID = "request_id"
STARTED_S = "started_s"
