"""docker-compose.yml: valid, and every service as locked down and as limited as it should be."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from compose_spec.models import ComposeSpecification

from asr_service.config import Settings
from rest_bridge.config import BridgeSettings
from tests.unit.packaging.sources import COMPOSE, DOCKERFILES, ROOT, Document, load, run

SPEC = load(COMPOSE)
SERVICES: dict[str, Document] = SPEC["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
PROFILES = {
    "cpu": {"asr", "bridge"},
    "gpu": {"asr-gpu", "bridge"},
    "scale": {"asr-replica", "bridge-replica", "envoy"},
    "observability": {"prometheus", "grafana"},
}
each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


def test_it_is_what_the_schema_wants() -> None:
    ComposeSpecification.model_validate({key: value for key, value in SPEC.items() if not key.startswith("x-")})
    # The parser knows neither variables (here none of them is set) nor merge keys.
    filled = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text()))
    parsed = PyCompose.from_yaml(yaml.safe_dump(filled))

    assert set(parsed.service_names()) == set(SERVICES)


def test_compose_lint_finds_nothing_of_weight() -> None:
    answer = run("compose-lint", COMPOSE)

    assert answer.returncode == 0, answer.stdout


def test_docker_compose_itself_resolves_every_profile() -> None:
    plugin = ["docker", "compose"] if shutil.which("docker") and not run("docker", "compose", "version").returncode else []
    command = plugin or [found for found in [shutil.which("docker-compose")] if found]
    if not command:
        pytest.skip("docker compose is not installed: its own opinion was not asked")
    for profile, names in PROFILES.items():
        answer = run(*command, "--project-directory", ROOT, "-f", COMPOSE, "--profile", profile, "config", "--services")

        assert set(answer.stdout.split()) == names, answer.stderr


def test_the_profiles_start_what_belongs_together() -> None:
    found = {profile: {name for name, service in SERVICES.items() if profile in service["profiles"]} for profile in PROFILES}

    assert found == PROFILES
    assert set().union(*found.values()) == set(SERVICES)
    assert (ROOT / ".env").read_text().splitlines()[-1] == "COMPOSE_PROFILES=cpu"


@each_service
def test_it_is_locked_down(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert "privileged" not in service
    assert "network_mode" not in service


@each_service
def test_it_is_limited(name: str) -> None:
    service = SERVICES[name]

    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}
    assert all(re.search(r"size=\d", mount) for mount in service.get("tmpfs", ()))


@each_service
def test_its_image_has_a_version(name: str) -> None:
    image = SERVICES[name]["image"]

    assert ":" in image
    assert not image.endswith(":latest")


@each_service
def test_ports_are_published_on_loopback_unless_told_otherwise(name: str) -> None:
    assert all(port.startswith("${PUBLISH:-127.0.0.1}:") for port in SERVICES[name].get("ports", ()))


@each_service
def test_its_health_is_checked(name: str) -> None:
    service = SERVICES[name]
    if "healthcheck" in service:
        assert service["healthcheck"]["test"][0] == "CMD"
    else:  # by its image
        dockerfile = ROOT / service["build"]["dockerfile"]
        assert dockerfile in DOCKERFILES
        assert "\nHEALTHCHECK " in dockerfile.read_text()


@each_of_ours
def test_what_it_is_told_are_settings(name: str) -> None:
    known = {setting for row in (*Settings.rows(), *BridgeSettings.rows()) for setting in row.names}

    assert set(SERVICES[name]["environment"]) <= known


@each_of_ours
def test_it_gets_the_time_to_drain(name: str) -> None:
    service = SERVICES[name]

    assert int(service["stop_grace_period"].rstrip("s")) > int(service["environment"]["DRAIN_TIMEOUT"])


@each_of_ours
def test_it_is_built_from_a_stage_that_exists(name: str) -> None:
    build = SERVICES[name]["build"]
    stages = re.findall(r"^FROM .* AS (\S+)$", (ROOT / build["dockerfile"]).read_text(), flags=re.MULTILINE)

    assert build.get("target", stages[-1]) in stages


def test_only_the_gpu_profile_asks_for_a_gpu() -> None:
    asking = {name for name, service in SERVICES.items() if "reservations" in service["deploy"]["resources"]}

    assert asking == {"asr-gpu"}


def test_models_outlive_containers() -> None:
    mounts: dict[str, Any] = {name: SERVICES[name]["volumes"] for name in OURS if name.startswith("asr")}

    assert all("models:/models" in volumes for volumes in mounts.values())
    assert {"models", "kernels"} <= set(SPEC["volumes"])


def test_what_is_mounted_from_here_is_here() -> None:
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())]

    assert all((ROOT / mount).exists() for mount in mounts if mount.startswith("./"))
