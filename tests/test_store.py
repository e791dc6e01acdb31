"""The store of products: one contract over SQLite and a real PostgreSQL server, then the faults of each."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from postgres import PASSWORD, new_schemas
from shop import SHOP
from tilth import store_schema
from tilth.catalog import Price, Product, product_from_json
from tilth.errors import InputError, MissingExtraError, StoreError
from tilth.store import Change, Store, Written

NewUrl = Callable[[], str]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


def product(product_id: str, clicks: int = 0) -> Product:
    return Product(id=product_id, title=f"Product {product_id}", clicks=clicks)


def contents(store: Store) -> dict[str, Product]:
    """All products by id, once it is sure that the counts agree."""
    with store.snapshot() as snapshot:
        records = dict(snapshot.records())
        assert (snapshot.count, snapshot.sequence) == (len(records), store.last_sequence())
        assert store.count() == len(records)
    return {name: product_from_json(orjson.loads(record)) for name, record in records.items()}


# --- one contract ---------------------------------------------------------------------------------


def test_a_new_store_is_empty_and_has_a_name_of_its_own(new_url: NewUrl) -> None:
    with Store.open(new_url()) as one, Store.open(new_url()) as other:
        assert (one.count(), one.last_sequence(), list(one.changes(0)), contents(one)) == (0, 0, [], {})
        assert one.store_id != other.store_id


def test_products_are_there_again_after_reopening(url: str) -> None:
    with Store.open(url) as store:
        assert store.upsert(SHOP) == Written(changed=8, unchanged=0, deleted=0, sequence=8)
        name = store.store_id
    with Store.open(url, create=False) as store:
        assert contents(store) == {p.id: p for p in SHOP}
        assert store.store_id == name


def test_products_are_found_in_the_order_of_the_ids(store: Store) -> None:
    store.upsert(SHOP)
    store.delete(["p1"])
    found = store.products(["t1", "absent", "p1", "m1", "t1"])
    assert list(found.items()) == [("t1", SHOP[4]), ("m1", SHOP[0])]
    assert store.products([]) == {}


def test_any_text_is_kept(store: Store) -> None:
    odd = Product(id="x'\"\\%s:%b", title="İ😀\x00\x1f", price=Price(0.1, "EUR"), attributes={"ё": False})
    store.upsert([odd])
    assert store.products([odd.id]) == contents(store) == {odd.id: odd}


def test_what_is_stored_already_costs_nothing(store: Store) -> None:
    store.upsert([product("a"), product("b"), product("c")])
    written = store.upsert([product("c"), product("b", clicks=1), product("a")])
    assert written == Written(changed=1, unchanged=2, deleted=0, sequence=4)
    assert [change.product_id for change in store.changes(3)] == ["b"]
    assert store.upsert([product("a")]) == Written(0, 1, 0, 4)
    assert store.upsert([]) == store.delete([]) == Written(0, 0, 0, 4)


def test_the_last_of_several_records_counts(store: Store) -> None:
    for number in (1, 2):  # the first load of a store looks nothing up
        written = store.upsert([product("a", number), product("b", number), product("a", 10 * number)])
        assert written.changed == 2
        assert contents(store) == {"a": product("a", 10 * number), "b": product("b", number)}


def test_deleted_products_leave_a_tombstone_and_can_come_back(store: Store) -> None:
    store.upsert([product("a"), product("b")])
    assert store.delete(["a", "a", "absent"]) == Written(0, unchanged=1, deleted=1, sequence=3)
    assert store.delete(["a"]) == Written(0, unchanged=1, deleted=0, sequence=3)
    assert list(store.changes(2)) == [Change(3, "a", None)]
    assert contents(store) == {"b": product("b")}
    assert store.upsert([product("a")]) == Written(changed=1, unchanged=0, deleted=0, sequence=4)
    assert [change.product_id for change in store.changes(0)] == ["b", "a"]


def test_a_new_catalogue_replaces_the_whole(store: Store) -> None:
    store.upsert([product("a"), product("b"), product("c"), product("d")])
    store.delete(["d"])
    written = store.replace_all([product("c"), product("e"), product("a", clicks=1)])
    assert written == Written(changed=2, unchanged=1, deleted=1, sequence=8)
    assert [(c.product_id, c.record is None) for c in store.changes(5)] == [
        ("e", False), ("a", False), ("b", True),
    ]  # fmt: skip
    assert contents(store) == {"a": product("a", clicks=1), "c": product("c"), "e": product("e")}
    assert store.replace_all([]) == Written(0, 0, deleted=3, sequence=11)
    assert contents(store) == {}


def test_many_products_are_replaced_batch_by_batch(store: Store) -> None:
    first = [product(f"p{n:05}") for n in range(7_000)]
    assert store.replace_all([*first, *first[:3]]).sequence == 7_003  # three come twice, far apart
    assert store.count() == 7_000
    second = [replace(p, clicks=n % 2) for n, p in enumerate(first) if n % 3]
    written = store.replace_all(reversed(second))
    assert (written.unchanged, written.changed, written.deleted) == (2_333, 2_333, 2_334)
    assert contents(store) == {p.id: p for p in second}
    assert store.delete(p.id for p in first).deleted == 4_666
    assert len(list(store.changes(0))) == 7_000


@pytest.mark.parametrize("loaded", [False, True])
def test_a_catalogue_that_breaks_off_leaves_the_store_as_it_was(store: Store, loaded: bool) -> None:
    before = [product("a"), product("b")] if loaded else []
    store.upsert(before)
    sequence = store.last_sequence()

    def broken() -> Iterator[Product]:
        yield from (product(f"p{n}") for n in range(5_000))
        raise InputError("damaged gzip", path="shop.jsonl.gz")

    for write in (store.replace_all, store.upsert):
        with pytest.raises(InputError, match="damaged gzip"):
            write(broken())
        assert contents(store) == {p.id: p for p in before}
        assert store.last_sequence() == sequence
    store.upsert([product("c")])  # and it can be written to
    assert store.last_sequence() == sequence + 1


def test_a_value_outside_json_is_refused(store: Store) -> None:
    for bad in (product("big", clicks=2**80), Product(id="half", title="\ud800")):
        with pytest.raises(InputError, match=f"cannot be stored.*got '{bad.id}'"):
            store.upsert([product("a"), bad])
    assert contents(store) == {}


def test_a_snapshot_stays_as_it_is_while_others_write(store: Store) -> None:
    store.upsert([product(f"p{n}") for n in range(5_000)])
    with store.snapshot() as snapshot:
        records = snapshot.records()
        first = next(records)
        writer = threading.Thread(target=store.replace_all, args=([product("new")],))
        writer.start()
        writer.join()
        assert store.count() == 1
        seen = [first, *records]
        assert (snapshot.sequence, snapshot.count, len(seen)) == (5_000, 5_000, 5_000)
        assert [name for name, _ in seen] == [f"p{n}" for n in range(5_000)]
        assert list(snapshot.records()) == seen
    assert set(contents(store)) == {"new"}


def test_changes_are_those_of_one_state(store: Store) -> None:
    store.upsert([product(f"p{n}") for n in range(5_000)])
    changes = store.changes(10)
    first = next(changes)
    store.replace_all([])
    assert [first.sequence, *(c.sequence for c in changes)] == list(range(11, 5_001))


def test_many_changes_can_be_left_unread(store: Store) -> None:
    store.upsert([product(f"p{n}") for n in range(5_000)])
    for _ in range(30):
        assert next(store.changes(0)).sequence == 1
    store.upsert([product("p0", clicks=1)])
    assert store.last_sequence() == 5_001


def test_a_follower_misses_nothing_of_two_writers(url: str) -> None:
    """Each writer has a store of its own, as two processes would."""
    with Store.open(url) as one, Store.open(url) as other, Store.open(url) as follower:

        def write(store: Store, name: str) -> None:
            for n in range(25):
                store.upsert([product(f"{name}{n % 9}", n), product(f"shared{n % 5}", n)])
                store.delete([f"{name}{(n + 4) % 9}"])

        writers = [threading.Thread(target=write, args=pair) for pair in ((one, "a"), (other, "b"))]
        for writer in writers:
            writer.start()
        seen, replica = 0, {}
        running = True
        while running:
            running = any(writer.is_alive() for writer in writers)
            for change in follower.changes(seen):
                assert change.sequence > seen
                seen, replica[change.product_id] = change.sequence, change.record
        live = {name: record for name, record in replica.items() if record is not None}
        with follower.snapshot() as snapshot:
            assert (seen, live) == (snapshot.sequence, dict(snapshot.records()))


def test_threads_share_a_store(store: Store) -> None:
    def work(name: str) -> None:
        for n in range(20):
            store.upsert([product(f"{name}{n}")])
            assert store.products([f"{name}{n}"])
            assert store.last_sequence() > n

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, "abcdefgh"))  # raises what one of them raised
    assert (store.count(), store.last_sequence()) == (160, 160)


def test_a_new_store_may_be_opened_by_many_at_once(url: str) -> None:
    def name(_: int) -> str:
        with Store.open(url) as store:
            return store.store_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(name, range(8)))) == 1


_PRODUCTS = st.lists(st.builds(product, st.sampled_from("abcde"), st.integers(0, 2)), max_size=6)
_STEPS = st.lists(
    st.tuples(st.sampled_from(["upsert", "replace_all"]), _PRODUCTS)
    | st.tuples(st.just("delete"), st.lists(st.sampled_from("abcdex"), max_size=4)),
    max_size=7,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_the_store_is_a_dictionary_whose_changes_can_be_followed(new_url: NewUrl, steps: list) -> None:
    model: dict[str, Product] = {}
    replica: dict[str, Product] = {}
    with Store.open(new_url()) as store:
        for method, items in steps:
            sequence, before = store.last_sequence(), dict(model)
            if method == "delete":
                after = {name: p for name, p in model.items() if name not in items}
            else:
                after = (model if method == "upsert" else {}) | {p.id: p for p in items}
            model = after
            written = getattr(store, method)(items)

            changed = {name for name, p in model.items() if before.get(name) != p}
            deleted = before.keys() - model.keys()
            assert (written.changed, written.deleted) == (len(changed), len(deleted))
            assert written.sequence == store.last_sequence() == sequence + len(changed) + len(deleted)
            assert contents(store) == store.products(list(model)) == model

            news = list(store.changes(sequence))
            assert [c.sequence for c in news] == list(range(sequence + 1, written.sequence + 1))
            for _, name, record in news:
                replica.pop(name, None)
                if record is not None:
                    replica[name] = product_from_json(orjson.loads(record))
            assert replica == model


_WRITER = """
import sys
from itertools import count
from tilth.catalog import Product
from tilth.store import Store
store = Store.open(sys.argv[1])
for n in count(store.count() // 7):
    store.upsert(Product(id=f"{n}-{k}", title="T" * 300) for k in range(7))
    print(n, flush=True)
"""


def test_what_is_acknowledged_survives_a_kill(url: str) -> None:
    for kill_after in (1, 30, 90):
        command = [sys.executable, "-c", _WRITER, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged = [process.stdout.readline() for _ in range(kill_after)]
            process.kill()
            acknowledged += process.stdout
        with Store.open(url) as store:
            transactions, rest = divmod(store.count(), 7)
            assert (rest, store.last_sequence()) == (0, 7 * transactions)
            assert transactions > int(acknowledged[-1])
            ids = [f"{n}-{k}" for n in range(transactions) for k in range(7)]
            assert list(store.products(ids)) == ids


# --- versions -------------------------------------------------------------------------------------


def set_version(url: str, version: int) -> None:
    with store_schema.open_engine(url, create=False).begin() as connection:
        store_schema.write_meta(connection, {"schema_version": version})


def add_note(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE tilth_products ADD COLUMN note TEXT"))


def fill_note(connection: Connection) -> None:
    connection.execute(text("UPDATE tilth_products SET note = product_id"))


def fail(connection: Connection) -> None:
    raise ZeroDivisionError


def test_migrations_lead_forwards_in_order_and_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(url) as store:
        store.upsert(SHOP)
    monkeypatch.setattr(store_schema, "MIGRATIONS", (*store_schema.MIGRATIONS, add_note, fill_note))
    for _ in range(2):
        with Store.open(url) as store:
            assert contents(store) == {p.id: p for p in SHOP}
    with store_schema.open_engine(url, create=False).connect() as connection:
        assert store_schema.read_meta(connection, "schema_version") == str(store_schema.SCHEMA_VERSION + 2)
        notes = connection.execute(text("SELECT note FROM tilth_products ORDER BY sequence")).scalars()
        assert list(notes) == [p.id for p in SHOP]


def test_a_migration_that_fails_leaves_the_store_as_it_was(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(url).close()
    known = store_schema.MIGRATIONS
    monkeypatch.setattr(store_schema, "MIGRATIONS", (*known, add_note, fail))
    with pytest.raises(ZeroDivisionError):
        Store.open(url)
    monkeypatch.setattr(store_schema, "MIGRATIONS", (*known, add_note, fill_note))
    Store.open(url).close()


def test_a_newer_store_is_refused(url: str) -> None:
    Store.open(url).close()
    set_version(url, 7)
    with pytest.raises(StoreError, match=r"has version 7 of the store, and .* up to 3\. Upgrade Tilth"):
        Store.open(url)


# --- faults ---------------------------------------------------------------------------------------


def test_without_create_a_store_must_be_there(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Store.open(url, create=False)
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(StoreError, match=r"empty.db: there is no store. Load a catalogue"):
        Store.open(path, create=False)


def test_a_plain_path_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "new/folder/shop.db", Path("a?b.db")):
        with Store.open(name) as store:
            store.upsert(SHOP)
        assert Path(name).is_file()
    with Store.open("sqlite:///new/folder/shop.db", create=False) as store:
        assert store.count() == 8


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:Manure-20kg@h/d", "sqlite://", "sqlite:///:memory:", "postgresql://u:Manure-20kg@h",
        "postgresql://u:Manure-20kg@h:port/d", "://Manure-20kg",
    ],
)  # fmt: skip
def test_other_urls_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(StoreError, match="Write FILE, sqlite:///FILE or postgresql://") as caught:
        Store.open(url)
    assert PASSWORD not in str(caught.value)


def test_sqlite_commits_are_synced(tmp_path: Path) -> None:
    with Store.open(tmp_path / "shop.db") as store, store._engine.connect() as connection:
        modes = [connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")]
        assert modes == ["wal", 2]  # 2: FULL


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("id,title\n" * 1_000)
    with pytest.raises(StoreError, match=r"text.db: is no SQLite database. Name another file"):
        Store.open(tmp_path / "text.db")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE orders (id)")
    other.close()
    with pytest.raises(StoreError, match=r"other.db: is a database of another program"):
        Store.open(tmp_path / "other.db")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="its folder cannot be made: Not a directory"):
        Store.open(tmp_path / "text.db" / "x" / "shop.db")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with Store.open(path) as store:
        store.upsert(product(f"p{n}") for n in range(5_000))
    content = bytearray(path.read_bytes())
    content[-200_000:-100_000] = bytes(100_000)
    path.write_bytes(content)
    with Store.open(path) as store, pytest.raises(StoreError, match=r"shop.db: is damaged. Restore a copy"):
        list(store.changes(0))


def test_a_full_disk_is_named_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_schema, "_PRAGMAS", (*store_schema._PRAGMAS, "max_page_count=20"))
    with Store.open(tmp_path / "shop.db") as store:
        store.upsert(SHOP)
        with pytest.raises(StoreError, match=r"shop.db: the disk is full. Free some space"):
            store.upsert(product(f"p{n}") for n in range(5_000))
        assert contents(store) == {p.id: p for p in SHOP}
        store.delete(["m1"])


def test_who_waits_too_long_for_another_writer_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_schema, "_PRAGMAS", (*store_schema._PRAGMAS, "busy_timeout=10"))
    monkeypatch.setattr(store_schema, "_WAIT", 0.01)
    with Store.open(url) as one, Store.open(url) as other:

        def meanwhile() -> Iterator[Product]:
            with pytest.raises(StoreError, match=r"somebody else has been writing .* Try again"):
                other.upsert(SHOP)
            yield product("a")

        one.upsert(meanwhile())
        other.upsert([product("b")])
        assert set(contents(one)) == {"a", "b"}


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Yield a folder of a user who is not root, whose permissions would not count."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_read_only_folder_is_named() -> None:
    with unprivileged() as folder:
        path = folder / "shop.db"
        with Store.open(path) as store:
            store.upsert(SHOP)
        folder.chmod(0o555)
        with pytest.raises(StoreError, match=r"new.db: cannot be opened. Check that this user may write"):
            Store.open(folder / "new.db")
        with pytest.raises(StoreError, match=r"shop.db: cannot be"):
            Store.open(path)
        folder.chmod(0o755)
        path.chmod(0o444)
        with pytest.raises(StoreError, match=r"shop.db: cannot be"), Store.open(path) as store:
            store.upsert([product("a")])


def test_faults_of_the_server_are_told_without_the_password(server: str) -> None:
    cases = {
        server.replace(PASSWORD, "Wrong" + PASSWORD): "password authentication failed",
        server.replace("/postgres", "/absent"): 'database "absent" does not exist',
        server.replace("127.0.0.1", "nowhere.invalid"): "PostgreSQL reports",
    }
    for url, reason in cases.items():
        with pytest.raises(StoreError, match=reason) as caught:
            Store.open(url)
        assert "postgresql://tilth:***@" in str(caught.value)
        assert PASSWORD not in str(caught.value)


def test_a_store_in_postgresql_outlives_its_connections(server: str) -> None:
    url = new_schemas(server, prefix="outlives")()
    with Store.open(url) as store:
        store.upsert(SHOP)
        with store._engine.connect() as connection:
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(text(kill))
        assert store.count() == 8


def test_postgresql_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tilth\[postgres\]'"):
        Store.open("postgresql://u@h/d")
