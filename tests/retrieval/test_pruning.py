"""What need not be looked at."""

import tantivy
from pytest import approx, mark

from tilth.retrieval.pruning import Term, essential


def terms(*frequencies: int, products: int = 999) -> list[Term]:
    return [Term(tantivy.Query.empty_query(), frequency, products) for frequency in frequencies]


def test_a_term_scores_at_most_k1_plus_1_times_its_idf() -> None:
    assert Term(tantivy.Query.empty_query(), 9, 999).bound == approx(
        2.2 * 4.656, rel=1e-3
    )  # ln(1 + 990.5 / 9.5)


# The bounds of 9, 99 and 499 of 999 products: 10.24, 5.07 and 1.52.
@mark.parametrize(("least", "count"), [(0.0, 3), (1.5, 3), (1.6, 2), (6.5, 2), (6.7, 1), (100.0, 1)])
def test_frequent_terms_that_cannot_lift_a_product_to_the_best_are_left_out(least: float, count: int) -> None:
    assert essential(terms(9, 99, 499), least) == count


def test_a_product_that_could_tie_with_the_last_is_looked_at() -> None:
    least = terms(499)[0].bound
    assert essential(terms(9, 499), least) == 2
