"""The metrics of the fast model of two, beside those of the main one and under names of their own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector

from asr_service.metrics import Metrics

_OURS = ("asr_engine_", "asr_queue_")
_PREFIX = "asr_fast_"


class FastMetrics(Collector):
    """Shows what an engine on `fast` counts: asr_engine_steps_total as asr_fast_engine_steps_total, and so on."""

    def __init__(self, fast: Metrics) -> None:
        self._fast = fast

    def collect(self) -> Iterator[Metric]:
        for metric in self._fast.registry.collect():
            if metric.name.startswith(_OURS):
                yield _renamed(metric)


def fast_metrics(shown_by: Metrics) -> Metrics:
    """Metrics for the fast engine, which whoever asks `shown_by` sees too."""
    fast = Metrics()
    shown_by.registry.register(FastMetrics(fast))
    return fast


def _renamed(metric: Metric) -> Metric:
    renamed = Metric(_new_name(metric.name), f"{metric.documentation} (the fast model)", metric.type, metric.unit)
    renamed.samples = [sample._replace(name=_new_name(sample.name)) for sample in metric.samples]
    return renamed


def _new_name(name: str) -> str:
    return _PREFIX + name.removeprefix("asr_")
