"""How far judges agree: worked by hand, Krippendorff's own example, and what always holds."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.judgments import Judgment
from tilth.labelling.aggregation import Ratings, ratings
from tilth.labelling.agreement import Agreement, PairAgreement, agreement, kappa

ONE = Judgment(
    query_id="q1", query="", product_id="p1", grade=0, highest=3, judge="anna", kind="person",
    time=datetime(2026, 5, 31, tzinfo=UTC),
)  # fmt: skip
NOTHING = {"nominal": None, "ordinal": None, "interval": None}


def table(*rows: str, highest: int = 3) -> Ratings:
    """Ratings: a row a judge, a column a pair, `.` where there is none."""
    return ratings(
        replace(ONE, product_id=f"p{pair}", judge=f"j{judge}", grade=int(cell), highest=highest)
        for judge, row in enumerate(rows, start=1)
        for pair, cell in enumerate(row)
        if cell != "."
    )


def test_two_judges_by_hand() -> None:
    """Both say 1 six times, 0 twice, and differ twice: 0.8 observed, 0.6 * 0.8 + 0.4 * 0.2 by chance."""
    found = agreement(table("1111110011", "1111110000", highest=1))
    (pair,) = found.pairs
    chance = 0.8 * 0.6 + 0.2 * 0.4
    assert (pair.first, pair.second, pair.shared, pair.observed) == ("j1", "j2", 10, 0.8)
    assert pair.kappa == pytest.approx(dict.fromkeys(pair.kappa, (0.8 - chance) / (1 - chance)))
    # Of 20 values, 14 are 1 and 6 are 0: 2 * 14 * 6 / 19 disagreements by chance, and 4 observed.
    assert pair.alpha == pytest.approx(dict.fromkeys(pair.alpha, 1 - 4 / (2 * 14 * 6 / 19)))
    assert (found.shared, found.observed, found.alpha) == (10, 0.8, pair.alpha)


def test_weights_by_hand() -> None:
    """Grades 0 0 3 3 and 0 1 3 3: one of four differs, by one grade."""
    grades, others = np.array([0, 0, 3, 3]), np.array([0, 1, 3, 3])
    # By chance: (0, 0) 1/8, (0, 1) 1/8, (0, 3) 1/4, (3, 0) 1/8, (3, 1) 1/8, (3, 3) 1/4.
    assert kappa(grades, others, 3, "none") == pytest.approx(1 - (1 / 4) / (5 / 8))
    by_chance = 1 / 8 * 1 + 1 / 4 * 3 + 1 / 8 * 3 + 1 / 8 * 2
    assert kappa(grades, others, 3, "linear") == pytest.approx(1 - (1 / 4) / by_chance)
    by_chance = 1 / 8 * 1 + 1 / 4 * 9 + 1 / 8 * 9 + 1 / 8 * 4
    assert kappa(grades, others, 3, "quadratic") == pytest.approx(1 - (1 / 4) / by_chance)


def test_krippendorffs_example() -> None:
    """Twelve units, four observers, values missing (Computing Krippendorff's Alpha-Reliability, 2011)."""
    observers = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    found = agreement(table(*observers, highest=5))
    assert {level: round(value, 3) for level, value in found.alpha.items()} == {
        "nominal": 0.743, "ordinal": 0.815, "interval": 0.849,
    }  # fmt: skip
    assert found.shared == 11  # one unit has a single value
    assert found.judges == {"j1": 9, "j2": 11, "j3": 10, "j4": 11}
    assert len(found.pairs) == 6


def test_only_what_two_judges_share_is_compared() -> None:
    found = agreement(table("0123..", "..2310", ".....0"))
    shared = [(pair.first, pair.second, pair.shared, pair.observed) for pair in found.pairs]
    assert shared == [("j1", "j2", 2, 1.0), ("j2", "j3", 1, 1.0)]
    assert (found.shared, found.observed) == (3, 1.0)
    assert found.pairs[0].kappa == pytest.approx({"none": 1, "linear": 1, "quadratic": 1})


def test_chance_says_nothing_where_all_grades_are_one() -> None:
    found = agreement(table("000", "000"))
    assert found.pairs == (
        PairAgreement("j1", "j2", 3, 1.0, {"none": None, "linear": None, "quadratic": None}, NOTHING),
    )
    assert (found.observed, found.alpha) == (1.0, NOTHING)


def test_judges_who_share_nothing() -> None:
    assert agreement(table("0.", ".1")) == Agreement(3, {"j1": 1, "j2": 1}, 0, None, NOTHING, ())


def test_json_has_the_names_of_the_fields() -> None:
    report = agreement(table("0123", "0122")).to_json()
    assert orjson.loads(orjson.dumps(report)) == report
    assert list(report) == ["highest", "judges", "shared", "observed", "alpha", "pairs"]
    (pair,) = report["pairs"]
    assert (pair["first"], pair["shared"], pair["observed"]) == ("j1", 4, 0.75)
    assert list(pair["kappa"]) == ["none", "linear", "quadratic"]


grades = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(pairs=grades)
def test_the_order_of_two_judges_is_all_the_same_and_only_agreement_is_perfect(pairs: list) -> None:
    first, second = ("".join(map(str, side)) for side in zip(*pairs, strict=True))
    (one,), (other,) = agreement(table(first, second)).pairs, agreement(table(second, first)).pairs
    assert one.alpha == pytest.approx(other.alpha)
    assert one.kappa == pytest.approx(other.kappa)
    for value in (*one.kappa.values(), *one.alpha.values()):
        if value is not None:
            assert value <= 1 + 1e-12
            assert (value > 1 - 1e-9) == (first == second)
