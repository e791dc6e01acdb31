"""What the retrievers find for one query, over the products of all lists; and how fusion orders it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tilth.protocols import Allowed, Rows, Vectors
from tilth.retrieval.deadline import Deadline
from tilth.retrieval.fusion import NO_PLACES, Fusion, RankedPlaces, fitted, fuse_places
from tilth.retrieval.nearness import Cosines, nearness
from tilth.retrieval.rows import NO_HITS, RowHits
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.view import LEXICAL, LiveDense, View
from tilth.run import Hit

_UNKNOWN_WORDS = "the encoder knows the letters of this query, not its words"


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the retrievers found for one query: a list each, over the products of all lists.

    A dense list holds the nearest products; `cosines` those of all products, whichever list found them.
    `whole`: each retriever was asked for more than it has, so that no depth would find others. `identified`
    are the products whose identifier is the query itself; `skipped` says which retriever was not asked, and
    why.
    """

    ids: Sequence[str]  # of all products found, ascending: their numbers are the places in the lists
    rows: Rows  # of each
    lists: Mapping[str, RankedPlaces]  # in the order of the fusion's weights
    vectors: Mapping[str, Vectors] = field(default_factory=dict)  # (D,) of the query, by the leg that made it
    cosines: Mapping[str, Cosines] = field(default_factory=dict)  # (products,), by the same legs
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

        The fusion may be for fewer or more lists than there are: see `fusion.fitted`.
        """
        lists = list(self.seen_by(fusion).values())
        return self.identified_first(fuse_places(lists, len(self.ids), fitted(fusion, len(lists))))

    def seen_by(self, fusion: Fusion) -> Mapping[str, RankedPlaces]:
        """Return the lists that a fusion adds up.

        One that adds scores takes every cosine that there is, also of products that only another list found:
        they follow those that the dense list holds. One that adds ranks takes the lists as they are.
        """
        return {name: self._known(name) for name in self.lists} if fusion.adds_scores else self.lists

    def _known(self, name: str) -> RankedPlaces:
        if name not in self.cosines:
            return self.lists[name]
        places = np.flatnonzero(~np.isnan(self.cosines[name]))
        scores = self.cosines[name][places]
        order = np.lexsort((places, -scores))
        return RankedPlaces(places[order], scores[order])

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
        complete: compare the query with every product found, as a fusion that adds scores needs it.

    Returns:
        The candidates; none for a query of blanks.
    """
    watch, deadline = watch or Stopwatch(), deadline or Deadline()
    if not text.strip():
        return NOTHING
    found = {LEXICAL: view.lexical.search_rows(text, depth, allowed), **dict.fromkeys(view.legs, NO_HITS)}
    watch.lap(LEXICAL)
    asked = [name for name, leg in view.index.legs.items() if leg.knows(text)]
    vectors: dict[str, Vectors] = {}
    for place, name in enumerate(asked):
        # An own encoder is a table of vectors: where time is short, a general one is left out before it.
        if deadline.allows(name, sparing=asked[place + 1 :]):
            with deadline.timed(name):
                vectors[name] = view.index.legs[name].encoder.encode_queries([typed or text])[0]
                watch.lap("encode")
                found[name] = view.legs[name].search_rows(vectors[name], depth, allowed)
                watch.lap(name)
    rows = np.unique(np.concatenate([hits.rows for hits in found.values()]))
    ids = view.ids(rows)
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.intp)
    places = np.empty(len(rows), np.intp)
    places[by_id] = np.arange(len(rows))  # of each row, in the order of ids
    known = np.searchsorted(rows, np.intersect1d(view.lexical.identified_rows(text), rows))
    return Candidates(
        [ids[number] for number in by_id.tolist()],
        rows[by_id],
        {
            name: _ranked(places[np.searchsorted(rows, hits.rows)], hits, depth)
            for name, hits in found.items()
        },
        vectors,
        {
            name: _cosines(view.legs[name], vector, rows, found[name])[by_id]
            for name, vector in (vectors.items() if complete else ())
        },
        frozenset(places[known].tolist()),
        {name: _UNKNOWN_WORDS for name in view.legs if name not in asked},
        all(len(hits.rows) < depth for hits in found.values()),
    )


def _cosines(leg: LiveDense, vector: Vectors, rows: Rows, found: RowHits) -> Cosines:
    """Return the cosine of each row (ascending): that of the hit, where it is one."""
    cosines = np.full(len(rows), np.nan, np.float32)
    cosines[np.searchsorted(rows, found.rows)] = found.scores
    others = np.flatnonzero(np.isnan(cosines))
    cosines[others] = nearness(leg.passages_of(rows[others]), vector, len(others)).best
    return cosines


def _ranked(places: npt.NDArray[np.intp], hits: RowHits, depth: int) -> RankedPlaces:
    """Order hits by (-score, place) and cut them."""
    order = np.lexsort((places, -hits.scores))[:depth]
    return RankedPlaces(places[order], hits.scores[order])
