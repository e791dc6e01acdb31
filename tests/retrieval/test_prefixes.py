"""The table of families: names as they are published, and names that only look alike."""

import pytest

from tilth.retrieval.prefixes import prefixes_of

SENTENCE = "Represent this sentence for searching relevant passages: "


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/multilingual-e5-base", "query: ", "passage: "),
        ("intfloat/e5-small-v2", "query: ", "passage: "),
        ("/models/Multilingual-E5-Small", "query: ", "passage: "),
        ("deepvk/USER-base", "query: ", "passage: "),
        ("deepvk/USER-bge-m3", "", ""),
        ("ai-forever/FRIDA", "search_query: ", "search_document: "),
        ("ai-forever/ru-en-RoSBERTa", "search_query: ", "search_document: "),
        ("BAAI/bge-small-en-v1.5", SENTENCE, ""),
        ("BAAI/bge-m3", "", ""),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", SENTENCE, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("/srv/node5/e55-minilm", "", ""),
    ],
)
def test_families_have_their_prefixes(name: str, query: str, passage: str) -> None:
    assert prefixes_of(name) == (query, passage)


def test_instructed_models_have_their_instruction() -> None:
    prefixes = prefixes_of("intfloat/multilingual-e5-large-instruct")
    assert prefixes.query.startswith("Instruct: ")
    assert prefixes.query.endswith("\nQuery: ")
    assert prefixes.passage == ""
