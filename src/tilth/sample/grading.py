"""Grading products against all needs as they stream past, in bounded memory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from tilth.sample.needs import Clause, Need
from tilth.sample.products import SampleProduct

MOST_RELEVANT = 1000  # recorded products with a grade above 0 for a query, the highest grades first
MOST_IRRELEVANT = 40  # recorded products with grade 0 for a query


class Pool:
    """The graded products of one query: the first that came, up to a limit for each grade."""

    def __init__(self, need: Need) -> None:
        self.need = need
        self._kept: dict[int, list[str]] = {3: [], 2: [], 1: [], 0: []}
        self.relevant = 0  # products with a grade above 0, recorded or not

    def add(self, product_id: str, grade: int) -> None:
        """Record a product, if its grade has room."""
        kept = self._kept[grade]
        self.relevant += grade > 0
        if len(kept) < (MOST_RELEVANT if grade else MOST_IRRELEVANT):
            kept.append(product_id)

    def rows(self) -> Iterator[tuple[str, int]]:
        """Yield (product_id, grade), highest grades first, at most `MOST_RELEVANT` above grade 0."""
        room = MOST_RELEVANT
        for grade in (3, 2, 1):
            yield from ((product_id, grade) for product_id in self._kept[grade][:room])
            room -= min(room, len(self._kept[grade]))
        yield from ((product_id, 0) for product_id in self._kept[0])

    @property
    def capped(self) -> bool:
        """Whether the shop holds more relevant products than are recorded."""
        return self.relevant > MOST_RELEVANT


class Grader:
    """Pools for all needs, found from a product's type."""

    def __init__(self, needs: Iterable[Need]) -> None:
        self.pools = [Pool(need) for need in needs]
        self._by_type: defaultdict[object, list[tuple[Pool, list[Clause]]]] = defaultdict(list)
        for pool in self.pools:
            of_type: defaultdict[object, list[Clause]] = defaultdict(list)
            for clause in pool.need.clauses:
                of_type[clause.facts["type"]].append(clause)
            for key, clauses in of_type.items():
                self._by_type[key].append((pool, clauses))

    def grade(self, product: SampleProduct) -> None:
        """Add a product to the pool of every query whose clauses it meets."""
        facts, price, product_id = product.facts.items(), product.price, str(product.record["id"])
        for pool, clauses in self._by_type.get(product.type.key, ()):
            for clause in clauses:
                if price <= clause.at_most and clause.facts.items() <= facts:
                    pool.add(product_id, clause.grade)
                    break
