"""Dashboards, rules and autoscaling ask for series that are served, by labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from tests.unit.packaging.sources import DEPLOY, OBSERVABILITY, groupings, load, selectors, series

DASHBOARDS = sorted((OBSERVABILITY / "dashboards").glob("*.json"))
RULES = [rule for group in load(OBSERVABILITY / "rules.yml")["groups"] for rule in group["rules"]]
SERVED = series()
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
# From the scrape and, on Kubernetes, from the pod.
TARGET_LABELS = {"job", "instance", "namespace", "pod"}


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def adapter_expressions() -> Iterator[tuple[str, str]]:
    for rule in load(OBSERVABILITY / "adapter.yaml")["rules"]:
        filled = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'namespace="asr"')
        yield rule["name"]["as"], filled
        yield rule["name"]["as"], rule["seriesQuery"]


def scaled_expressions() -> Iterator[tuple[str, str]]:
    for trigger in load(DEPLOY / "overlays/keda/scaled.yaml")["spec"]["triggers"]:
        yield f"KEDA, {trigger['name']}", trigger["metadata"]["query"]


EXPRESSIONS = [
    *dashboard_expressions(),
    *((rule.get("record") or rule["alert"], rule["expr"]) for rule in RULES),
    *adapter_expressions(),
    *scaled_expressions(),
]


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_it_asks_for_what_is_served(where: str, expression: str) -> None:
    found = selectors(expression)

    assert found, where
    for name, labels in found.items():
        assert name in SERVED or name in RECORDED, f"{where}: {name} is no series of the service or the bridge"
        assert labels <= SERVED.get(name, set()) | TARGET_LABELS, where
    known = set().union(*(SERVED.get(name, set()) for name in found))
    assert groupings(expression) <= known | TARGET_LABELS, where


def test_the_dashboard_shows_everything_that_is_served() -> None:
    shown = {name for _, expression in dashboard_expressions() for name in selectors(expression)}
    recorded = {name for rule in RULES if "record" in rule for name in selectors(rule["expr"])}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown | recorded}

    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERVED} <= families


def test_every_recorded_series_is_used() -> None:
    used = {name for _, expression in EXPRESSIONS for name in selectors(expression)}

    assert used >= RECORDED


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_places_of_their_own(path: object) -> None:
    panels = [panel for file in DASHBOARDS if file == path for panel in json.loads(file.read_text())["panels"]]
    cells = [
        (column, line)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    (source,) = load(OBSERVABILITY / "provisioning/datasources/prometheus.yml")["datasources"]
    used = {
        panel["datasource"]["uid"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        if "datasource" in panel
    }

    assert used == {source["uid"]}


def test_prometheus_scrapes_the_names_and_ports_of_the_compose_file() -> None:
    scraped = {
        job["job_name"]: (config["names"], config["port"])
        for job in yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())["scrape_configs"]
        for config in job["dns_sd_configs"]
    }

    assert scraped == {"asr": (["asr"], 9464), "bridge": (["bridge"], 8000), "envoy": (["envoy"], 9902)}
