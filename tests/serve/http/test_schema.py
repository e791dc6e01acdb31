"""The OpenAPI document and what really comes: requests made from it, and answers held against it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from live_service import PRODUCTS, Live, running
from serve.http.test_access import SCOPE_OF
from tilth.promotions import promote
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion
from tilth.serve.http import models
from tilth.serve.http.app import OPEN
from tilth.serve.settings import Settings

EXAMPLES = 20
EVIDENCE = {
    "candidate": "better", "measure": "nDCG@10", "part": "test", "queries": 50,
    "systems": {"better": {"nDCG@10": 0.7}, "hybrid": {"nDCG@10": 0.6}}, "slices": {},
    "differences": [{"system": "better", "baseline": "hybrid", "measure": "nDCG@10", "difference": 0.1,
                     "low": 0.05, "high": 0.15, "p": 0.001, "won": 30, "lost": 5}],
    "latency": {"p50_ms": 1.0, "p99_ms": 2.0},
}  # fmt: skip
PASSED = {"passed": True, "refusals": [], "in_force": "hybrid"}
MADE = [route for route in SCOPE_OF if route != "POST /mcp"]
MADE += [f"GET {path}" for path in OPEN if path.startswith("/health")]


def lend(built: Path, folder: Path) -> Path:
    """Copy the index, and give it releases and a report."""
    into = Path(shutil.copytree(built, folder / "index"))
    (folder / "report.html").write_text("<!DOCTYPE html><title>Report</title>", "utf-8")
    propose(into, fusion=Fusion(weights=(1.0, 0.5)), evidence=EVIDENCE, report=folder / "report.html")
    propose(into, fusion=Fusion(), evidence=EVIDENCE)
    promote(into, "r1", PASSED, by="ann", why="better")
    return into


@pytest.fixture(scope="module")
def shop(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that tests write to, with all that can be asked for; its limits are wide."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "queries.tsv").write_text("q1\tgarden hose\nq2\tspade\n", "utf-8")
    wide = Settings(
        limits={"requests_per_minute": 1_000_000, "burst": 100_000},
        judging={"queries": str(folder / "queries.tsv")},
        reports={"folders": [str(folder)]},
    )
    with running(lend(built, folder), wide) as live:
        yield live


@pytest.fixture(scope="module")
def schema(shop: Live) -> Any:
    return schemathesis.openapi.from_url(f"{shop.address}/openapi.json")


# --- answers, each against its model --------------------------------------------------------------

OPENED = {models.Hit, models.ProductAnswer, models.PairAnswer, models.StatsAnswer, models.DecisionAnswer}


def checked(response: httpx.Response, model: type[BaseModel]) -> dict[str, Any]:
    """Hold an answer against its model, strictly; only some may have more fields than the model names."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    model.model_validate_json(response.content, strict=True)
    content = dict(response.json())
    if model not in OPENED:
        assert content.keys() == {name for name, field in model.model_fields.items()}
    return content


def test_a_search(shop: Live) -> None:
    body = {
        "query": "garden hose", "k": 5, "filters": {"price": {"lt": 40}}, "explain": True, "collapse": True,
        "facets": ["brand", "price", "length"], "arm": "b", "client_id": "browser",
    }  # fmt: skip
    content = checked(shop.client("search").post("/v1/search", json=body), models.SearchAnswer)
    assert [hit["rank"] for hit in content["hits"]] == [1, 2, 3, 4, 5]
    assert content["arm"] == "b"
    assert content["release"] == "r1"
    assert content["totals"]["allowed"] >= content["totals"]["retrieved"] >= 5
    known = {product.id: product for product in PRODUCTS}
    for hit in content["hits"]:
        models.Hit.model_validate(hit)
        assert hit["title"] == known[hit["product_id"]].title
        assert "description" in hit
        assert hit["explanation"]["places"]["lexical"]["rank"] >= 1
        assert hit["price"].endswith(" EUR")
    assert content["facets"]["brand"]["allowed"].keys() <= {"Rill", "Terra", "Humus", "Грядка"}
    assert content["facets"]["price"]["allowed"].keys() == {"count", "min", "max"}
    assert content["milliseconds"].keys() >= {
        "filter",
        "read",
        "lexical",
        "dense",
        "fuse",
        "explain",
        "facets",
    }
    plain = checked(shop.client("search").post("/v1/search", json={"query": "hose"}), models.SearchAnswer)
    assert "explanation" not in plain["hits"][0]


def test_a_context(shop: Live) -> None:
    for template in ("markdown", "json", "xml"):
        body = {"query": "garden hose", "budget_tokens": 300, "k": 6, "template": template}
        content = checked(shop.client("search").post("/v1/context", json=body), models.ContextAnswer)
        assert 0 < content["tokens"] <= 300
        assert content["passages"][0].keys() >= {"label", "product_id", "price", "field", "text", "tokens"}


def test_facets_and_fields(shop: Live) -> None:
    body = {"fields": ["brand", "rating"], "filters": {"brand": "Rill"}}
    content = checked(shop.client("search").post("/v1/facets", json=body), models.FacetsAnswer)
    assert content["facets"] == {"brand": {"Rill": 12}, "rating": {"count": 12, "min": 4.5, "max": 4.5}}
    content = checked(shop.client("search").get("/v1/fields"), models.FieldsAnswer)
    Draft202012Validator.check_schema(content["filter_schema"])
    Draft202012Validator(content["filter_schema"]).validate({"price": {"lt": 30}})


def test_a_product(shop: Live) -> None:
    content = checked(shop.client("search").get("/v1/products/hose-10-red"), models.ProductAnswer)
    assert content["price"] == "14.50 EUR"
    assert content["attributes"]["colour"] == "red"


def test_tools(shop: Live) -> None:
    content = checked(shop.client("search").get("/v1/tools"), models.ToolsAnswer)
    for tool in content["openai"]:
        Draft202012Validator.check_schema(tool["function"]["parameters"])


def test_writes(shop: Live) -> None:
    client, products = shop.client("write"), [{"id": "w1", "title": "Fork"}, {"id": "w2", "title": "Rake"}]
    counts = ("changed", "unchanged", "deleted")

    def counted(response: httpx.Response) -> list[int]:
        content = checked(response, models.WrittenAnswer)
        return [content[name] for name in counts]

    assert counted(client.post("/v1/products", json=products)) == [2, 0, 0]
    assert counted(client.post("/v1/products", json=products)) == [0, 2, 0]
    assert counted(client.request("DELETE", "/v1/products/w1")) == [0, 0, 1]
    assert counted(client.post("/v1/products/delete", json={"ids": ["w1", "w2"]})) == [0, 1, 1]


def test_feedback(shop: Live) -> None:
    found = shop.client("search").post("/v1/search", json={"query": "hose"}).json()
    event = {
        "action_name": "click", "query_id": found["impression_id"], "timestamp": "2026-05-31T12:00:00Z",
        "event_attributes": {
            "object": {"object_id": found["hits"][0]["product_id"]}, "position": {"ordinal": 1},
        },
    }  # fmt: skip
    post: Callable[[], httpx.Response] = lambda: shop.client("feedback").post(  # noqa: E731
        "/v1/feedback", json={"events": [event]}
    )
    assert checked(post(), models.FeedbackAnswer) == {"recorded": 1, "known": 0}
    assert checked(post(), models.FeedbackAnswer) == {"recorded": 0, "known": 1}
    stats = checked(shop.client("judge").get("/v1/stats", params={"by": "arm,day"}), models.StatsAnswer)
    assert stats["by"] == ["arm", "day"]
    assert sum(group["answers"] for group in stats["groups"]) >= 1


def test_judging(shop: Live) -> None:
    client = shop.client("judge")
    ask = lambda: checked(client.get("/v1/judgments/next", params={"judge": "ann"}), models.PairAnswer)  # noqa: E731
    pair = ask()["pair"]
    named = {"judge": "ann", "query_id": pair["query_id"], "product_id": pair["product"]["id"]}
    judged = client.post("/v1/judgments", json={"judgments": [{**named, "grade": 2, "reason": "fits"}]})
    assert checked(judged, models.AddedAnswer) == {"added": 1}
    back = checked(client.post("/v1/judgments/undo", json={"judge": "ann"}), models.PairAnswer)
    assert (back["pair"]["query_id"], back["pair"]["given"]) == (pair["query_id"], 2)
    skipped = client.post("/v1/judgments/skip", json=named)
    assert (skipped.status_code, skipped.content) == (204, b"")
    assert ask()["pair"]["product"]["id"] != pair["product"]["id"]


def test_releases_and_reports(shop: Live) -> None:
    client = shop.client("admin")
    content = checked(client.get("/v1/releases"), models.ReleasesAnswer)
    assert [release["release"] for release in content["releases"]] == ["r1", "r2"]
    back = client.post("/v1/releases/rollback", json={"why": "slow"})
    assert checked(back, models.DecisionAnswer)["in_force"] is None
    promoted = client.post("/v1/releases/r1/promote", json={"why": "again"})
    assert checked(promoted, models.DecisionAnswer)["in_force"] == "r1"
    history = client.get("/v1/releases").json()["history"]
    assert [(each["action"], each["by"]) for each in history[-2:]] == [
        ("rollback", "admin"),
        ("promote", "admin"),
    ]
    reports = checked(client.get("/v1/reports"), models.ReportsAnswer)["reports"]
    assert {report["name"] for report in reports} == {"r1", "experiment-1"}
    for report in reports:
        page = client.get(f"/v1/reports/{report['name']}")
        assert page.headers["content-type"].startswith("text/html")
        assert "sandbox" in page.headers["content-security-policy"]


def test_health(shop: Live) -> None:
    assert checked(shop.client("").get("/health/live"), models.LiveAnswer) == {"live": True}
    content = checked(shop.client("").get("/health/ready"), models.ReadyAnswer)
    assert content["ready"]
    assert content["products"] >= len(PRODUCTS) - 1


# --- the document itself --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document(shop: Live) -> dict[str, Any]:
    return dict(shop.client("").get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        yield from ((f"{method.upper()} {path}", operation) for method, operation in methods.items())


def test_every_route_is_documented_with_its_key(document: dict[str, Any]) -> None:
    found = dict(operations(document))
    assert set(found) == set(MADE)
    for route, operation in found.items():
        assert operation["security"] == ([{"key": []}] if route in SCOPE_OF else [])
        assert operation["summary"]
        assert operation["description"].endswith((".", "…"))
        assert operation["tags"]


def test_every_problem_is_documented_as_one(document: dict[str, Any]) -> None:
    for route, operation in operations(document):
        failures = {status: each for status, each in operation["responses"].items() if status[0] in "45"}
        assert {"401", "403", "422", "429", "503"} <= failures.keys()
        for status, each in failures.items():
            if (route, status) != ("GET /health/ready", "503"):
                schema = each["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}


def test_the_examples_of_the_document_are_valid(document: dict[str, Any]) -> None:
    seen = 0
    for name, model in document["components"]["schemas"].items():
        for field, facts in model.get("properties", {}).items():
            for example in facts.get("examples", []):
                at = {"$ref": f"#/components/schemas/{name}/properties/{field}"}
                Draft202012Validator({**at, "components": document["components"]}).validate(example)
                seen += 1
    assert seen >= 5


def test_the_example_of_products_is_taken(shop: Live, document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/products"]["post"]["requestBody"]["content"]["application/json"]
    answer = shop.client("write").post("/v1/products", json=content["example"])
    assert answer.json()["changed"] + answer.json()["unchanged"] == 1


# --- requests made from the document --------------------------------------------------------------

# What is valid by the document may still be refused: limits are settings, fields are the catalogue's, and a
# name may lead nowhere. What the document refuses the readers of products may take: they are lenient.
NOTHING_TO_BREAK = ("GET /health/live", "GET /health/ready")
LENIENT = ("POST /v1/products", "GET /v1/stats")  # what the document forbids is read as well as it can be
EXCLUDED = [positive_data_acceptance, unsupported_method]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "broken"])
@pytest.mark.parametrize("route", MADE)
def test_requests_made_from_the_document(shop: Live, schema: Any, route: str, mode: Any) -> None:
    method, path = route.split()
    operation = schema[path][method]
    excluded = [*EXCLUDED, *([negative_data_rejection] if route in LENIENT else [])]
    excluded += [ignored_auth] if path.startswith("/health") else []
    sent = 0

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def asks(case: Any) -> None:
        nonlocal sent
        sent += 1
        response = case.call(headers={"Authorization": f"Bearer {shop.tokens['admin']}"})
        case.validate_response(response, excluded_checks=excluded)
        if response.status_code >= 400 and "application/problem+json" in response.headers["content-type"]:
            models.Problem.model_validate_json(response.content, strict=True)
        assert response.status_code < 500

    try:
        asks()
    except Unsatisfiable:
        assert route in NOTHING_TO_BREAK
    assert sent or route in NOTHING_TO_BREAK
    assert shop.ready()
