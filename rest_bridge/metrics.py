"""What the bridge counts, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The counters of one bridge."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "bridge_requests_total", "Requests answered, by route and status", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "bridge_request_seconds",
            "From the request's headers to its answer",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("bridge_requests_in_flight", "Requests being answered", registry=self.registry)
        self.upload_bytes = Counter("bridge_upload_bytes_total", "Bytes of audio received", registry=self.registry)
        self.resends = Counter(
            "bridge_resends_total",
            "Uploads sent to the service again: late_field or unavailable",
            ("cause",),
            registry=self.registry,
        )
        self.upstream_serving = Gauge(
            "bridge_upstream_serving", "Whether the service says it is serving", registry=self.registry
        )

    def render(self) -> bytes:
        return generate_latest(self.registry)
