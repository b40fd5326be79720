"""Writes docs/operations.md from the code; with --check only says whether the committed page is what would be written."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from asr_service import failpoints
from asr_service.config import Settings
from asr_service.environment import EnvironmentSettings
from asr_service.errors import AsrError
from asr_service.grpc_api import health
from asr_service.metrics import Metrics
from rest_bridge.config import BridgeSettings
from rest_bridge.errors import UpstreamError, from_upstream
from rest_bridge.metrics import Metrics as BridgeMetrics

TARGET = Path("docs/operations.md")

INTRO = """\
# Operations

Written from the code by `make generate`; never edited.

Settings are environment variables. A bad value stops the program with the name, the value and what was expected; a name of an
older server whose feature does not exist here is refused unless it is set to its off value.
"""


def main() -> None:
    page = "\n".join(sections())
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text() != page:
            raise SystemExit(f"{TARGET} is not what the code says; run `make generate`")
        return
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(page)


def sections() -> Iterator[str]:
    yield INTRO
    yield from settings_of("Settings of the service", Settings)
    yield from settings_of("Settings of the bridge", BridgeSettings)
    yield from metrics_of("Metrics of the service (`METRICS_PORT`, `/metrics`)", Metrics())
    yield from metrics_of("Metrics of the bridge (`HTTP_PORT`, `/metrics`)", BridgeMetrics())
    yield "## Errors\n"
    yield "`reason` is `ErrorInfo.reason` on gRPC; the last two columns are what the bridge answers.\n"
    yield from table(("status", "reason", "HTTP", "code", "meaning"), errors())
    yield "## Health\n"
    yield "Names of `grpc.health.v1`; the empty one stands for the whole. NOT_SERVING while starting and while draining.\n"
    yield from table(("name",), ((code(name),) for name in health.NAMES))
    yield "Over HTTP: `GET /health` (the bridge is alive) and `GET /ready` (200 when the service behind it can take calls).\n"
    yield "## Failpoints\n"
    yield f"{(inspect.getdoc(failpoints) or '').splitlines()[0]} Set `FAILPOINTS` to `NAME=error`, `crash` or `hang`.\n"
    yield from table(("name",), ((code(name),) for name in failpoints.NAMES))


def settings_of(title: str, settings: type[EnvironmentSettings]) -> Iterator[str]:
    yield f"## {title}\n"
    rows = ((", ".join(map(code, row.names)), code(row.default), row.description) for row in settings.rows())
    yield from table(("name", "default", "meaning"), rows)
    yield "Refused names:\n"
    refusals = ((code(r.name), ", ".join(map(code, r.off)) or "unset", r.why) for r in settings.refusals)
    yield from table(("name", "allowed values", "why"), refusals)


def metrics_of(title: str, metrics: object) -> Iterator[str]:
    yield f"## {title}\n"
    yield from table(("name", "type", "labels", "meaning"), (metric_row(m) for m in vars(metrics).values() if is_metric(m)))


def is_metric(value: object) -> bool:
    return isinstance(value, MetricWrapperBase)


def metric_row(metric: MetricWrapperBase) -> Sequence[str]:
    family = next(iter(metric.collect()))
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(map(code, metric._labelnames))  # noqa: SLF001 - the library shows them nowhere else
    return code(name), family.type, labels, family.documentation


def errors() -> Iterator[Sequence[str]]:
    for kind in subclasses(AsrError):
        for reason in reasons(kind):
            answer = from_upstream(UpstreamError(kind.status, "", reason=reason))
            meaning = (inspect.getdoc(kind) or "").splitlines()[0]
            yield kind.status, code(reason), str(answer.status), code(answer.body["error"]["code"] or ""), meaning


def subclasses(kind: type[AsrError]) -> Iterator[type[AsrError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def reasons(kind: type[AsrError]) -> tuple[str, ...]:
    """Unauthenticated chooses between two; every other class has one."""
    if kind.__name__ == "Unauthenticated":
        return "API_KEY_MISSING", "API_KEY_INVALID"
    return (kind.reason,)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"
    yield ""


def code(text: str) -> str:
    return f"`{text}`" if text else '""'


if __name__ == "__main__":
    main()
