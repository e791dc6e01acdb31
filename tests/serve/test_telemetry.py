"""Measures in Prometheus' form: what is counted, under which names, and that labels are few."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tilth.errors import StoreError
from tilth.serve.limits import Admission
from tilth.serve.service import Service
from tilth.serve.telemetry import Telemetry


def samples(telemetry: Telemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(telemetry.text().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def answer(hits: int = 1, answered: bool | None = None, **skipped: str) -> Any:
    decision = None if answered is None else SimpleNamespace(answered=answered)
    return SimpleNamespace(hits=(None,) * hits, decision=decision, skipped=skipped)


def test_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    for status, seconds in ((200, 0.004), (200, 0.04), (503, 0.4)):
        telemetry.request("POST", "/v1/search", status, seconds)
    found = samples(telemetry)
    labels = (("method", "POST"), ("route", "/v1/search"))
    assert found["tilth_requests_total", (*labels, ("status", "200"))] == 2
    assert found["tilth_requests_total", (*labels, ("status", "503"))] == 1
    route = ("route", "/v1/search")
    assert found["tilth_request_seconds_bucket", (("le", "0.005"), route)] == 1
    assert found["tilth_request_seconds_bucket", (("le", "0.05"), route)] == 2
    assert found["tilth_request_seconds_sum", (route,)] == pytest.approx(0.444)


def test_methods_that_nobody_knows_share_one_label() -> None:
    telemetry = Telemetry()
    for method in ("GET", "BREW", "X" * 1_000, "GET\n"):
        telemetry.request(method, "other", 404, 0.001)
    methods = {
        dict(labels)["method"] for name, labels in samples(telemetry) if name == "tilth_requests_total"
    }
    assert methods == {"GET", "other"}


def test_answers() -> None:
    telemetry = Telemetry()
    for each in (answer(2), answer(0), answer(2, True), answer(2, False), answer(0, False)):
        telemetry.answer(each, {"lexical": 2.5})
    telemetry.answer(answer(1, dense="no time", reranker="no time"), {})
    found = samples(telemetry)
    for outcome, count in {"hits": 3, "no hits": 1, "nothing fits": 2}.items():
        assert found["tilth_answers_total", (("outcome", outcome),)] == count
    assert found["tilth_stages_skipped_total", (("stage", "dense"),)] == 1
    assert found["tilth_stage_seconds_sum", (("stage", "lexical"),)] == pytest.approx(5 * 0.0025)


def test_the_state_is_read_when_it_is_asked_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    telemetry.watch(service, Admission(2, 3), Admission(1, 1))
    found = samples(telemetry)
    assert (found["tilth_ready", ()], found["tilth_behind", ()]) == (1, 0)
    assert found["tilth_running", (("queue", "write"),)] == 0

    def broken(*_: object) -> int:
        raise StoreError("gone")

    monkeypatch.setattr(service.store, "last_sequence", broken)
    found = samples(telemetry)
    assert found["tilth_ready", ()] == 0
    assert ("tilth_behind", ()) not in found


def test_applications_count_for_themselves() -> None:
    one, two = Telemetry(), Telemetry()
    one.request("GET", "/", 200, 0.1)
    assert not [name for name, _ in samples(two) if name == "tilth_requests_total"]
