"""The use cases themselves: limits whoever asks, releases side by side, what is kept, and how it ends."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_service import PRODUCTS, eventually
from tilth.catalog import Price, Product
from tilth.errors import InputError, SettingError, StoreError
from tilth.feedback_log import FeedbackLog
from tilth.interactions import Interaction
from tilth.pipeline import Pipeline
from tilth.promotions import promote, rollback
from tilth.releases import propose
from tilth.retrieval.encoder import StaticEncoder
from tilth.retrieval.fusion import Fusion
from tilth.serve.requests import ContextRequest, Found, SearchRequest
from tilth.serve.service import LONGEST_DEADLINE, Service
from tilth.serve.settings import Settings
from tilth.serve.spool import SpoolFullError
from tilth.serve.starting import open_service
from tilth.ubi import interaction_from_ubi

PASSED = {"passed": True, "refusals": [], "in_force": "hybrid"}
Open = Callable[..., Service]


@pytest.fixture
def begin(folder: Path, request: pytest.FixtureRequest) -> Open:
    """Open the service with some settings, started."""

    def start(**sections: object) -> Service:
        opened = open_service(folder, Settings(**sections))
        opened.start()
        request.addfinalizer(opened.close)
        return opened

    return start


def search(service: Service, query: str = "garden hose", **more: Any) -> Found:
    return service.search(SearchRequest(query=query, **more))


def ids(found: Found) -> list[str]:
    return [hit.product.id for hit in found.answer.hits]


# --- searching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [{"query": "x" * 501}, {"query": "a\0"}, {"query": "\ud800"}, {"query": "x", "k": -1},
     {"query": "x", "arm": "a" * 201}, {"query": "x", "client_id": "\0"}, {"query": "x", "kind": "k" * 201},
     {"query": "x", "facets": ["brand"] * 21}, {"query": "x", "facets": ["none"]}, {"query": "x", "k": 101},
     {"query": "x", "cursor": ""}, {"query": "x", "release": "r1"}, {"query": "x", "release": "../r1"},
     {"query": "x", "release": "\0"},
     {"query": "x", "deadline_ms": -1}, {"query": "x", "deadline_ms": float("nan")},
     {"query": "x", "deadline_ms": LONGEST_DEADLINE + 1}, {"query": "x", "filters": {"price": 10**40}},
     {"query": "x", "filters": {"brand": "\ud800"}}, {"query": "x", "filters": {"none": 1}}],
)  # fmt: skip
def test_what_cannot_be_asked(service: Service, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        service.search(SearchRequest(**asked))
    context = {name: value for name, value in asked.items() if name not in ("k", "facets", "cursor")}
    if context != {"query": "x"}:
        with pytest.raises(InputError):
            service.context(ContextRequest(**context))


@pytest.mark.parametrize(
    "asked", [{"budget_tokens": 0}, {"budget_tokens": 16_001}, {"k": 0}, {"k": 101}, {"template": "html"},
              {"passages_per_product": 0}, {"passages_per_product": 11}]
)  # fmt: skip
def test_what_no_context_can_be(service: Service, asked: dict[str, Any]) -> None:
    with pytest.raises((InputError, SettingError)):
        service.context(ContextRequest(query="hose", **asked))


def test_a_context_is_kept_with_what_it_shows(service: Service) -> None:
    found = service.context(ContextRequest(query="garden hose", budget_tokens=150, arm="c"))
    shown = tuple(source.offer.product_id for source in found.context.sources)
    assert 0 < len(shown) < 18
    log = FeedbackLog(service.store)
    eventually(lambda: log.served_by_id([found.impression_id]))
    served = log.served_by_id([found.impression_id])[found.impression_id]
    assert (served.kind, served.arm, served.product_ids) == ("context", "c", shown)
    assert served.milliseconds["context"] > 0


def test_the_first_searches_of_a_process_are_no_measure_of_later_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that is read from disk and code that is run for the first time: slow once, and never again."""
    encode, calls = StaticEncoder.encode_queries, [0]

    def slow_at_first(encoder: StaticEncoder, texts: Any) -> np.ndarray:
        calls[0] += 1
        time.sleep(0.5 if calls[0] == 1 else 0)
        return encode(encoder, texts)

    monkeypatch.setattr(StaticEncoder, "encode_queries", slow_at_first)
    service = open_service(folder, Settings(search={"deadline_ms": 300}))
    service.start()
    assert calls[0] > 1
    assert search(service).answer.skipped == {}
    service.close()


# --- releases -------------------------------------------------------------------------------------


def test_releases_can_be_compared_side_by_side(folder: Path, service: Service) -> None:
    propose(folder, fusion=Fusion(weights=(1.0, 0.0)), evidence={}, name="words")
    propose(folder, fusion=Fusion(weights=(0.0, 1.0)), evidence={}, name="meaning")
    by = {name: search(service, "cow manure", release=name) for name in ("words", "meaning", "hybrid", None)}
    assert {name: found.answer.release for name, found in by.items()} == {
        "words": "words", "meaning": "meaning", "hybrid": None, None: None,
    }  # fmt: skip
    assert all(hit.places.keys() >= {"lexical"} for hit in by["words"].answer.hits)
    assert ids(by["hybrid"]) == ids(by[None])
    promote(folder, "words", PASSED)
    service.pipeline.refresh()
    assert search(service).answer.release == "words"
    assert search(service, release="hybrid").answer.release is None
    assert search(service, release="words").answer.release == "words"
    rollback(folder)
    service.pipeline.refresh()
    assert search(service).answer.release is None


def test_only_some_releases_are_kept_open(folder: Path, service: Service) -> None:
    for number in range(9):
        propose(folder, fusion=Fusion(), evidence={}, name=f"r{number}")
    for number in [*range(9), 0, 1]:
        assert search(service, release=f"r{number}").answer.release == f"r{number}"
    assert len(service._compared) == 4


def test_an_error_about_a_release_names_no_folder(folder: Path, service: Service) -> None:
    with pytest.raises(InputError) as caught:
        search(service, release="r7")
    assert str(folder) not in str(caught.value)
    assert (caught.value.field, caught.value.value) == ("release", "r7")


# --- the catalogue --------------------------------------------------------------------------------


def test_products_are_those_of_this_moment_in_the_order_of_the_ids(service: Service) -> None:
    found = service.products(["t1", "nobody", "m1"])
    assert list(found) == ["t1", "m1"]
    service.upsert([Product(id="m1", title="Cow manure, new")])
    assert service.products(["m1"])["m1"].title == "Cow manure, new"
    for bad in (["x" * 1_001], ["\0"], ["m1"] * 1_001):
        with pytest.raises(InputError):
            service.products(bad)
    with pytest.raises(InputError):
        service.upsert([Product(id="x" * 1_001, title="x")])
    with pytest.raises(InputError):
        service.delete(["m1", "x" * 1_001])
    assert "m1" in service.products(["m1"])


def test_changes_are_found_without_a_word(service: Service) -> None:
    service.upsert([Product(id="n", title="Spade new", price=Price(7.0, "EUR"))])
    eventually(lambda: "n" in ids(search(service, "spade new", filters={"price": {"lt": 8}})))
    service.delete(["n"])
    eventually(lambda: "n" not in ids(search(service, "spade new")))


def test_fields_are_described_once_a_minute(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    first = service.fields()
    assert first["brand"]["distinct"] == 4
    assert service.fields() is first
    assert service.filter_schema()["$defs"]["filters"]["properties"][
        "colour" if "colour" in first else "brand"
    ]
    service.upsert([Product(id="n", title="x", brand="Fifth")])
    eventually(lambda: service.health()["behind"] == 0)
    assert service.fields() is first
    now = time.monotonic() + 61
    monkeypatch.setattr("tilth.serve.service.time.monotonic", lambda: now)
    assert service.fields()["brand"]["distinct"] == 5


def test_facets(service: Service) -> None:
    assert service.facets(["colour"], {"brand": "Terra"}) == {"colour": {"red": 6}}
    for names, filters in ((["brand"] * 21, None), (["none"], None), (["brand"], {"price": 10**40})):
        with pytest.raises(InputError):
            service.facets(names, filters)


def test_no_facet_is_as_large_as_the_catalogue(service: Service) -> None:
    many = [Product(id=f"v{n}", title="Spade", mpn=f"M{n}", brand="Terra") for n in range(1_500)]
    service.upsert(many[:1_000])
    service.upsert(many[1_000:])
    eventually(lambda: service.health()["behind"] == 0)
    assert len(service.facets(["mpn"])["mpn"]) == 1_000
    found = search(service, "spade", facets=["mpn", "brand"]).answer
    assert len(found.facets["mpn"].allowed) == 1_000
    assert found.facets["brand"].allowed["Terra"] == 1_507


# --- feedback -------------------------------------------------------------------------------------


def event(number: int) -> Interaction:
    return interaction_from_ubi(
        {
            "action_name": "view",
            "query_id": "i",
            "timestamp": "2026-05-31T12:00:00Z",
            "event_id": f"e{number}",
        }
    )


def test_interactions_are_durable_once_answered(service: Service) -> None:
    assert service.record([event(1), event(2)]).result(20).interactions == 2
    assert len(list(FeedbackLog(service.store).interactions())) == 2
    with pytest.raises(InputError):
        service.record([event(number) for number in range(1_001)])


def test_a_search_goes_on_when_impressions_cannot_be_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SpoolFullError("full")

    assert service.spool is not None
    monkeypatch.setattr(service.spool, "_put", full)
    assert ids(search(service))
    assert service.spool.counts()["dropped"] == 1


def test_without_feedback_none_is_taken(begin: Open) -> None:
    service = begin(feedback={"enabled": False})
    with pytest.raises(InputError, match="switched off"):
        service.record([event(1)])


def test_nothing_that_was_kept_is_lost_at_the_end(folder: Path) -> None:
    service = open_service(folder, Settings())
    service.start()
    shown = [search(service).impression_id for _ in range(50)]
    service.close()
    again = open_service(folder, Settings())
    assert set(FeedbackLog(again.store).served_by_id(shown)) == set(shown)
    again.close()


# --- life -----------------------------------------------------------------------------------------


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tilth-follow"]


def test_a_service_is_ready_from_start_to_close(folder: Path) -> None:
    service, before = open_service(folder, Settings()), followers()
    assert (service.health()["ready"], service.health()["fault"]) == (False, "has not started")
    service.start()
    health = service.health()
    assert (health["ready"], health["fault"], health["products"]) == (True, None, len(PRODUCTS))
    service.close()
    assert service.health()["fault"] is not None
    assert not service.health()["ready"]
    assert followers() == before


def test_a_fault_of_following_is_told_and_forgotten(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Pipeline) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(Pipeline, "refresh", broken)
    eventually(lambda: service.health()["fault"] == "the disk is gone")
    assert service.health()["ready"]  # what was read before is searched
    assert ids(search(service))
    monkeypatch.undo()
    eventually(lambda: service.health()["fault"] is None)


def test_threads_share_a_service(service: Service) -> None:
    """Searches, contexts, facets and writes at once: each answer is whole, and none fails."""
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(15):
                name = f"t-{number}-{turn}"
                service.upsert([Product(id=name, title=f"Spade {name}", price=Price(1.0, "EUR"))])
                assert "odd/id" in ids(search(service, "spade", k=50))
                assert service.context(ContextRequest(query="garden hose")).context.sources
                assert service.facets(["brand"])["brand"]["Rill"] == 12
                service.delete([name])
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert service.store.count() == len(PRODUCTS)
