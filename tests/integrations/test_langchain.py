"""The retriever for LangChain, in chains, against a service that really listens."""

import asyncio
import sys
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from tilth.errors import InputError, MissingExtraError
from tilth.integrations.client import TilthHttpError
from tilth.integrations.langchain import TilthRetriever

KEY = "tilth_0123456789ab_very-secret"


def test_documents_are_products_with_their_facts(url: str) -> None:
    retriever = TilthRetriever(url=url, k=10)
    first, *others = retriever.invoke("steel bucket 10 l")
    assert isinstance(first, Document)
    assert first.id == "b1"
    assert first.page_content.startswith("Steel bucket")
    facts = {name: first.metadata[name] for name in ("product_id", "label", "price", "availability", "rank")}
    assert facts == {
        "product_id": "b1",
        "label": "[1]",
        "price": "9.00 EUR",
        "availability": "in_stock",
        "rank": 1,
    }
    assert [variant["product_id"] for variant in first.metadata["variants"]] == ["b2"]
    assert first.metadata["nearest"] is False
    assert "b3" in [document.id for document in others]
    assert {document.metadata["impression_id"] for document in others} == {first.metadata["impression_id"]}


def test_an_event_loop_gets_the_same_documents(url: str) -> None:
    retriever = TilthRetriever(url=url)
    for query in ("bucket", "секатор"):
        now, later = retriever.invoke(query), asyncio.run(retriever.ainvoke(query))
        assert [d.page_content for d in now] == [d.page_content for d in later]
        assert [{**d.metadata, "impression_id": ""} for d in now] == [
            {**d.metadata, "impression_id": ""} for d in later
        ]


def test_filters_number_and_budget_are_those_of_the_retriever(url: str) -> None:
    assert [d.id for d in TilthRetriever(url=url, filters={"price": {"lt": 5}}).invoke("bucket")] == ["b3"]
    assert len(TilthRetriever(url=url, k=1).invoke("bucket")) == 1
    with pytest.raises(TilthHttpError, match="budget_tokens is 1"):
        TilthRetriever(url=url, budget_tokens=1).invoke("bucket")


def test_where_nothing_fits_the_documents_say_so(refusing: str) -> None:
    documents = TilthRetriever(url=refusing).invoke("bucket")
    assert documents
    assert all(document.metadata["nearest"] is True for document in documents)


def test_a_chain_of_a_retriever_a_prompt_and_a_model(url: str) -> None:
    def prompt(given: dict[str, Any]) -> str:
        lines = [f"{d.metadata['label']} {d.metadata['price']} {d.page_content}" for d in given["context"]]
        return "\n".join([*lines, given["question"]])

    model = RunnableLambda(lambda text: f"{text.splitlines()[0]}!")  # stands for one that answers
    chain = (
        {"context": TilthRetriever(url=url), "question": RunnablePassthrough()}
        | RunnableLambda(prompt)
        | model
    )
    assert chain.invoke("plastic bucket").startswith("[1] 4.00 EUR Plastic bucket")
    assert asyncio.run(chain.ainvoke("секатор")).startswith("[1] 990.00 RUB Секатор")
    assert [answer[:3] for answer in chain.batch(["bucket", "секатор"])] == ["[1]", "[1]"]


def test_a_key_is_shown_nowhere(url: str) -> None:
    retriever = TilthRetriever(url=url, key=KEY)
    shown = f"{retriever!r} {retriever} {retriever.model_dump()} {retriever.model_dump_json()}"
    assert KEY not in shown
    with pytest.raises(TilthHttpError, match="HTTP 401") as raised:  # there is no such key
        retriever.invoke("bucket")
    assert KEY not in str(raised.value)


def test_a_wrong_address_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="no address"):
        TilthRetriever(url="localhost:8080")


def test_without_langchain_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tilth.integrations.langchain")
    monkeypatch.setitem(sys.modules, "langchain_core.documents", None)
    with pytest.raises(MissingExtraError, match=r"LangChain needs .*tilth\[langchain\]"):
        __import__("tilth.integrations.langchain")
