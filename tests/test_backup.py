"""A backup of an index that is in use holds all that was acknowledged, and only a whole one is restored."""

import contextlib
import dataclasses
import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import xxhash

from fakes import kept_encoder
from postgres import new_schemas
from shop import DEFAULTS, SHOP, TWO_LISTS, index, quiet
from tilth import backup as backup_module
from tilth.backup import back_up, restore
from tilth.catalog import Price, Product
from tilth.errors import IndexFormatError, IndexWriteError, InputError, StoreError
from tilth.feedback_log import FeedbackLog
from tilth.interactions import Served
from tilth.pipeline import open_index
from tilth.promotions import history, promote
from tilth.readers.products import read_products
from tilth.releases import current_name, propose
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.builder import build_index, compact_index
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import current_number
from tilth.retrieval.index import open_store, read_fusion, write_fusion
from tilth.sample.shop import write_shop
from tilth.serve.segments import to_line
from tilth.serve.spool import Spool

WORDS = ["manure", "tomato", "hose", "secateurs", "розы"]
NEW = Product(id="n1", title="Wheelbarrow, galvanised")
PASSED = {"passed": True, "refusals": [], "in_force": "hybrid"}
TUNED = Fusion("minmax", (0.7, 0.3))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """An index with two releases, one in force, and a change that came after its generation."""
    into, model = tmp_path / "idx", tmp_path / "model"
    index(SHOP, into, kept_encoder(WORDS))
    write_fusion(into, TUNED)
    (into / "rejected.jsonl").write_text('{"line": 7}\n')
    model.mkdir()
    (model / "model.txt").write_text("tree")
    for _ in range(2):
        propose(into, fusion=TUNED, evidence={"measure": "nDCG@10"}, model_folder=model)
    promote(into, "r1", PASSED, why="better")
    with open_store(into) as store:
        store.upsert([NEW])
    return into


def compact(into: Path) -> None:
    with open_store(into, create=False) as store:
        compact_index(into, store, Resources(), quiet)


def stored(into: Path, store: str | None = None) -> dict[str, Product]:
    with open_store(into, store, create=False) as opened, opened.snapshot() as snapshot:
        return {product.id: product for product in snapshot.products()}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def left_overs(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tilth-part"))


# --- what is in it --------------------------------------------------------------------------------


def test_a_restored_index_is_the_one_that_was_saved(shop: Path, tmp_path: Path) -> None:
    (shop / "vectors").mkdir()
    (shop / "vectors" / "half").write_text("an interrupted build")
    report = back_up(shop, tmp_path / "backups" / "monday")
    again = tmp_path / "again"
    assert (report.generation, report.built_at, report.sequence, report.products) == (1, 8, 9, 9)
    assert (report.database, report.damaged) == ("", ())
    assert restore(report.folder, again) == dataclasses.replace(report, folder=again, linked=0)
    assert names(again) == names(report.folder) - {"backup.json"}
    assert report.files == len(names(again))
    assert report.bytes == sum((again / name).stat().st_size for name in names(again))
    for name in names(again) - {"store.sqlite"}:
        assert (again / name).read_bytes() == (shop / name).read_bytes(), name
    missing = {name for name in names(shop) - names(again) if not name.endswith("lock")}
    assert missing <= {"vectors/half", "store.sqlite-wal", "store.sqlite-shm"}
    assert stored(again) == stored(shop) == {product.id: product for product in [*SHOP, NEW]}
    assert current_name(again) == "r1"
    assert [line["why"] for line in history(again)] == ["better"]
    assert read_fusion(again, TWO_LISTS) == TUNED


def served(into: Path) -> list[list[tuple[str, float]]]:
    (into / "released").unlink(missing_ok=True)  # the releases here have no model that could rank
    with contextlib.closing(open_index(into)) as pipeline:
        answers = [pipeline.answer(query, 20) for query in ("manure", "tomato hose", "wheelbarrow", "розы")]
        return [[(hit.product.id, hit.score) for hit in answer.hits] for answer in answers]


def test_a_restored_index_answers_as_before_and_lives_on(shop: Path, tmp_path: Path) -> None:
    report = back_up(shop, tmp_path / "b")
    restore(report.folder, tmp_path / "again")
    assert served(tmp_path / "again") == served(shop)
    with contextlib.closing(open_index(tmp_path / "again")) as pipeline:
        assert pipeline.upsert([Product(id="n2", title="Dibber")]).sequence == report.sequence + 1
        pipeline.refresh()
        assert pipeline.answer("dibber", 1).hits[0].product.id == "n2"
    compact(tmp_path / "again")
    with contextlib.closing(open_index(tmp_path / "again")) as pipeline:
        assert len(pipeline) == len(SHOP) + 2
    restore(report.folder, tmp_path / "third")
    assert "n2" not in stored(tmp_path / "third")


def test_only_what_never_changes_is_linked_and_a_restored_index_shares_nothing(
    shop: Path, tmp_path: Path
) -> None:
    report = back_up(shop, tmp_path / "b")
    restore(report.folder, tmp_path / "again")
    linked = {name for name in names(report.folder) if (report.folder / name).stat().st_nlink > 1}
    assert {"generations/1/dense/index.faiss", "releases/r1/reranker/model.txt"} <= linked
    assert "generations/1/manifest.json" not in linked  # readers lock it
    assert all(name.startswith(("generations/1/", "releases/r1/", "releases/r2/")) for name in linked)
    assert report.linked == sum((report.folder / name).stat().st_size for name in linked)
    for name in names(tmp_path / "again"):
        assert (tmp_path / "again" / name).stat().st_nlink == 1


def test_where_nothing_can_be_linked_all_is_copied(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    linked = back_up(shop, tmp_path / "linked")
    monkeypatch.setattr(os, "link", refuse)
    copied = back_up(shop, tmp_path / "copied")
    assert (copied.linked, copied.files, copied.bytes) == (0, linked.files, linked.bytes)
    assert all((copied.folder / name).stat().st_nlink == 1 for name in names(copied.folder))
    restore(copied.folder, tmp_path / "again")
    assert stored(tmp_path / "again") == stored(shop)


def test_what_was_deleted_is_in_no_page_of_the_backup(shop: Path, tmp_path: Path) -> None:
    secret = Product(id="gone", title="Wanda Forgetmenot, Privet Drive")
    with open_store(shop) as store:
        store.upsert([secret])
        store.delete(["gone"])
    report = back_up(shop, tmp_path / "b")
    assert b"Forgetmenot" not in (report.folder / "store.sqlite").read_bytes()
    assert report.sequence == 11


def test_feedback_that_waits_for_the_store_comes_into_the_restored_one(shop: Path, tmp_path: Path) -> None:
    first, second = (
        Served(
            impression_id=name, query="manure", product_ids=("m1",), time=datetime(2026, 5, 31, tzinfo=UTC)
        )
        for name in ("i1", "i2")
    )
    (shop / "feedback").mkdir()
    lines = [to_line(first), to_line(second), to_line(second)[:20]]  # the last one is being written
    (shop / "feedback" / "segment-1.jsonl").write_bytes(b"".join(lines))
    with open_store(shop, create=False) as store:
        FeedbackLog(store).append([first], [])
    restore(back_up(shop, tmp_path / "b").folder, tmp_path / "again")
    with open_store(tmp_path / "again", create=False) as store:
        Spool(tmp_path / "again" / "feedback", FeedbackLog(store)).close()
        assert [served for _, served in FeedbackLog(store).served()] == [first, second]


def test_a_store_elsewhere_is_saved_with_its_index(tmp_path: Path) -> None:
    url, into = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}", tmp_path / "idx"
    with open_store(into, url) as store:
        build_index(into, store, kept_encoder(WORDS), DEFAULTS, quiet, products=SHOP)
    back_up(into, tmp_path / "b", url)
    restore(tmp_path / "b", tmp_path / "again")
    assert stored(tmp_path / "again") == {product.id: product for product in SHOP}


def test_a_damaged_release_is_saved_as_it_is_and_named(shop: Path, tmp_path: Path) -> None:
    for file in ("r2/reranker/model.txt", "r1/release.json"):
        path = shop / "releases" / file
        path.unlink()
        path.write_text("damaged")
    report = back_up(shop, tmp_path / "b")
    first, second = report.damaged
    assert "r1/release.json: the release is damaged" in first
    assert "r2/reranker/model.txt: the release is damaged" in second
    assert restore(report.folder, tmp_path / "again").damaged == report.damaged
    assert (tmp_path / "again" / "releases" / "r2" / "reranker" / "model.txt").read_text() == "damaged"


# --- beside others --------------------------------------------------------------------------------


class Traffic:
    """Threads that write, search and compact; `acknowledged` holds the version of each product."""

    def __init__(self, into: Path, products: list[Product]) -> None:
        self.into, self.products = into, products
        self.acknowledged: dict[str, float] = {}
        self.stopping = threading.Event()
        self.compactions = 0

    def write(self) -> None:
        rng, version = random.Random(1), 0.0
        with open_store(self.into, create=False) as store:
            while not self.stopping.is_set():
                version += 1
                chosen = rng.sample(self.products, 20)
                store.upsert(
                    dataclasses.replace(
                        product, title=f"{product.title} {version:.0f}", price=Price(version, "EUR")
                    )
                    for product in chosen
                )
                self.acknowledged |= {product.id: version for product in chosen}

    def search(self) -> None:
        with contextlib.closing(open_index(self.into)) as pipeline:
            while not self.stopping.is_set():
                pipeline.refresh()
                assert pipeline.answer("spade", 10).totals.allowed == len(self.products)

    def compact(self) -> None:
        while not self.stopping.is_set():
            compact(self.into)
            self.compactions += 1


def test_a_backup_beside_writes_searches_and_builds_holds_what_was_acknowledged(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop", products=300, language="both", seed=3)
    products = list(read_products([tmp_path / "shop" / "products.jsonl"]))
    into = tmp_path / "idx"
    index(products, into, kept_encoder(WORDS))
    traffic, told = Traffic(into, products), []
    with ThreadPoolExecutor() as threads:
        work = [threads.submit(task) for task in (traffic.write, traffic.search, traffic.compact)]
        try:
            while len(told) < 4 or traffic.compactions < 2:
                known, before = dict(traffic.acknowledged), len(told)
                told.append((back_up(into, tmp_path / f"b{before}"), known))
                assert not [task.exception() for task in work if task.done()]
        finally:
            traffic.stopping.set()
        for task in work:
            task.result()
    assert told[-1][1]
    assert len({report.generation for report, _ in told}) > 1
    for report, known in told:
        again = tmp_path / "again" / report.folder.name
        restore(report.folder, again)
        kept = stored(again)
        assert report.built_at <= report.sequence
        assert kept.keys() == {product.id for product in products}
        assert all(kept[name].price.amount >= version for name, version in known.items())
        with contextlib.closing(open_index(again)) as pipeline:
            assert pipeline.live.view.sequence == report.sequence
            newest = max(kept.values(), key=lambda product: product.price.amount if product.price else 0)
            assert newest.id in {hit.product.id for hit in pipeline.answer(newest.title, 20).hits}


def between(monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[], None]) -> None:
    """Do something in the midst of the next backup, before a step of it."""
    step, waiting = getattr(backup_module, name), [work]

    def disturbed(*arguments: Any) -> Any:
        if waiting:
            waiting.pop()()
        return step(*arguments)

    monkeypatch.setattr(backup_module, name, disturbed)


def test_a_generation_that_is_replaced_meanwhile_is_saved_and_then_removed(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced() -> None:
        with open_store(shop) as store:
            store.upsert([dataclasses.replace(NEW, title="Barrow")])
        compact(shop)
        assert (shop / "generations" / "1").is_dir()

    between(monkeypatch, "_save_generation", replaced)
    report = back_up(shop, tmp_path / "b")
    assert (report.generation, report.built_at, report.sequence) == (1, 8, 10)
    assert current_number(shop) == 2
    assert not (shop / "generations" / "1").exists()
    restore(report.folder, tmp_path / "again")
    (tmp_path / "again" / "released").unlink()
    with contextlib.closing(open_index(tmp_path / "again")) as pipeline:
        assert pipeline.answer("barrow", 1).hits[0].product.id == "n1"


def test_a_first_promotion_in_the_midst_is_in_force_or_not_in_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "idx"
    index(SHOP, into, kept_encoder(WORDS))
    propose(into, fusion=TUNED, evidence={})
    read = backup_module._content

    def content(path: Path) -> bytes | None:
        found = read(path)
        if path.name == "released" and found is None:
            promote(into, "r1", PASSED)
        return found

    monkeypatch.setattr(backup_module, "_content", content)
    back_up(into, tmp_path / "b")
    restore(tmp_path / "b", tmp_path / "again")
    assert current_name(tmp_path / "again") == "r1"
    assert len(history(tmp_path / "again")) == 1


# --- killed ---------------------------------------------------------------------------------------

SAVING = """
import sys
from itertools import count
from pathlib import Path
from tilth.backup import back_up
index, backups = map(Path, sys.argv[1:])
print("ready", flush=True)
for number in count(len(list(backups.glob("b*")))):
    back_up(index, backups / f"b{number}")
"""


def test_a_killed_backup_is_whole_or_none(shop: Path, tmp_path: Path) -> None:
    backups, rng = tmp_path / "backups", random.Random(5)
    backups.mkdir()
    interrupted = 0
    for _ in range(4):
        command = [sys.executable, "-c", SAVING, str(shop), str(backups)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as victim:
            assert victim.stdout is not None
            assert victim.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.05, 0.3))
            victim.kill()
        interrupted += len(left_overs(backups))
        for folder in backups.glob("b*"):
            restore(folder, tmp_path / "again")
            assert stored(tmp_path / "again").keys() >= {"m1", "n1"}
            shutil.rmtree(tmp_path / "again")
    assert interrupted, "no kill came in the midst of a backup"
    back_up(shop, backups / "last")
    assert not left_overs(backups)


def test_what_another_process_is_filling_is_not_taken_for_a_left_over(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another() -> None:
        back_up(shop, tmp_path / "second")
        assert len(left_overs(tmp_path)) == 1

    between(monkeypatch, "_save_store", another)
    back_up(shop, tmp_path / "first")
    assert not left_overs(tmp_path)
    for name in ("first", "second"):
        restore(tmp_path / name, tmp_path / f"{name} again")


# --- damage ---------------------------------------------------------------------------------------


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x01
    anew(file, bytes(content))


def cut(file: Path) -> None:
    anew(file, file.read_bytes()[:-1])


def anew(file: Path, content: bytes) -> None:
    """Give a file other content, and leave what it is linked with as it is."""
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_backup_with_any_damaged_file_is_refused(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # so many that they would take a quarter of a minute
    back_up(shop, tmp_path / "b")
    for name in sorted(names(tmp_path / "b")):
        content = (tmp_path / "b" / name).read_bytes()
        damage(tmp_path / "b" / name)
        with pytest.raises(IndexFormatError, match=rf"({name}: the backup is damaged|not a backup)"):
            restore(tmp_path / "b", tmp_path / "again")
        assert not (tmp_path / "again").exists()
        assert not left_overs(tmp_path)
        (tmp_path / "b" / name).write_bytes(content)
    restore(tmp_path / "b", tmp_path / "again")
    assert stored(tmp_path / "again") == stored(shop)


def test_every_byte_of_the_manifest_counts(shop: Path, tmp_path: Path) -> None:
    back_up(shop, tmp_path / "b")
    file = tmp_path / "b" / "backup.json"
    content = file.read_bytes()
    for place in [*range(0, len(content), 97), len(content) - 2]:
        if content[place : place + 1].isspace():
            continue
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :])
        with pytest.raises(IndexFormatError, match=r"backup.json: the backup is damaged"):
            restore(tmp_path / "b", tmp_path / "again")


def resealed(folder: Path, **changes: object) -> None:
    """Change the manifest of a backup, and give it the checksum that it must have."""
    content = {**orjson.loads((folder / "backup.json").read_bytes()), **changes}
    del content["xxh3"]
    seal = xxhash.xxh3_128(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    (folder / "backup.json").write_bytes(orjson.dumps({**content, "xxh3": seal}))


@pytest.mark.parametrize("name", ["../escaped", "generations/../../escaped", "/tmp/escaped", ""])
def test_nothing_is_written_outside_the_folder(shop: Path, tmp_path: Path, name: str) -> None:
    back_up(shop, tmp_path / "b")
    resealed(tmp_path / "b", files={name: {"bytes": 0, "xxh3": ""}})
    with pytest.raises(IndexFormatError, match="outside the backup"):
        restore(tmp_path / "b", tmp_path / "again")


def test_a_backup_of_a_newer_version_is_refused(shop: Path, tmp_path: Path) -> None:
    back_up(shop, tmp_path / "b")
    resealed(tmp_path / "b", format_version=2)
    with pytest.raises(IndexFormatError, match=r"format version 2, this program restores 1. Upgrade Tilth"):
        restore(tmp_path / "b", tmp_path / "again")


def test_a_damaged_generation_is_not_saved(shop: Path, tmp_path: Path) -> None:
    flip(shop / "generations" / "1" / "dense" / "index.faiss")
    with pytest.raises(IndexFormatError, match=r"dense/index\.faiss: .* is damaged: .*: tilth compact"):
        back_up(shop, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    compact(shop)
    assert back_up(shop, tmp_path / "b").generation == 2


def test_a_damaged_store_is_not_saved(shop: Path, tmp_path: Path) -> None:
    with open_store(shop) as store:
        store.upsert(Product(id=f"x{n}", title=f"Trowel {n}", description="steel " * 50) for n in range(400))
    file = shop / "store.sqlite"
    with file.open("r+b") as opened:
        opened.seek(-2 * 8192, os.SEEK_END)  # the page before the last
        opened.write(bytes(64))
    with pytest.raises(StoreError, match=r"store.sqlite: cannot be saved: SQLite reports: .*malformed"):
        back_up(shop, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not left_overs(tmp_path)


# --- refusals -------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_refused_and_an_empty_one_is_taken(
    shop: Path, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    back_up(shop, tmp_path / "b")
    before = names(tmp_path / "b")
    for work in (lambda: back_up(shop, tmp_path / "b"), lambda: restore(tmp_path / "b", shop)):
        with pytest.raises(InputError, match=r"is not empty. Name a folder that does not exist or is empty"):
            work()
    assert names(tmp_path / "b") == before
    with pytest.raises(InputError, match="is a file"):
        restore(tmp_path / "b", shop / "current")
    (tmp_path / "again").mkdir()
    restore(tmp_path / "b", tmp_path / "again")
    assert stored(tmp_path / "again") == stored(shop)


def test_a_folder_filled_in_the_midst_is_left_as_it_is(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill() -> None:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "other").touch()

    between(monkeypatch, "_save_store", fill)
    with pytest.raises(InputError, match="is not empty"):
        back_up(shop, tmp_path / "b")
    assert names(tmp_path / "b") == {"other"}
    assert not left_overs(tmp_path)


@pytest.mark.parametrize("place", [".", "backups", "generations/1/b"])
def test_a_backup_within_the_index_folder_is_refused(shop: Path, place: str) -> None:
    with pytest.raises(InputError, match=r"lies in the index folder. Name a folder outside it"):
        back_up(shop, shop / place)


def test_what_is_no_index_and_what_is_no_backup_is_named(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="no index there"):
        back_up(tmp_path / "nothing", tmp_path / "b")
    with pytest.raises(IndexFormatError, match=r"not a backup \(no file backup.json\)"):
        restore(shop, tmp_path / "again")
    index(SHOP, tmp_path / "other", kept_encoder(WORDS))
    with pytest.raises(IndexFormatError, match="was built from the store"):
        back_up(shop, tmp_path / "b", f"sqlite:///{tmp_path / 'other' / 'store.sqlite'}")
    assert not (tmp_path / "b").exists()


def test_a_full_disk_is_named_and_nothing_is_left(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    back_up(shop, tmp_path / "b")
    monkeypatch.setattr(os, "fsync", full)
    for work in (lambda: back_up(shop, tmp_path / "c"), lambda: restore(tmp_path / "b", tmp_path / "again")):
        with pytest.raises(IndexWriteError, match=rf"{tmp_path}: the disk is full. Free some space"):
            work()
    assert {path.name for path in tmp_path.iterdir()} == {"b", "idx", "model"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount; a fault is injected by another test of this module")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_whatever_is_being_written_when_the_disk_is_full_nothing_is_left(
    shop: Path, small_disk: Path
) -> None:
    with open_store(shop) as store:
        store.upsert(
            Product(id=f"x{n}", title=f"Trowel {n}", description="steel " * 90) for n in range(2_000)
        )
    told = []
    for leaving in (0, 20_000, 200_000, 400_000, 1_000_000, 1_500_000):
        facts = os.statvfs(small_disk)
        (small_disk / "filler").write_bytes(bytes(facts.f_bavail * facts.f_frsize - leaving))
        with pytest.raises(IndexWriteError) as caught:
            back_up(shop, small_disk / "b")
        told.append(str(caught.value))
        assert {path.name for path in small_disk.iterdir()} == {"filler"}
        (small_disk / "filler").unlink()
    assert all(text.startswith(f"{small_disk}: the disk is full. Free some space") for text in told)
    restore(back_up(shop, small_disk / "b").folder, shop.with_name("again"))
    with pytest.raises(InputError, match=r"is a file system of its own. Name a new folder in it"):
        shutil.rmtree(small_disk / "b")
        back_up(shop, small_disk)


# --- PostgreSQL -----------------------------------------------------------------------------------


def test_an_index_whose_store_is_a_database_is_saved_without_it(server: str, tmp_path: Path) -> None:
    url, into = new_schemas(server, "backup")(), tmp_path / "idx"
    with open_store(into, url) as store:
        build_index(into, store, kept_encoder(WORDS), DEFAULTS, quiet, products=SHOP)
        store.upsert([NEW])
    report = back_up(into, tmp_path / "b", url)
    assert (report.built_at, report.sequence, report.products) == (8, 9, 9)
    assert report.database.startswith("postgresql://tilth@127.0.0.1:")
    assert report.database.endswith("/postgres")
    restore(tmp_path / "b", tmp_path / "again")
    assert not (tmp_path / "again" / "store.sqlite").exists()
    with contextlib.closing(open_index(tmp_path / "again", store=url)) as pipeline:
        assert pipeline.answer("wheelbarrow", 1).hits[0].product.id == "n1"
