"""The retriever for LlamaIndex, against a service that really listens, and with no other network."""

import asyncio
import socket
import sys
from typing import Any

import pytest
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from tilth.errors import InputError, MissingExtraError
from tilth.integrations.client import TilthHttpError
from tilth.integrations.llama_index import TilthRetriever

KEY = "tilth_0123456789ab_very-secret"


@pytest.fixture(autouse=True)
def this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing ask for another machine."""
    resolve = socket.getaddrinfo

    def local(host: Any, *more: Any, **options: Any) -> Any:
        assert host in ("127.0.0.1", "localhost"), f"{host} was asked for"
        return resolve(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local)


def facts(nodes: list[NodeWithScore]) -> list[Any]:
    return [(each.node.node_id, each.score, each.node.get_content()) for each in nodes]


def test_nodes_are_products_with_their_facts(url: str) -> None:
    first, *others = TilthRetriever(url, k=10).retrieve("steel bucket 10 l")
    assert isinstance(first.node, TextNode)
    assert first.node.node_id == "b1"
    assert first.node.text.startswith("Steel bucket")
    assert first.node.metadata["price"] == "9.00 EUR"
    assert first.node.metadata["availability"] == "in_stock"
    assert first.node.metadata["nearest"] is False
    assert [variant["product_id"] for variant in first.node.metadata["variants"]] == ["b2"]
    assert [each.score for each in (first, *others)] == [1 / rank for rank in range(1, len(others) + 2)]


def test_a_model_sees_the_price_and_not_the_impression(url: str) -> None:
    node, *_ = TilthRetriever(url).retrieve("секатор")
    text = node.node.get_content(MetadataMode.LLM)
    assert "price: 990.00 RUB" in text
    assert "label: [1]" in text
    assert node.node.metadata["impression_id"] not in text
    assert node.node.get_content(MetadataMode.EMBED) == node.node.get_content(MetadataMode.NONE)


def test_an_event_loop_gets_the_same_nodes(url: str) -> None:
    retriever = TilthRetriever(url)
    for query in ("bucket", "секатор"):
        later = asyncio.run(retriever.aretrieve(QueryBundle(query)))
        assert facts(retriever.retrieve(query)) == facts(later)


def test_filters_number_and_budget_are_those_of_the_retriever(url: str) -> None:
    def ids(**options: Any) -> list[str]:
        return [each.node.node_id for each in TilthRetriever(url, **options).retrieve("bucket")]

    assert ids(filters={"price": {"lt": 5}}) == ["b3"]
    assert len(ids(k=1)) == 1
    with pytest.raises(TilthHttpError, match="budget_tokens is 1"):
        ids(budget_tokens=1)


def test_where_nothing_fits_the_nodes_say_so(refusing: str) -> None:
    nodes = TilthRetriever(refusing).retrieve("bucket")
    assert nodes
    assert all(each.node.metadata["nearest"] is True for each in nodes)


def test_a_key_is_shown_nowhere(url: str) -> None:
    retriever = TilthRetriever(url, KEY)
    assert KEY not in f"{retriever!r} {vars(retriever)}"
    with pytest.raises(TilthHttpError, match="HTTP 401") as raised:
        retriever.retrieve("bucket")
    assert KEY not in str(raised.value)


def test_a_wrong_address_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="no address"):
        TilthRetriever("localhost:8080")


def test_without_llama_index_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tilth.integrations.llama_index")
    monkeypatch.setitem(sys.modules, "llama_index.core.callbacks", None)
    with pytest.raises(MissingExtraError, match=r"LlamaIndex needs .*tilth\[llama-index\]"):
        __import__("tilth.integrations.llama_index")
