"""The classical baseline: cosine of TF-IDF vectors over passages."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tilth.protocols import Rows
from tilth.query import Query
from tilth.retrieval.analyzer import analyze
from tilth.retrieval.rows import NO_HITS, ProductIds, RowHits, Scores, best_per_row, named
from tilth.run import Run


class PassageHit(NamedTuple):
    """A passage of the baseline: its number, its product's row and its cosine with the query."""

    passage: int
    row: int
    score: float


class TfidfRetriever:
    """TF-IDF vectors of all passages, searched exactly; a product's score is its best passage's."""

    def __init__(self, passages: Iterable[str], rows: Rows, ids: ProductIds) -> None:
        """Fit on the passages.

        Args:
            passages: (N,) texts.
            rows: (N,) the row of the product that each passage belongs to, ascending.
            ids: names of rows.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer  # a second, which no search needs

        self._vectorizer = TfidfVectorizer(analyzer=analyze, sublinear_tf=True, dtype=np.float32)
        self._rows, self._ids = rows, ids
        self._by_term = self._vectorizer.fit_transform(passages).T.tocsr()  # (terms, N)

    def _scores(self, text: str) -> tuple[Rows, Scores]:
        """Return the passages that share a term with the query, and their cosines."""
        product = (self._vectorizer.transform([text]) @ self._by_term).tocsr()
        return product.indices.astype(np.int64), product.data

    def top_passages(self, text: str, k: int = 5) -> list[PassageHit]:
        """Return the `k` best passages, best first, each scored by its cosine (0 to 1)."""
        passages, scores = self._scores(text)
        best = np.lexsort((passages, -scores))[:k]
        return [PassageHit(int(passages[i]), int(self._rows[passages[i]]), float(scores[i])) for i in best]

    def search_rows(self, text: str, k: int) -> RowHits:
        """Return every row that shares a term with the query, scored by its best passage."""
        if k <= 0:
            return NO_HITS
        passages, scores = self._scores(text)
        return best_per_row(self._rows[passages], scores)

    def search(self, queries: Sequence[Query], k: int) -> Run:
        """Return at most `k` hits a query, scored by cosine."""
        found = {q.query_id: named(self.search_rows(q.text, k), self._ids, k) for q in queries}
        return Run("tfidf", found)
