"""An index that follows its store: beside a plain model and a fresh build, whatever is changed when."""

import dataclasses
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from catalogues import satisfies
from fakes import kept_encoder, own_encoder
from shop import SHOP, index, quiet
from tilth.catalog import VOLATILE_FIELDS, Price, Product
from tilth.errors import IndexFormatError
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.builder import compact_index
from tilth.retrieval.column_chunks import NUMBER_FIELDS
from tilth.retrieval.columns import Columns
from tilth.retrieval.generations import new_generation
from tilth.retrieval.index import open_store
from tilth.retrieval.quantisation import to_codes
from tilth.retrieval.term_rows import TermRows, Terms
from tilth.run import Hit
from tilth.store import Store

QUERIES = [Query(str(number), text) for number, text in enumerate(["spade", "hose", "steel", "лопата"])]
WORDS = ["spade", "hose", "steel", "basket", "лопата", "сад"]
EVERYTHING = 200  # more hits than there ever are products
IDS = [f"p{number}" for number in range(12)]

products = st.builds(
    Product,
    id=st.sampled_from(IDS),
    title=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    brand=st.sampled_from(["", "Terra", "Humus"]),
    product_type=st.sampled_from(["", "Garden > Tools", "Garden > Pots"]),
    price=st.sampled_from([None, Price(5.0, "EUR"), Price(20.0, "EUR")]),
    availability=st.sampled_from(["", "in_stock", "out_of_stock"]),
    item_group_id=st.sampled_from(["", "g1", "g2"]),
    attributes=st.dictionaries(st.sampled_from(["length", "colour"]), st.sampled_from(["1 m", "2 m", "red"])),
    popularity=st.sampled_from([None, 1.0, 2.0]),
)
ANCHOR = Product(id="anchor", title="trowel", attributes={"length": "1 m", "colour": "red"})  # always there
FILTERS = [
    {"brand": "Terra"},
    {"price": {"gte": 10}},
    {"availability": ["in_stock"]},
    {"not": {"length": {"exists": True}}},
    {"or": [{"product_type": {"prefix": "Garden > Tools"}}, {"popularity": {"lt": 2}}]},
]


def fresh(live: Store, into: Path) -> Pipeline:
    """Build an index of what a store holds, anew."""
    with live.snapshot() as snapshot:
        ids = [name for name, _ in snapshot.records()]
    index(list(live.products(ids).values()), into, kept_encoder(WORDS), own=own_encoder(WORDS))
    return open_index(into)


class LiveShop(RuleBasedStateMachine):
    """A shop that changes, its live index, and a dict of its products."""

    @initialize(start=st.lists(products, min_size=1, max_size=8, unique_by=lambda product: product.id))
    def build(self, start: list[Product]) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.model = {product.id: product for product in [ANCHOR, *start]}
        encoders = kept_encoder(WORDS), own_encoder(WORDS)
        index(self.model.values(), self.folder / "idx", encoders[0], own=encoders[1])
        self.pipeline = open_index(self.folder / "idx")

    @rule(changed=st.lists(products, min_size=1, max_size=4))
    def upsert(self, changed: list[Product]) -> None:
        self.pipeline.upsert(changed)
        self.pipeline.refresh()
        self.model.update({product.id: product for product in changed})

    @precondition(lambda self: len(self.model) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model.keys() - {"anchor"})), max_size=4))
        self.pipeline.delete([*ids, "nobody"])
        self.pipeline.refresh()
        for name in set(ids):
            del self.model[name]

    @rule(data=st.data(), price=st.floats(1, 30))
    def reprice(self, data: st.DataObject, price: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        product = dataclasses.replace(
            self.model[name], price=Price(price, "USD"), availability="preorder", popularity=price
        )
        self.upsert([product])

    @rule()
    def compact(self) -> None:
        compact_index(self.folder / "idx", self.pipeline.live.store, Resources(), quiet)
        self.pipeline.refresh()
        assert self.pipeline.index.sequence == self.pipeline.live.store.last_sequence()
        again = fresh(self.pipeline.live.store, self.folder / "fresh")
        for name, retriever in self.pipeline.retrievers().items():
            found = retriever.search(QUERIES, EVERYTHING)
            for query_id, hits in again.retrievers()[name].search(QUERIES, EVERYTHING).hits.items():
                assert scores(found[query_id]) == pytest.approx(scores(hits), rel=1e-6)
        again.close()
        shutil.rmtree(self.folder / "fresh")

    @rule()
    def reopen(self) -> None:
        self.pipeline.close()
        self.pipeline = open_index(self.folder / "idx")

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert len(self.pipeline) == len(self.model)
        for query in QUERIES:
            answer = self.pipeline.answer(query.text, EVERYTHING, facets=["brand"])
            expected = {p.id for p in self.model.values() if query.text in p.title.split()}
            assert {hit.product.id for hit in answer.hits if "lexical" in hit.places} == expected
            assert all(hit.product == self.model[hit.product.id] for hit in answer.hits)
            assert answer.totals.allowed == len(self.model)
            brands = Counter(p.brand for p in self.model.values() if p.brand)
            assert dict(answer.facets["brand"].allowed) == brands
        for filters in FILTERS:
            expected = {p.id for p in self.model.values() if satisfies(p, filters)}
            assert set(self.found(filters)) == expected

    @invariant()
    def keeps_what_a_reranker_reads(self) -> None:
        """Terms, values and passages of rows are those of the products as they are now."""
        view = self.pipeline.live.view
        alive = np.arange(view.rows) if view.alive is None else np.flatnonzero(view.alive)
        rows = np.concatenate([alive[::-1], alive[:3]])
        kept = [self.model[name] for name in view.ids(rows)]
        anew, columns, places = TermRows.of(kept), Columns.of(kept), np.arange(len(kept))
        assert terms_of(view.terms(rows), len(rows)) == terms_of(anew.of_rows(places), len(rows))
        for name in ("brand", "product_type", "availability", "item_group_id"):
            assert list(view.values(name, rows)) == [getattr(product, name) for product in kept]
        for name in NUMBER_FIELDS:
            np.testing.assert_array_equal(view.numbers(name, rows), columns.numbers[name])
        cuts = view.index.cutter.cut(kept)
        passages = [passage for cut in cuts for passage in cut.passages]
        for name, leg in view.index.legs.items():
            found = view.legs[name].passages_of(rows)
            np.testing.assert_array_equal(found.codes, to_codes(leg.encoder.encode_passages(passages)))
            np.testing.assert_array_equal(found.places, np.repeat(places, [len(c.passages) for c in cuts]))

    def found(self, filters: dict) -> list[str]:
        """Every product that filters allow, and that dense search finds under them."""
        view = self.pipeline.live.view
        allowed = view.allowed(filters)
        for name, leg in view.index.legs.items():
            vector = leg.encoder.encode_queries(["spade"])[0]
            found = view.ids(view.legs[name].search_rows(vector, EVERYTHING, allowed).rows)
            assert sorted(found) == sorted(view.ids(np.flatnonzero(allowed)))
        return list(found)

    def teardown(self) -> None:
        if hasattr(self, "pipeline"):
            self.pipeline.close()
            shutil.rmtree(self.folder)


def terms_of(terms: Terms, rows: int) -> list[list[tuple[int, int]]]:
    """The terms of each row with their fields, in the order of the row."""
    of_rows: list[list[tuple[int, int]]] = [[] for _ in range(rows)]
    for term, place, field in zip(*(part.tolist() for part in terms), strict=True):
        of_rows[place].append((term, field))
    return of_rows


def scores(hits: tuple[Hit, ...]) -> dict[str, float]:
    return {hit.product_id: hit.score for hit in hits}


TestLiveShop = LiveShop.TestCase
TestLiveShop.settings = settings(  # shrinking would build for many minutes
    max_examples=12, stateful_step_count=10, deadline=None, phases=[Phase.explicit, Phase.generate]
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    index(SHOP, tmp_path / "idx", kept_encoder(WORDS))
    return tmp_path / "idx"


@pytest.mark.parametrize("name", VOLATILE_FIELDS)
def test_what_changes_all_day_changes_in_place(shop: Path, name: str) -> None:
    pipeline = open_index(shop)
    value = {"availability": "preorder", "rating_count": 7, "clicks": 7}.get(name, 7.5)
    new = dataclasses.replace(SHOP[0], **{name: Price(7.5, "EUR") if "price" in name else value})
    assert pipeline.upsert([new]).changed == 1
    pipeline.refresh()
    assert pipeline.live.view.rows == len(SHOP)
    condition = value if name == "availability" else {"gte": 7, "lt": 8}
    found = {hit.product_id for hit in pipeline.search(["manure"], 10, {name: condition})["1"]}
    assert "m1" in found
    assert pipeline.answer("cow manure", 1).hits[0].product == new


def test_an_unchanged_record_costs_nothing(shop: Path) -> None:
    pipeline = open_index(shop)
    view = pipeline.live.view
    written = pipeline.upsert(SHOP)
    pipeline.refresh()
    assert (written.changed, written.unchanged) == (0, len(SHOP))
    assert pipeline.live.view is view


def test_another_process_s_changes_are_seen_while_following(shop: Path) -> None:
    pipeline = open_index(shop)
    with pipeline.live.following(seconds=0.02), open_store(shop) as other:
        other.upsert([Product(id="n1", title="Wheelbarrow, galvanised")])
        other.delete(["m1"])
        wait_for(lambda: "n1" in ids(pipeline, "wheelbarrow") and "m1" not in ids(pipeline, "cow manure"))


def test_following_goes_on_after_a_fault_of_its_own(
    shop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tilth.retrieval.live._RETRY_SECONDS", 0.02)
    pipeline, looks = open_index(shop), []

    def look() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise ZeroDivisionError
        pipeline.refresh()

    with pipeline.live.following(look, seconds=0.02), open_store(shop) as other:
        other.upsert([Product(id="n1", title="Wheelbarrow, galvanised")])
        wait_for(lambda: "n1" in ids(pipeline, "wheelbarrow"))
    assert "still serving what was opened before" in caplog.text and "ZeroDivisionError" in caplog.text


def test_a_bulk_build_is_waited_for_and_not_applied_change_by_change(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.retrieval.live.MANY", 3)
    pipeline = open_index(shop)
    before = len(pipeline)
    catalogue = [Product(id=f"new{number}", title="billhook") for number in range(5)]
    with open_store(shop) as store, new_generation(shop) as folder:
        store.replace_all(catalogue)
        pipeline.refresh()
        assert len(pipeline) == before
        assert not ids(pipeline, "billhook") & {product.id for product in catalogue}
        shutil.copytree(pipeline.index.folder, folder, dirs_exist_ok=True)  # any whole generation
    pipeline.refresh()  # the build is over, whatever became of it: now the changes are applied
    assert ids(pipeline, "billhook") == {product.id for product in catalogue}


def test_a_search_in_flight_finishes_on_its_view(shop: Path) -> None:
    pipeline = open_index(shop)
    before = pipeline.live.view
    pipeline.upsert([dataclasses.replace(SHOP[0], title="Alpaca manure")])
    pipeline.refresh()
    compact_index(shop, pipeline.live.store, Resources(), quiet)
    pipeline.refresh()
    assert "m1" in before.ids(before.lexical.search_rows("cow", 10).rows)
    assert ids(pipeline, "cow") == set()
    assert "m1" in ids(pipeline, "alpaca")


def test_searching_goes_on_during_updates_and_compactions(shop: Path) -> None:
    pipeline, stop, failures = open_index(shop), threading.Event(), []

    def search() -> None:
        while not stop.is_set():
            try:
                answer = pipeline.answer("tomato seeds", 5)
                assert "s1" in {hit.product.id for hit in answer.hits}
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                failures.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(2)]
    with pipeline.live.following(seconds=0.01):
        for thread in threads:
            thread.start()
        for number in range(6):
            pipeline.upsert([Product(id=f"n{number}", title=f"Wheelbarrow {number}"), SHOP[number]])
            pipeline.refresh()
            compact_index(shop, pipeline.live.store, Resources(), quiet)
        wait_for(lambda: pipeline.index.generation.number == 7)
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(pipeline) == len(SHOP) + 6
    wait_for(lambda: pipeline.refresh() or [path.name for path in (shop / "generations").iterdir()] == ["7"])


def test_compaction_encodes_only_what_is_new(shop: Path) -> None:
    with open_store(shop) as store:
        assert compact_index(shop, store, Resources(), quiet)["store"]["sequence"] == len(SHOP)
        store.upsert([dataclasses.replace(SHOP[0], title="Alpaca manure"), Product(id="n1", title="Trowel")])
        manifest = compact_index(shop, store, Resources(), quiet)
    leg = manifest["legs"]["dense"]
    assert leg["encoded"] + leg["reused"] == manifest["passages"]["count"]
    assert 0 < leg["encoded"] <= 4


def test_a_damaged_next_generation_is_named_and_the_last_one_goes_on(
    shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = open_index(shop)
    pipeline.upsert([Product(id="n1", title="Wheelbarrow")])
    pipeline.refresh()
    compact_index(shop, pipeline.live.store, Resources(), quiet)
    damaged = shop / "generations" / "2" / "dense" / "index.faiss"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    with pytest.raises(IndexFormatError, match=r"dense/index\.faiss: the index is damaged"):
        pipeline.refresh()
    assert ids(pipeline, "wheelbarrow") == {"n1"}
    with pipeline.live.following(seconds=0.01):
        wait_for(lambda: "still serving" in caplog.text)
    pipeline.live.store.upsert([Product(id="n2", title="Dibber")])
    compact_index(shop, pipeline.live.store, Resources(), quiet)  # the remedy
    pipeline.refresh()
    assert ids(pipeline, "dibber") == {"n2"}


def test_another_store_is_refused(shop: Path, tmp_path: Path) -> None:
    index(SHOP, tmp_path / "other", kept_encoder(WORDS))
    with pytest.raises(IndexFormatError, match="was built from the store"):
        open_index(shop, store=str(tmp_path / "other" / "store.sqlite"))


def test_a_store_that_was_set_back_is_refused(shop: Path, tmp_path: Path) -> None:
    for file in shop.glob("store.sqlite*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    pipeline = open_index(shop)
    pipeline.upsert([Product(id="n1", title="Wheelbarrow")])
    compact_index(shop, pipeline.live.store, Resources(), quiet)
    pipeline.close()
    with pytest.raises(IndexFormatError, match=r"an earlier state of it was restored"):
        open_index(shop, store=str(tmp_path / "store.sqlite"))


def test_variants_collapse_to_the_best_and_others_take_their_places(tmp_path: Path) -> None:
    variants = [
        Product(id=f"v{n}", title="steel spade " * (1 + n % 3), item_group_id=f"g{n % 5}") for n in range(40)
    ]
    index([*variants, Product(id="alone", title="steel spade")], tmp_path, kept_encoder(WORDS))
    pipeline = open_index(tmp_path)
    whole = [hit.product_id for hit in pipeline.search(["steel spade"], 41)["1"]]
    collapsed = [hit.product_id for hit in pipeline.search(["steel spade"], 10, collapse=True)["1"]]
    groups = {product.id: product.item_group_id for product in variants}
    first: dict[str, str] = {}
    for name in whole:
        first.setdefault(groups.get(name, name), name)
    assert collapsed == list(first.values())
    assert len(collapsed) == 6


def test_collapsing_looks_deeper_than_the_first_candidates(tmp_path: Path) -> None:
    variants = [Product(id=f"v{n:03}", title="steel spade", item_group_id="g") for n in range(DEPTH + 10)]
    index([*variants, Product(id="z", title="steel basket spade hose")], tmp_path, kept_encoder(WORDS))
    pipeline = open_index(tmp_path)
    assert "z" not in {hit.product_id for hit in pipeline.search(["steel spade"], DEPTH)["1"]}
    found = [hit.product_id for hit in pipeline.search(["steel spade"], 2, collapse=True)["1"]]
    assert found == ["v000", "z"]
    assert pipeline.answer("steel spade", 1, collapse=True).depth == DEPTH
    assert pipeline.answer("steel spade", 2, collapse=True).depth == 4 * DEPTH


def ids(pipeline: Pipeline, text: str) -> set[str]:
    return {hit.product.id for hit in pipeline.answer(text, EVERYTHING).hits if "lexical" in hit.places}


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it did not happen within 30 seconds"
        time.sleep(0.01)
