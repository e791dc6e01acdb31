"""The classical baseline against scikit-learn's own vectors, multiplied out in full."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from tilth.query import Query
from tilth.retrieval.analyzer import analyze
from tilth.retrieval.tfidf import TfidfRetriever

PASSAGES = ["cow manure 20 kg", "manure for roses and tomatoes", "tomato feed", "hose 25 m", "tomato tomato"]
ROWS = np.array([0, 0, 1, 2, 3], np.int64)
QUERIES = ["tomato manure", "hose", "cow", "nothing of this", ""]


@pytest.fixture(scope="module")
def retriever() -> TfidfRetriever:
    return TfidfRetriever(PASSAGES, ROWS, lambda rows: [f"p{row}" for row in rows.tolist()])


def cosines(text: str) -> np.ndarray:
    vectorizer = TfidfVectorizer(analyzer=analyze, sublinear_tf=True)
    passages = vectorizer.fit_transform(PASSAGES).toarray()
    return passages @ vectorizer.transform([text]).toarray()[0]


@pytest.mark.parametrize("text", QUERIES)
def test_passages_are_ranked_by_cosine(retriever: TfidfRetriever, text: str) -> None:
    expected = cosines(text)
    found = retriever.top_passages(text)
    assert [hit.passage for hit in found] == [n for n in np.argsort(-expected, kind="stable") if expected[n]]
    np.testing.assert_allclose([hit.score for hit in found], [expected[hit.passage] for hit in found], 1e-6)
    assert [hit.row for hit in found] == [ROWS[hit.passage] for hit in found]


def test_no_more_passages_than_asked_for(retriever: TfidfRetriever) -> None:
    assert len(retriever.top_passages("tomato manure", k=2)) == 2
    assert retriever.top_passages("tomato", k=0) == []


@pytest.mark.parametrize("text", QUERIES)
def test_a_product_scores_as_its_best_passage(retriever: TfidfRetriever, text: str) -> None:
    expected = {f"p{row}": cosines(text)[row == ROWS].max() for row in np.unique(ROWS)}
    run = retriever.search([Query("q", text)], 10)
    assert {hit.product_id for hit in run["q"]} == {product for product, score in expected.items() if score}
    for product, score in run["q"]:
        assert score == pytest.approx(expected[product], 1e-6)
