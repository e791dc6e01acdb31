"""What the retrievers find for one query, over the products of all lists; and how fusion orders it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tilth.protocols import Allowed, Rows, Vectors
from tilth.retrieval.deadline import Deadline
from tilth.retrieval.fusion import NO_PLACES, Fusion, RankedPlaces, fitted, fuse_places
from tilth.retrieval.nearness import Cosines, nearness
from tilth.retrieval.rows import NO_HITS, RowHits, Scores
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.view import LEXICAL, LiveDense, View
from tilth.run import Hit

_UNKNOWN_WORDS = "the encoder knows the letters of this query, not its words"
_UNKNOWN_TEXT = "the encoder knows nothing of this query"


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the retrievers found for one query: a list each, over the products of all lists.

    A list holds the best products, as many as were asked for. `scores` holds what is known beyond it: the
    BM25 scores that tie with the last of the lexical list, and the cosines of all products, whichever list
    found them. `whole`: each retriever was asked for more than it has, so that no depth would find others.
    `identified` are the products whose identifier is the query itself, which no list need hold; `skipped`
    says which retriever has no list, and why.
    """

    ids: Sequence[str]  # of all these products, ascending: their numbers are the places in the lists
    rows: Rows  # of each
    lists: Mapping[str, RankedPlaces]  # in the order of the fusion's weights
    vectors: Mapping[str, Vectors] = field(default_factory=dict)  # (D,) of the query, by the leg that made it
    scores: Mapping[str, Scores] = field(default_factory=dict)  # (products,) by list, NaN where unknown
    identified: frozenset[int] = frozenset()
    skipped: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True

    def hits(self, name: str) -> tuple[Hit, ...]:
        """Return what one retriever found, by its name; nothing where it was never asked."""
        ranked = self.lists.get(name, NO_PLACES)
        pairs = zip(ranked.places.tolist(), ranked.scores.tolist(), strict=True)
        return tuple(Hit(self.ids[place], score) for place, score in pairs)

    def fused(self, fusion: Fusion) -> RankedPlaces:
        """Return all products in one order, those whose identifier was typed first.

        The fusion may be for fewer or more lists than there are: see `fusion.fitted`. Where no list that it
        gives a weight holds anything, as when an encoder was not asked, the order is the lexical one.
        """
        lists = self.seen_by(fusion)
        fused = fuse_places(list(lists.values()), len(self.ids), _heard(fusion, lists), self.identified)
        return self.identified_first(fused)

    def seen_by(self, fusion: Fusion) -> Mapping[str, RankedPlaces]:
        """Return the lists that a fusion adds up.

        One that adds scores takes every score that is known: a product whose BM25 score is that of the last
        in the lexical list counts as much as that one, and every product has its cosine. They follow those
        that the list holds. One that adds ranks takes the lists as they are.
        """
        return {name: self._known(name) for name in self.lists} if fusion.adds_scores else self.lists

    def _known(self, name: str) -> RankedPlaces:
        if name not in self.scores:
            return self.lists[name]
        places = np.flatnonzero(~np.isnan(self.scores[name]))
        return _best_first(places, self.scores[name][places])

    def fused_hits(self, fusion: Fusion) -> tuple[Hit, ...]:
        """Return `fused` as hits."""
        places, scores = self.fused(fusion)
        return tuple(Hit(self.ids[p], s) for p, s in zip(places.tolist(), scores.tolist(), strict=True))

    def identified_first(self, ranked: RankedPlaces) -> RankedPlaces:
        """Lift the products whose identifier was typed above all others of a ranking."""
        places, scores = ranked
        known = np.isin(places, list(self.identified))
        if known.any():
            scores = np.where(known, scores + 1 + scores[0] - scores[-1], scores)
            order = np.lexsort((places, -scores))
            places, scores = places[order], scores[order]
        return RankedPlaces(places, scores)


NOTHING = Candidates((), np.empty(0, np.int64), {})


def retrieve(
    view: View,
    text: str,
    depth: int,
    allowed: Allowed | None = None,
    watch: Stopwatch | None = None,
    deadline: Deadline | None = None,
    *,
    typed: str | None = None,
    complete: bool = True,
) -> Candidates:
    """Ask all retrievers for the candidates of one query.

    Args:
        view: what is searched.
        text: the query, its spelling corrected.
        depth: how many each retriever gives.
        allowed: a mask of the rows that may be returned; None allows all.
        watch: is told where the time goes.
        deadline: may leave dense retrievers out, the last of them last, never the lexical one.
        typed: the query before its spelling was corrected, which encoders read (`spelling.Reading`); None:
            `text`.
        complete: keep every score that is known and compare the query with every product, as a fusion that
            adds scores needs it.

    Returns:
        The candidates, among them the allowed products whose identifier is the query, however many others
        are above them; none for a query of blanks.
    """
    watch, deadline = watch or Stopwatch(), deadline or Deadline()
    if not text.strip():
        return NOTHING
    found = {LEXICAL: view.lexical.search_rows(text, depth, allowed), **dict.fromkeys(view.legs, NO_HITS)}
    watch.lap(LEXICAL)
    skipped = {name: _UNKNOWN_WORDS for name, leg in view.index.legs.items() if not leg.knows(text)}
    asked = [name for name in view.legs if name not in skipped]
    vectors: dict[str, Vectors] = {}
    for place, name in enumerate(asked):
        # An own encoder is a table of vectors: where time is short, a general one is left out before it.
        if deadline.allows(name, sparing=asked[place + 1 :]):
            with deadline.timed(name):
                vector = view.index.legs[name].encoder.encode_queries([typed or text])[0]
                watch.lap("encode")
                if vector.any():
                    vectors[name] = vector
                    found[name] = view.legs[name].search_rows(vector, depth, allowed)
                    watch.lap(name)
                else:  # as near to one product as to any other
                    skipped[name] = _UNKNOWN_TEXT
    identified = _identified(view, text, allowed)
    rows = np.unique(np.concatenate([identified, *(hits.rows for hits in found.values())]))
    ids = view.ids(rows)
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.intp)
    places = np.empty(len(rows), np.intp)
    places[by_id] = np.arange(len(rows))  # of each row, in the order of ids
    scores: dict[str, Scores] = {}
    if complete:
        scores[LEXICAL] = _scores(rows, found[LEXICAL])[by_id]
        for name, vector in vectors.items():
            scores[name] = _cosines(view.legs[name], vector, rows, found[name])[by_id]
    return Candidates(
        [ids[number] for number in by_id.tolist()],
        rows[by_id],
        {
            name: _ranked(places[np.searchsorted(rows, hits.rows)], hits, depth)
            for name, hits in found.items()
        },
        vectors,
        scores,
        frozenset(places[np.searchsorted(rows, identified)].tolist()),
        skipped,
        all(len(hits.rows) < depth for hits in found.values()),
    )


def _identified(view: View, text: str, allowed: Allowed | None) -> Rows:
    rows = view.lexical.identified_rows(text)
    allowed = view.alive if allowed is None else allowed
    return rows if allowed is None else rows[allowed[rows]]


def _heard(fusion: Fusion, lists: Mapping[str, RankedPlaces]) -> Fusion:
    """Return a fusion for these lists: where none that has a weight holds anything, of the lexical one alone.

    Lexical hits always come, also where they have weight 0 and the encoder of the query was left out.
    """
    fit = fitted(fusion, len(lists))
    weighed = zip(fit.weights_of(len(lists)), lists.values(), strict=True)
    if not lists or any(weight > 0 and len(ranked.places) for weight, ranked in weighed):
        return fit
    return replace(fit, weights=tuple(float(name == LEXICAL) for name in lists))


def _scores(rows: Rows, found: RowHits) -> Scores:
    """Return the score of each row (ascending) that is a hit, and NaN for the others."""
    scores = np.full(len(rows), np.nan, np.float32)
    scores[np.searchsorted(rows, found.rows)] = found.scores
    return scores


def _cosines(leg: LiveDense, vector: Vectors, rows: Rows, found: RowHits) -> Cosines:
    """Return the cosine of each row (ascending): that of the hit, where it is one."""
    cosines = _scores(rows, found)
    others = np.flatnonzero(np.isnan(cosines))
    cosines[others] = nearness(leg.passages_of(rows[others]), vector, len(others)).best
    return cosines


def _ranked(places: npt.NDArray[np.intp], hits: RowHits, depth: int) -> RankedPlaces:
    """Order hits by (-score, place) and cut them."""
    best = _best_first(places, hits.scores)
    return RankedPlaces(best.places[:depth], best.scores[:depth])


def _best_first(places: npt.NDArray[np.intp], scores: Scores) -> RankedPlaces:
    order = np.lexsort((places, -scores))
    return RankedPlaces(places[order], scores[order])
