"""The features of candidates: worked by hand, against plain Python, and the same in training and serving."""

import dataclasses
import math
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from catalogues import products as catalogues
from fakes import kept_encoder, own_encoder
from shop import index, quiet
from tilth.catalog import Price, Product
from tilth.pipeline import Pipeline, Pool, open_index
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.reranking.behaviour import NO_BEHAVIOUR, PRIOR, Behaviour, Counts
from tilth.reranking.feature_names import FEATURES, NAMES
from tilth.reranking.features import Matrix, feature_matrix
from tilth.reranking.reranker import Reranker
from tilth.retrieval.analyzer import UNITS, analyze
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.builder import compact_index
from tilth.retrieval.candidates import NOTHING, Candidates, retrieve
from tilth.retrieval.fusion import Fusion, RankedPlaces
from tilth.retrieval.lexical import attribute_terms, field_terms
from tilth.retrieval.term_rows import MOST_KEPT, TERM_FIELDS
from tilth.retrieval.view import View

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
NO_TERM = "x" * 70  # longer than any term
WORDS = ["spade", "hose", "steel", "basket", "memory", "card", "manure", "лопата", "сад", NO_TERM]
FUSION = Fusion("rrf", (1.0, 0.5))
DEPTH = 200

Named = dict[str, dict[str, float]]  # by product and feature
ViewOf = Callable[[Sequence[Product]], View]


def named(matrix: Matrix, ids: Sequence[str]) -> Named:
    return {name: dict(zip(NAMES, row, strict=True)) for name, row in zip(ids, matrix.tolist(), strict=True)}


def candidates(
    view: View, text: str, depth: int = DEPTH, fusion: Fusion = FUSION
) -> tuple[Candidates, RankedPlaces]:
    found = retrieve(view, text, depth)
    return found, found.fused(fusion)


def features(view: View, text: str, depth: int = DEPTH, behaviour: Behaviour = NO_BEHAVIOUR) -> Named:
    found, fused = candidates(view, text, depth)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = feature_matrix(view, text, found, fused, behaviour)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert not np.isinf(matrix).any()
    return named(matrix, [found.ids[place] for place in fused.places.tolist()])


@contextmanager
def opened(products: Sequence[Product], into: Path) -> Iterator[Pipeline]:
    index(products, into, kept_encoder(WORDS))
    pipeline = open_index(into)
    yield pipeline
    pipeline.close()


@pytest.fixture
def view_of(tmp_path: Path) -> Iterator[ViewOf]:
    """Makes the view of a catalogue."""
    made: list[Pipeline] = []

    def view(products: Sequence[Product]) -> View:
        into = tmp_path / f"idx{len(made)}"
        index(products, into, kept_encoder(WORDS))
        made.append(open_index(into))
        return made[-1].live.view

    yield view
    for pipeline in made:
        pipeline.close()


def known(values: Named, feature: str) -> dict[str, float | None]:
    """A feature by product, None for missing."""
    return {name: None if math.isnan(row[feature]) else row[feature] for name, row in values.items()}


def assert_near(values: Named, feature: str, expected: dict[str, float | None]) -> None:
    """Compare a feature by product; None is missing."""
    numbers = {name: math.nan if value is None else value for name, value in expected.items()}
    found = {name: row[feature] for name, row in values.items()}
    assert found == pytest.approx(numbers, rel=1e-6, nan_ok=True), feature


# --- terms, by hand -------------------------------------------------------------------------------

TOOLS = [
    Product(id="a", title="Steel spade long", brand="Terra", product_type="Garden > Tools"),
    Product(id="b", title="Spade", description="A long handle. Steel blade."),
    Product(id="c", title="Long hose", attributes={"material": "steel", "spade": "no"}),
    Product(id="d", title="Basket long steel", brand="Steel spade"),
]


def test_coverage_by_field_and_by_any(view_of: ViewOf) -> None:
    values = features(view_of(TOOLS), "steel spade")
    assert known(values, "title_coverage") == {"a": 1.0, "b": 0.5, "c": 0.0, "d": 0.5}
    assert known(values, "brand_coverage") == {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0}
    assert known(values, "description_coverage") == {"a": 0.0, "b": 0.5, "c": 0.0, "d": 0.0}
    assert known(values, "attributes_coverage") == {"a": 0.0, "b": 0.0, "c": 0.5, "d": 0.0}  # "no" is none
    assert known(values, "any_coverage") == {"a": 1.0, "b": 1.0, "c": 0.5, "d": 1.0}
    assert known(values, "title_length") == {"a": 3.0, "b": 1.0, "c": 2.0, "d": 3.0}
    assert known(values, "type_length") == {"a": 2.0, "b": 0.0, "c": 0.0, "d": 0.0}


def test_a_rare_term_weighs_more(view_of: ViewOf) -> None:
    values = features(view_of(TOOLS), "long basket")  # of 4 products, `long` is in 4 and `basket` in 1
    long, basket = math.log(1 + 0.5 / 4.5), math.log(1 + 3.5 / 1.5)
    assert values["a"]["title_rare_coverage"] == pytest.approx(long / (long + basket))
    assert values["b"]["title_rare_coverage"] == 0.0
    assert values["b"]["any_rare_coverage"] == pytest.approx(long / (long + basket))
    assert values["d"]["title_rare_coverage"] == pytest.approx(1.0)
    assert values["a"]["query_rarity_mean"] == pytest.approx((long + basket) / 2)
    assert values["a"]["query_rarity_max"] == pytest.approx(basket)


def test_bm25_of_one_field(view_of: ViewOf) -> None:
    values = features(view_of(TOOLS), "basket")
    norm = 1.2 * (0.25 + 0.75 * 3 / (9 / 4))  # a title of 3 terms, of 9 in 4 titles
    assert values["d"]["title_bm25"] == pytest.approx(math.log(1 + 3.5 / 1.5) * 2.2 / (1 + norm))
    assert {row["title_bm25"] for name, row in values.items() if name != "d"} == {0.0}
    assert {row["description_bm25"] for row in values.values()} == {0.0}


def test_phrases_are_neighbours_within_one_field_of_one_product(view_of: ViewOf) -> None:
    view = view_of(
        [
            *TOOLS,
            Product(id="e", title="Hose with steel", brand="Spade"),  # steel | spade: two fields
            Product(id="f", title="Spade steel spade"),
            Product(id="g", title="Spade of steel"),  # the next row's title begins as this one's brand
        ]
    )
    values = features(view, "steel spade long")  # two pairs
    assert known(values, "title_phrase") == {
        "a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 0.5, "g": 0.0,
    }  # fmt: skip
    assert known(values, "any_phrase") == {
        "a": 1.0, "b": 0.0, "c": 0.0, "d": 0.5, "e": 0.0, "f": 0.5, "g": 0.0,
    }  # fmt: skip
    assert set(known(features(view, "steel"), "any_phrase").values()) == {None}


def test_phrases_of_a_long_query_are_its_own_neighbours(view_of: ViewOf) -> None:
    words = [f"w{chr(97 + n // 26)}{chr(97 + n % 26)}q" for n in range(40)]
    view = view_of([Product(id="a", title=f"{words[0]} {words[39]} {words[1]}")])
    text = " ".join([*words[:32], words[0], words[39], words[1]])  # beyond 32 terms none is compared
    assert features(view, text)["a"]["title_phrase"] == 0.0


def test_where_in_the_title_the_query_stands(view_of: ViewOf) -> None:
    view = view_of(
        [
            Product(id="a", title="Long steel spade and basket"),
            Product(id="b", title="Spade"),
            Product(id="c", title="Basket for a spade or two spade"),
            Product(id="d", title="Hose", brand="Spade"),
        ]
    )
    values = features(view, "steel spade")
    assert known(values, "title_first") == {"a": 1.0, "b": 0.0, "c": 3.0, "d": None}
    assert known(values, "title_last") == {"a": 2.0, "b": 0.0, "c": 0.0, "d": None}
    assert known(values, "title_share") == pytest.approx({"a": 2 / 5, "b": 1.0, "c": 2 / 7, "d": 0.0})


def test_numbers_and_measures(view_of: ViewOf) -> None:
    view = view_of(
        [
            Product(id="same", title="Memory card 16GB"),
            Product(id="more", title="Memory card 32 GB"),
            Product(id="none", title="Memory card"),
            Product(id="said", title="Memory card", attributes={"size": "16 GB"}),
        ]
    )
    for text in ("memory card 16 gb", "16GB memory card"):
        values = features(view, text)
        assert known(values, "measure_match") == {"same": 1.0, "more": 0.0, "none": 0.0, "said": 1.0}
        assert known(values, "measure_conflict") == {"same": 0.0, "more": 1.0, "none": 0.0, "said": 0.0}
        assert known(values, "number_coverage") == {"same": 1.0, "more": 0.0, "none": 0.0, "said": 1.0}
        assert known(values, "title_number_coverage")["said"] == 0.0
        assert {row["query_measures"] for row in values.values()} == {1.0}
        assert {row["query_numbers"] for row in values.values()} == {2.0}  # 16gb and 16
    values = features(view, "memory card")
    for name in ("measure_match", "measure_conflict", "number_coverage", "title_number_coverage"):
        assert set(known(values, name).values()) == {None}


def test_measures_in_russian(view_of: ViewOf) -> None:
    view = view_of([Product(id="a", title="Навоз 20 кг"), Product(id="b", title="Навоз, мешок 5кг")])
    values = features(view, "навоз 20кг")
    assert known(values, "measure_match") == {"a": 1.0, "b": 0.0}
    assert known(values, "measure_conflict") == {"a": 0.0, "b": 1.0}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    with opened([Product(id="a", title="Spade")], tmp_path_factory.mktemp("one") / "idx") as pipeline:
        yield pipeline.live.view


@pytest.mark.parametrize("unit", sorted(set(UNITS.values())))
def test_every_unit_makes_a_measure(one: View, unit: str) -> None:
    spelling = next(spelling for spelling, known_unit in UNITS.items() if known_unit == unit)
    assert features(one, f"spade 16 {spelling}")["a"]["query_measures"] == 1.0


# --- terms, against plain Python ------------------------------------------------------------------

PIECES = [
    "spade",
    "steel",
    "hose",
    "лопата",
    "16 gb",
    "32GB",
    "20 кг",
    "5 kg",
    "16",
    "gb",
    "WH-1000XM4",
    "2 m",
]


def _shop_of_pieces(rng: random.Random) -> list[Product]:
    def text(most: int) -> str:
        return " ".join(rng.choices(PIECES, k=rng.randint(0, most)))

    return [
        Product(
            id=f"p{number:02}",
            title=text(5) or "spade",
            brand=rng.choice(["", "steel", "hose spade"]),
            product_type=rng.choice(["", "steel > spade", "spade > hose 5 kg"]),
            description=text(9),
            attributes={name: text(2) for name in rng.sample(["hose", "weight", "size"], rng.randint(0, 3))},
        )
        for number in range(40)
    ]


MIXED = _shop_of_pieces(random.Random(5))
_MEASURED = re.compile(r"(\d[\d.]*)([a-z]+\d?)")


def _plain_fields(product: Product) -> dict[str, list[str]]:
    texts = (product.title, product.brand, product.product_type, None, product.description)
    terms = [attribute_terms(product).split() if text is None else analyze(text) for text in texts]
    return {name: kept[:most] for name, kept, most in zip(TERM_FIELDS, terms, MOST_KEPT, strict=True)}


def _plain(text: str) -> Named:
    """What the features of terms are, said as plainly as can be."""
    fields = {product.id: _plain_fields(product) for product in MIXED}
    asked = analyze(text)
    terms = list(dict.fromkeys(asked))
    pairs = set(pairwise(asked))
    holders = {t: sum(t in set().union(*field_terms(p).values()) for p in MIXED) for t in terms}
    rarity = {t: math.log(1 + (len(MIXED) - n + 0.5) / (n + 0.5)) for t, n in holders.items()}
    numbers = [t for t in terms if any(map(str.isdigit, t))]
    measures = [(t, m[2]) for t in terms if (m := _MEASURED.fullmatch(t)) and m[2] in ("gb", "kg", "m")]
    values: Named = {}
    for product in MIXED:
        own = fields[product.id]
        row: dict[str, float] = {}
        anywhere = set().union(*own.values())
        for name, held in own.items():
            mean = sum(len(other[name]) for other in fields.values()) / len(MIXED)
            row[f"{name}_length"] = len(held)
            row[f"{name}_coverage"] = sum(t in held for t in terms) / len(terms)
            row[f"{name}_rare_coverage"] = sum(rarity[t] for t in terms if t in held) / sum(rarity.values())
            norm = 1.2 * (1 - 0.75 + 0.75 * len(held) / mean)
            row[f"{name}_bm25"] = sum(rarity[t] * held.count(t) * 2.2 / (held.count(t) + norm) for t in terms)
        row["any_coverage"] = sum(t in anywhere for t in terms) / len(terms)
        row["any_rare_coverage"] = sum(rarity[t] for t in terms if t in anywhere) / sum(rarity.values())
        neighbours = {name: set(pairwise(held)) for name, held in own.items()}
        if pairs:
            row["title_phrase"] = len(pairs & neighbours["title"]) / len(pairs)
            row["any_phrase"] = len(pairs & set().union(*neighbours.values())) / len(pairs)
        met = [place for place, term in enumerate(own["title"]) if term in terms]
        row["title_share"] = len(met) / len(own["title"])
        if met:
            row["title_first"], row["title_last"] = met[0], len(own["title"]) - 1 - met[-1]
        if numbers:
            row["number_coverage"] = sum(t in anywhere for t in numbers) / len(numbers)
            row["title_number_coverage"] = sum(t in own["title"] for t in numbers) / len(numbers)
        if measures:
            conflicts = sum(unit in anywhere and whole not in anywhere for whole, unit in measures)
            row["measure_match"] = sum(whole in anywhere for whole, _ in measures) / len(measures)
            row["measure_conflict"] = conflicts / len(measures)
        row |= {"query_terms": len(terms), "query_numbers": len(numbers), "query_measures": len(measures)}
        values[product.id] = row
    return values


_OF_TERMS = [
    name
    for name in NAMES
    if name.startswith((*(f"{field}_" for field in TERM_FIELDS), "any_", "number_", "measure_"))
    and not name.endswith(("_named", "_top_share"))
] + ["query_terms", "query_numbers", "query_measures"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    with opened(MIXED, tmp_path_factory.mktemp("mixed") / "idx") as pipeline:
        yield pipeline.live.view


@given(text=st.lists(st.sampled_from([*PIECES, "unknown"]), min_size=1, max_size=6).map(" ".join))
@settings(max_examples=40, deadline=None)
def test_features_of_terms_equal_plain_python(mixed: View, text: str) -> None:
    plain = _plain(text)
    found = features(mixed, text)
    assert bool(found) is (set(text.split()) != {"unknown"})
    for product_id, row in found.items():
        expected = {name: plain[product_id].get(name, math.nan) for name in _OF_TERMS}
        assert {name: row[name] for name in _OF_TERMS} == pytest.approx(expected, rel=1e-5, nan_ok=True)


# --- brands and types -----------------------------------------------------------------------------


def test_brands_and_types_that_the_query_names(view_of: ViewOf) -> None:
    view = view_of(
        [
            Product(id="a", title="Spade", brand="Terra Nova", product_type="Garden > Steel spades"),
            Product(id="b", title="Spade", brand="Terra", product_type="Steel > Baskets"),
            Product(id="c", title="Spade", brand="Humus", product_type="Baskets > Garden"),
            Product(id="d", title="Spade"),
        ]
    )
    values = features(view, "terra steel spade")
    assert known(values, "brand_named") == {"a": 0.0, "b": 1.0, "c": 0.0, "d": None}  # not the whole brand
    assert known(values, "brand_other_named") == {"a": 1.0, "b": 0.0, "c": 1.0, "d": None}
    assert known(values, "type_named") == {"a": 1.0, "b": 0.0, "c": 0.0, "d": None}  # by the last part
    assert known(values, "type_other_named") == {"a": 0.0, "b": 1.0, "c": 1.0, "d": None}
    assert known(values, "brand_top_share") == {"a": 0.25, "b": 0.25, "c": 0.25, "d": None}
    values = features(view, "spade")
    assert known(values, "brand_other_named") == {"a": 0.0, "b": 0.0, "c": 0.0, "d": None}


def test_shares_are_of_the_ten_best(view_of: ViewOf) -> None:
    view = view_of(
        [
            *(Product(id=f"a{n}", title="Spade spade spade", brand="Terra") for n in range(8)),
            *(Product(id=f"b{n}", title="Spade hose", brand="Humus") for n in range(4)),
        ]
    )
    values = features(view, "spade")
    assert [name[0] for name in values] == ["a"] * 8 + ["b"] * 4
    expected = {name: 0.8 if name[0] == "a" else 0.2 for name in values}
    assert known(values, "brand_top_share") == pytest.approx(expected)


# --- commerce -------------------------------------------------------------------------------------


def test_commerce(view_of: ViewOf) -> None:
    view = view_of(
        [
            Product(
                id="a", title="Spade", price=Price(10.0), sale_price=Price(8.0), availability="in_stock",
                rating=5.0, rating_count=2, popularity=3.0, clicks=7,
            ),
            Product(
                id="b", title="Spade", price=Price(20.0), availability="preorder", rating=3.0,
                rating_count=98, popularity=1.0, clicks=0,
            ),
            Product(id="c", title="Spade", price=Price(40.0), availability="out_of_stock", rating=4.0),
            Product(id="d", title="Spade"),
        ]
    )  # fmt: skip
    values = features(view, "spade")
    expected: dict[str, dict[str, float | None]] = {
        "price": {"a": 8, "b": 20, "c": 40, "d": None},
        "price_to_median": {"a": 0.4, "b": 1, "c": 2, "d": None},
        "price_place": {"a": 0, "b": 1 / 3, "c": 2 / 3, "d": None},
        "discount": {"a": 0.2, "b": None, "c": None, "d": None},
        "availability": {"a": 1, "b": 0.5, "c": 0, "d": None},
        "rating": {"a": 5, "b": 3, "c": 4, "d": None},
        "rating_count": {"a": 2, "b": 98, "c": None, "d": None},
        "popularity": {"a": 3, "b": 1, "c": None, "d": None},
        "popularity_place": {"a": 0.5, "b": 0, "c": None, "d": None},
        "clicks": {"a": 7, "b": 0, "c": None, "d": None},
        "clicks_place": {"a": 0.5, "b": 0, "c": None, "d": None},
    }
    for name, by_product in expected.items():
        assert_near(values, name, by_product)
    mean = (5 * 2 + 3 * 98 + 4 * 1) / 101  # a rating without a count is one
    smoothed = {"a": (5 * 2 + 10 * mean) / 12, "b": (3 * 98 + 10 * mean) / 108, "c": (4 + 10 * mean) / 11}
    assert_near(values, "rating_smoothed", {**smoothed, "d": None})


def test_zero_prices_counts_and_huge_values_give_no_warning(view_of: ViewOf) -> None:
    nothing = Product(
        id="a", title="Spade", price=Price(0.0), sale_price=Price(0.0), rating=4.0, rating_count=0
    )
    values = features(view_of([nothing, dataclasses.replace(nothing, id="b")]), "spade")["a"]
    assert values["price"] == 0.0
    assert math.isnan(values["price_to_median"])
    assert math.isnan(values["discount"])
    assert values["price_place"] == 0.0
    assert math.isnan(values["rating_smoothed"])  # rated by nobody
    free = dataclasses.replace(nothing, price=Price(5.0))
    values = features(view_of([free, Product(id="b", title="Spade", popularity=1e300)]), "spade")
    assert values["a"]["discount"] == 1.0
    assert math.isfinite(values["b"]["popularity"])


# --- behaviour ------------------------------------------------------------------------------------


def test_behaviour_is_drawn_to_the_wider_rate(view_of: ViewOf) -> None:
    view = view_of([Product(id=name, title="Spade") for name in "abc"])
    behaviour = Behaviour.of({
        ("Spade", "a"): Counts(80, 20),
        ("hose", "a"): Counts(20, 0),
        ("hose", "b"): Counts(100, 10),
    })  # fmt: skip
    values = features(view, "spade", behaviour=behaviour)
    rate = 30 / 200
    of_a, of_b = (20 + PRIOR * rate) / (100 + PRIOR), (10 + PRIOR * rate) / (100 + PRIOR)
    assert_near(values, "ctr", {"a": of_a, "b": of_b, "c": None})
    assert known(values, "query_clicks") == {"a": 20.0, "b": 0.0, "c": None}
    asked = (20 + PRIOR * of_a) / (80 + PRIOR)
    assert_near(values, "query_ctr", {"a": asked, "b": of_b, "c": None})
    for name in ("ctr", "query_clicks", "query_ctr"):
        assert set(known(features(view, "spade"), name).values()) == {None}


# --- retrieval and vectors ------------------------------------------------------------------------


def test_scores_and_ranks_of_the_retrievers(view_of: ViewOf) -> None:
    view = view_of(
        [
            Product(id="a", title="Steel spade"),
            Product(id="b", title="Steel hose"),
            Product(id="c", title="Basket", mpn="XK-900"),
        ]
    )
    found, fused = candidates(view, "steel spade")
    values = features(view, "steel spade")
    for retriever in ("lexical", "dense"):
        hits = found.hits(retriever)
        assert {h.product_id: n for n, h in enumerate(hits, 1)} == {
            name: row[f"{retriever}_rank"]
            for name, row in values.items()
            if not math.isnan(row[f"{retriever}_rank"])
        }
        for hit in hits:
            row = values[hit.product_id]
            assert row[f"{retriever}_score"] == pytest.approx(hit.score)
            assert row[f"{retriever}_share"] == pytest.approx(hit.score / hits[0].score)
    assert known(values, "lexical_rank") == {"a": 1.0, "b": 2.0, "c": None}
    assert known(values, "fused_rank") == {name: float(n) for n, name in enumerate(values, 1)}
    scores = fused.scores.tolist()
    assert [row["fused_score"] for row in values.values()] == pytest.approx(scores)
    assert [row["fused_share"] for row in values.values()] == pytest.approx([s / scores[0] for s in scores])
    assert known(features(view, "xk900"), "identified")["c"] == 1.0
    assert set(known(values, "identified").values()) == {0.0}


def test_what_a_retriever_did_not_reach_is_missing(view_of: ViewOf) -> None:
    view = view_of([Product(id="a", title="Spade", brand="Hose"), Product(id="b", title="Spade")])
    values = features(view, "spade", depth=1)
    for name in ("lexical_rank", "dense_rank"):
        assert [row[name] for row in values.values() if not math.isnan(row[name])] == [1.0]
    values = features(view_of([Product(id="a", title="q x z spade")]), "q x z")  # letters: not encoded
    assert [name for name, value in values["a"].items() if math.isnan(value) and "cosine_" in name] == [
        "cosine_head", "cosine_best", "own_cosine_head", "own_cosine_best",
    ]  # fmt: skip
    assert all(math.isnan(values["a"][f"dense_{what}"]) for what in ("score", "rank", "share"))
    assert values["a"]["cosine_to_top"] == pytest.approx(1.0)


def test_where_no_score_is_above_zero_nobody_has_a_share(view_of: ViewOf) -> None:
    view = view_of([Product(id="a", title="Spade"), Product(id="b", title="Hose")])
    values = features(view, "лопата")  # of the titles, in capitals, the encoder knows nothing
    assert known(values, "dense_share") == {"a": 0.0, "b": 0.0}
    assert known(values, "lexical_share") == {"a": None, "b": None}


def test_cosines_are_those_of_the_encoder_s_vectors(view_of: ViewOf) -> None:
    long = Product(id="z", title="Steel", description="spade spade hose " * 200 + "сад лопата " * 60)
    products = [Product(id=f"p{n:02}", title=" ".join(WORDS[n % 4 : n % 4 + n % 3 + 1])) for n in range(14)]
    view = view_of([*products, long])
    values = features(view, "steel spade")
    encoder = kept_encoder(WORDS)
    (query,) = encoder.encode_queries(["steel spade"])
    cuts = dict(zip([p.id for p in [*products, long]], view.index.cutter.cut([*products, long]), strict=True))
    assert len(cuts["z"].passages) == 2
    heads = {}
    for name, cut in cuts.items():
        vectors = encoder.encode_passages(cut.passages)
        heads[name] = vectors[0]
        cosines = vectors @ query
        assert values[name]["cosine_head"] == pytest.approx(cosines[0], abs=0.02)
        assert values[name]["cosine_best"] == pytest.approx(cosines.max(), abs=0.02)
        assert values[name]["cosine_best"] == pytest.approx(values[name]["dense_score"])
    centre = np.mean([heads[name] for name in list(values)[:10]], axis=0)
    for name, head in heads.items():
        expected = head @ centre / np.linalg.norm(centre)
        assert values[name]["cosine_to_top"] == pytest.approx(expected, abs=0.02)
    assert values["z"]["cosine_best"] != values["z"]["cosine_head"]


# --- with an own encoder --------------------------------------------------------------------------

OWN = {"own_score", "own_rank", "own_share", "own_cosine_head", "own_cosine_best"}


def test_the_own_encoder_has_features_of_its_own(tmp_path: Path) -> None:
    long = Product(id="z", title="Hose", description="spade " * 300)
    products = [Product(id="a", title="steel spade hose"), Product(id="b", title="steel"), long]
    own = own_encoder(WORDS)
    index(products, tmp_path / "two", kept_encoder(WORDS))
    index(products, tmp_path / "three", kept_encoder(WORDS), own=own)
    with closing(open_index(tmp_path / "two")) as two, closing(open_index(tmp_path / "three")) as three:
        view = three.live.view
        without, values = (features(each.live.view, "steel spade") for each in (two, three))
        found = retrieve(view, "steel spade", DEPTH)
        cuts = view.index.cutter.cut(products)
    for product, cut in zip(products, cuts, strict=True):
        row, before = values[product.id], without[product.id]
        assert {name for name, value in before.items() if math.isnan(value)} >= OWN
        same = {name for name in NAMES if name not in OWN and not name.startswith("fused")}
        assert {name: row[name] for name in same} == pytest.approx(
            {name: before[name] for name in same}, nan_ok=True
        )
        cosines = own.encode_passages(cut.passages) @ own.encode_queries(["steel spade"])[0]
        assert row["own_cosine_head"] == pytest.approx(cosines[0], abs=0.02)
        assert row["own_cosine_best"] == pytest.approx(cosines.max(), abs=0.02)
        assert row["own_cosine_best"] == pytest.approx(row["own_score"])
        assert row["own_cosine_best"] != pytest.approx(row["cosine_best"], abs=1e-3)
    assert values["z"]["own_cosine_head"] != values["z"]["own_cosine_best"]
    ranks = {hit.product_id: float(n) for n, hit in enumerate(found.hits("own"), 1)}
    assert known(values, "own_rank") == ranks
    assert values[found.hits("own")[0].product_id]["own_share"] == 1.0


# --- of the query, and nothing at all -------------------------------------------------------------


def test_features_of_the_query(one: View) -> None:
    values = features(one, "Spade spade, 16 GB!")["a"]
    assert (values["query_terms"], values["query_numbers"], values["query_measures"]) == (4.0, 2.0, 1.0)
    assert values["query_letters"] == 19.0


def test_a_query_without_terms_that_dense_search_answers(one: View) -> None:
    values = features(one, NO_TERM)["a"]
    missing = {name for name, value in values.items() if math.isnan(value)}
    assert {"title_coverage", "any_phrase", "title_share", "number_coverage", "query_rarity_max"} <= missing
    assert values["query_terms"] == 0.0
    assert values["title_length"] == 1.0


def test_no_candidates_give_no_rows(one: View) -> None:
    with np.errstate(all="raise"):
        empty = RankedPlaces(np.empty(0, np.intp), np.empty(0))
        assert feature_matrix(one, "spade", NOTHING, empty).shape == (0, len(NAMES))
        found = retrieve(one, "spade", 5)
        assert feature_matrix(one, "spade", found, empty).shape == (0, len(NAMES))


def test_the_names_are_the_columns() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.unit and feature.span and feature.about for feature in FEATURES)


# --- the same in training and serving -------------------------------------------------------------


class Seeing:
    """A model that keeps what it is given, and scores by the fused rank."""

    def __init__(self) -> None:
        self.seen: list[Matrix] = []

    def predict(self, given: Matrix) -> np.ndarray:
        self.seen.append(given.copy())
        return -given[:, NAMES.index("fused_rank")].astype(np.float64)


TEXTS = ["t terra", "garden compost 5 l", "red", "humus d 60 l", "грядка", "?!", "x" * 70]
_OF_DOCUMENTS = ("bm25", "rare_coverage", "rarity", "lexical_score", "lexical_share", "lexical_rank", "fused")
_OF_ORDER = ("fused_rank", "fused_share", "cosine_to_top", "brand_top_share", "type_top_share")


def _served(pipeline: Pipeline, text: str) -> Matrix:
    model = Seeing()
    serving = Pipeline(pipeline.live, Ranking(FUSION, Reranker(model)))
    serving.search([text], 10)
    serving.answer(text, 3)
    first, second = model.seen
    np.testing.assert_array_equal(first, second)
    return first


def _pools(pipeline: Pipeline) -> dict[str, Pool]:
    """The pools of the texts, after comparing each with what is served."""
    training = Pipeline(pipeline.live, Ranking(FUSION))
    pools = {pool.query_id: pool for pool in training.pools([Query(text, text) for text in TEXTS])}
    for text, pool in pools.items():
        assert len(pool.product_ids) == len(pool.features) == len(pool.fused)
        np.testing.assert_array_equal(pool.features, _served(pipeline, text))
    return pools


def _assert_same(one: dict[str, Pool], other: dict[str, Pool], *, but: tuple[str, ...] = ()) -> None:
    places = [n for n, name in enumerate(NAMES) if not any(part in name for part in but)]
    assert one.keys() == other.keys()
    for text, pool in one.items():
        again = other[text]
        assert sorted(pool.product_ids) == sorted(again.product_ids)
        order, order_again = np.argsort(pool.product_ids), np.argsort(again.product_ids)
        np.testing.assert_allclose(
            pool.features[order][:, places], again.features[order_again][:, places], rtol=1e-5, atol=1e-6
        )


@given(catalogue=catalogues(least=1), changed=catalogues())
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_training_and_serving_see_the_same(
    tmp_path_factory: pytest.TempPathFactory, catalogue: list[Product], changed: list[Product]
) -> None:
    folder = tmp_path_factory.mktemp("same")
    encoder = kept_encoder(["t", "d", "Terra", "Humus", "red", "garden"])
    index(catalogue, folder / "idx", encoder)
    pipeline = open_index(folder / "idx")
    _pools(pipeline)
    pipeline.upsert(changed)
    pipeline.refresh()
    updated = _pools(pipeline)
    compact_index(folder / "idx", pipeline.live.store, Resources(), quiet)
    pipeline.refresh()
    compacted = _pools(pipeline)
    _assert_same(updated, compacted, but=(*_OF_DOCUMENTS, *_OF_ORDER))
    with pipeline.live.store.snapshot() as snapshot:
        index(list(snapshot.products()), folder / "fresh", encoder)
    fresh = open_index(folder / "fresh")
    _assert_same(compacted, _pools(fresh))
    pipeline.close()
    fresh.close()
    shutil.rmtree(folder)


def test_rows_after_a_generation_without_their_fields(tmp_path: Path) -> None:
    """A field that no product of the generation has, and a later one has, is measured like any other."""
    with opened([Product(id="a", title="Spade")], tmp_path / "later") as pipeline:
        pipeline.upsert([Product(id="b", title="Spade", brand="Steel", description="A spade of steel")])
        pipeline.refresh()
        later = features(pipeline.live.view, "steel spade")["b"]
    assert later["brand_coverage"] == 0.5
    assert later["brand_bm25"] == pytest.approx(math.log(1 + 1.5 / 1.5), rel=1e-5)  # as of mean length


@given(
    text=st.sampled_from(["spade steel", "hose 16 gb", "WH-1000XM4 5 kg", "лопата", "x" * 70]),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_the_order_of_candidates_does_not_matter(mixed: View, text: str, seed: int) -> None:
    found, fused = candidates(mixed, text)
    order = np.random.default_rng(seed).permutation(len(fused.places))
    other = RankedPlaces(fused.places[order], fused.scores[order])
    free = [n for n, name in enumerate(NAMES) if name not in _OF_ORDER]
    expected = feature_matrix(mixed, text, found, fused)[order]
    np.testing.assert_allclose(
        feature_matrix(mixed, text, found, other)[:, free], expected[:, free], rtol=1e-6
    )


def test_every_view_of_a_changed_shop_gives_no_warning(tmp_path: Path) -> None:
    with opened(TOOLS, tmp_path / "idx") as pipeline:
        pipeline.upsert([Product(id="e", title="Steel spade", brand="Terra", price=Price(3.0))])
        pipeline.delete(["a"])
        pipeline.refresh()
        values = features(pipeline.live.view, "steel spade")
        assert values.keys() == {"b", "c", "d", "e"}
        assert (values["e"]["title_phrase"], values["e"]["price"]) == (1.0, 3.0)
        assert values["e"]["cosine_head"] == pytest.approx(values["e"]["dense_score"])


# --- the page -------------------------------------------------------------------------------------

_MARKS = "<!-- made from tilth.reranking.feature_names -->", "<!-- end -->"


def table() -> str:
    """The table of the page, made from the code."""
    rows = [("name", "what", "unit", "range", "missing"), ("---",) * 5]
    rows += [(f"`{f.name}`", f.about, f.unit, f.span, f.missing or "never") for f in FEATURES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def written() -> str:
    """The page with its table made anew."""
    start, end = _MARKS
    before, rest = PAGE.read_text("utf-8").split(start)
    return f"{before}{start}\n\n{table()}\n\n{end}{rest.split(end)[1]}"


def test_the_page_lists_every_feature() -> None:
    remedy = "run: PYTHONPATH=tests python tests/reranking/test_features.py"
    assert PAGE.read_text("utf-8") == written(), remedy


def test_the_page_shows_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    with opened(TOOLS, tmp_path / "idx") as pipeline:
        (tmp_path / "queries.tsv").write_text("query_id\tquery\nq1\tsteel spade\n", "utf-8")
        monkeypatch.chdir(tmp_path)
        shown: dict[str, object] = {}
        exec(example, shown)
        (pool,) = pipeline.pools([Query("q1", "steel spade")])
        np.testing.assert_array_equal(shown["pool"].features, pool.features)


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
