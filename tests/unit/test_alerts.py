"""deploy/prometheus/alerts.yml: rules that Prometheus takes, about figures that there are, each with its runbook."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be a dependency for one line

from tests.unit.test_docs_links import anchors

ROOT = Path(__file__).parent.parent.parent
RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
NAMED = re.compile(r"\bTallyrail[A-Z]\w*")
DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")
METRIC = re.compile(r"\btallyrail_\w+")
SELECTOR = re.compile(r"(\btallyrail_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'\s*(\w+)\s*(?:=~|!~|!=|=)\s*"[^"\\]*"\s*')
GROUPING = re.compile(r"\b(?:by|without|on)\s*\(([^)]*)\)")
SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "GaugeMetricFamily": ("",),
    "Counter": ("_total",),
    "CounterMetricFamily": ("_total",),
    "Histogram": ("_bucket", "_count", "_sum"),
}
OF_PROMETHEUS = {"instance", "job", "le"}
"""Labels that it adds itself."""


def groups() -> list[dict[str, Any]]:
    content = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert set(content) == {"groups"}
    found: list[dict[str, Any]] = content["groups"]
    return found


RULES: list[dict[str, Any]] = [rule for group in groups() for rule in group["rules"]]
EACH = pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])


def exported() -> dict[str, set[str]]:
    """Name -> labels of each series that a module of api/ makes, read of its code."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "api").glob("*metrics.py")):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in SUFFIXES:
                name = ast.literal_eval(call.args[0])
                labels = next((each.value for each in call.keywords if each.arg == "labels"), None)
                labels = call.args[2] if labels is None and len(call.args) > 2 else labels
                labels = constants[labels.id] if isinstance(labels, ast.Name) else labels
                names = set(ast.literal_eval(labels)) if labels is not None else set()
                found |= {f"{name}{suffix}": names for suffix in SUFFIXES[call.func.id]}
    return found


EXPORTED = exported()


def test_the_figures_that_the_code_exports_are_found() -> None:
    assert EXPORTED["tallyrail_webhooks_total"] == {"provider", "result"}
    assert EXPORTED["tallyrail_rate_changes_total"] == {"asset", "currency"}
    assert EXPORTED["tallyrail_webhooks_oldest_seconds"] == {"provider", "state"}
    assert EXPORTED["tallyrail_http_request_seconds_bucket"] == {"method", "route", "status"}
    assert EXPORTED["tallyrail_database_up"] == set()
    written = {name for path in (ROOT / "api").glob("*metrics.py") for name in METRIC.findall(path.read_text())}
    assert {re.sub("_(total|bucket|count|sum)$", "", name) for name in EXPORTED} == written


def test_groups_and_rules_are_what_prometheus_takes() -> None:
    """https://prometheus.io/docs/prometheus/latest/configuration/recording_rules and .../alerting_rules"""
    names = [group["name"] for group in groups()]
    assert len(names) == len(set(names)) and all(set(group) == {"name", "rules"} for group in groups())
    alerts = [rule["alert"] for rule in RULES]
    assert len(alerts) == len(set(alerts))


@EACH
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    assert {"alert", "expr", "labels", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert NAMED.fullmatch(rule["alert"])
    assert DURATION.fullmatch(rule.get("for", "1s"))
    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    assert set(rule["annotations"]) == {"summary", "runbook"}
    summary = rule["annotations"]["summary"]
    assert summary and summary.count("{{") == summary.count("}}")
    assert set(re.findall(r"{{ (\S+)", summary)) <= {"$value", *(f"$labels.{label}" for label in kept(rule["expr"]))}


def kept(expression: str) -> set[str]:
    """Labels that every series of its result has: those that it groups by."""
    grouped = [set(filter(None, re.split(r"[\s,]+", each))) for each in re.findall(r"\bby \(([^)]*)\)", expression)]
    return set.intersection(*grouped) if grouped else set()


def selected(expression: str) -> Iterator[tuple[str, set[str]]]:
    """(figure, labels that it is selected by)"""
    for name, matchers in SELECTOR.findall(expression):
        parts = [each for each in matchers.split(",") if each]
        for part in parts:
            assert MATCHER.fullmatch(part), part
        yield name, {part.split("=")[0].rstrip("!~ ").strip() for part in parts}


@EACH
def test_what_a_rule_looks_at_is_exported(rule: dict[str, Any]) -> None:
    found = list(selected(rule["expr"]))
    assert found
    for name, labels in found:
        assert name in EXPORTED, f"the code exports no {name}"
        assert labels <= EXPORTED[name] | OF_PROMETHEUS, name
    known = set.intersection(*(EXPORTED[name] for name, _ in found)) | OF_PROMETHEUS
    for grouping in GROUPING.findall(rule["expr"]):
        assert set(filter(None, re.split(r"[\s,]+", grouping))) <= known


@EACH
def test_brackets_of_a_rule_are_closed(rule: dict[str, Any]) -> None:
    open_: list[str] = []
    for sign in re.sub(r'"[^"]*"', "", rule["expr"]):
        if sign in "([{":
            open_.append({"(": ")", "[": "]", "{": "}"}[sign])
        elif sign in ")]}":
            assert open_ and open_.pop() == sign, rule["expr"]
    assert not open_
    for window in re.findall(r"\[([^\]]*)\]", rule["expr"]):
        assert DURATION.fullmatch(window)


@EACH
def test_a_rule_leads_to_a_runbook_that_names_it(rule: dict[str, Any]) -> None:
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    page = ROOT / path
    assert page in RUNBOOKS
    assert not anchor or anchor in anchors(page)
    assert rule["alert"] in NAMED.findall(page.read_text())


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: str(page.name))
def test_a_runbook_has_an_alert(page: Path) -> None:
    assert page.name in {Path(rule["annotations"]["runbook"].partition("#")[0]).name for rule in RULES}


def test_no_page_names_an_alert_or_a_figure_that_is_none() -> None:
    alerts = {rule["alert"] for rule in RULES}
    figures = EXPORTED.keys() | {re.sub("_(bucket|count|sum|total)$", "", name) for name in EXPORTED}
    kinds = {name.split("_")[1] for name in EXPORTED}  # `tallyrail_login` and the like are other things
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        text = page.read_text()
        assert set(NAMED.findall(text)) <= alerts, page
        named = {name for name in METRIC.findall(text) if name.split("_")[1] in kinds and not name.endswith("_")}
        assert named <= figures, (page, named - figures)
