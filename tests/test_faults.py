"""Full disks, read-only disks, damaged files, two writers: each is named, and what was good goes on."""

import contextlib
import dataclasses
import errno
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes import WordEncoder, kept_encoder
from shop import DEFAULTS, SHOP, index, quiet
from tilth.catalog import Product
from tilth.errors import IndexFormatError, IndexWriteError, StoreError
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.retrieval import live
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.builder import compact_index, encode_shard
from tilth.retrieval.index import open_store
from tilth.store import Store

WORDS = ["manure", "tomato", "hose", "secateurs"]
NEW = Product(id="n1", title="Wheelbarrow, galvanised")
DISK = 8 << 20  # bytes
QUERIES = [Query("1", "manure"), Query("2", "tomato"), Query("3", "wheelbarrow")]


class Disk:
    """A small file system of its own, mounted at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def free(self) -> int:
        facts = os.statvfs(self.folder)
        return facts.f_bavail * facts.f_frsize

    def fill(self, leaving: int) -> None:
        """Fill it up to some bytes."""
        self.make_room()
        self._filler.write_bytes(bytes(max(0, self.free() - leaving)))

    def make_room(self) -> None:
        self._filler.unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        mount("-o", f"remount,{how}", str(self.folder))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount; the faults are injected by other tests of this module")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    index(SHOP, tmp_path / "idx", kept_encoder(WORDS))
    return tmp_path / "idx"


def compact(into: Path) -> None:
    with open_store(into, create=False) as store:
        compact_index(into, store, Resources(), quiet)


def rebuild(into: Path) -> None:
    index([*SHOP, NEW], into, WordEncoder("others"))


def found(pipeline: Pipeline, text: str) -> set[str]:
    return {hit.product.id for hit in pipeline.answer(text, 50).hits if "lexical" in hit.places}


def entries(into: Path) -> set[str]:
    return {path.name for path in (into / "generations").iterdir()}


# --- a full disk ----------------------------------------------------------------------------------

LEFT = [
    0,
    4_096,
    40_960,
    131_072,
    180_224,
    229_376,
    278_528,
    327_680,
    393_216,
]  # bytes: any stage is the last


@pytest.mark.parametrize("work", [compact, rebuild])
def test_a_full_disk_stops_a_build_and_harms_nothing(disk: Disk, work: Callable[[Path], None]) -> None:
    into = disk.folder / "idx"
    index(SHOP, into, kept_encoder(WORDS))
    with contextlib.closing(open_index(into)) as pipeline:
        pipeline.upsert([NEW])
        pipeline.refresh()
        told = []
        for leaving in LEFT:
            disk.fill(leaving)
            before = entries(into)
            try:
                work(into)
            except (IndexWriteError, StoreError) as error:
                told.append(str(error))
                assert entries(into) == before
            assert found(pipeline, "manure") == {"m1", "m2"}
            assert found(pipeline, "wheelbarrow") == {"n1"}
            disk.make_room()
        assert len(told) >= 2
        assert all(text.startswith(str(into)) and "disk is full. Free some space" in text for text in told)
        pipeline.live.store.upsert([dataclasses.replace(NEW, title="Barrow")])
        work(into)
        pipeline.refresh()
        assert found(pipeline, "manure") == {"m1", "m2"}
    with contextlib.closing(open_index(into)) as again:
        assert len(again) == len(SHOP) + 1


def test_a_full_disk_refuses_an_upsert_and_keeps_what_was_acknowledged(disk: Disk) -> None:
    into = disk.folder / "idx"
    index(SHOP, into, kept_encoder(WORDS))
    with contextlib.closing(open_index(into)) as pipeline:
        pipeline.upsert([NEW])
        pipeline.refresh()
        disk.fill(0)
        many = [Product(id=f"x{n}", title=f"Trowel {n} {'steel ' * 200}") for n in range(500)]
        with pytest.raises(StoreError, match=r"store.sqlite: the disk is full. Free some space"):
            pipeline.upsert(many)
        pipeline.refresh()
        pipeline.refresh()
        assert found(pipeline, "wheelbarrow") == {"n1"}
        assert found(pipeline, "trowel") == set()
        assert len(pipeline) == len(SHOP) + 1
        disk.make_room()
        pipeline.upsert(many)
        pipeline.refresh()
        assert len(found(pipeline, "trowel")) == 50


def failing(error: Exception) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


WHERE = {
    "numpy.save": OSError("4096 requested and 12 written"),
    "tilth.retrieval.vectors.VectorWriter.__init__": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "tilth.retrieval.lexical.LexicalWriter.__enter__": ValueError(
        "An IO error occurred: 'No space left on device (os error 28)'"
    ),
    "tilth.retrieval.lexical.LexicalWriter.add": ValueError(
        "An error occurred in a thread: 'An index writer was killed..'"
    ),
    "faiss.write_index": RuntimeError("write error in dense.faiss: 0 != 4 (No space left on device)"),
    "os.fsync": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
}


@pytest.mark.parametrize("name", WHERE)
def test_whichever_library_meets_the_full_disk_the_folder_is_named(
    shop: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with open_store(shop) as store:
        store.upsert([NEW])
    with monkeypatch.context() as patch:
        patch.setattr(name, failing(WHERE[name]))
        with pytest.raises(IndexWriteError, match=rf"{shop}: .*disk is full\. Free some space"):
            compact(shop)
    assert entries(shop) == {"1"}
    compact(shop)
    assert len(open_index(shop)) == len(SHOP) + 1


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("the feed's server went away"),
        PermissionError(errno.EACCES, "Permission denied", "/feed"),
    ],
)
def test_a_fault_of_the_catalogue_is_not_taken_for_one_of_the_folder(shop: Path, error: OSError) -> None:
    def broken() -> Iterator[Product]:
        yield NEW
        raise error

    with pytest.raises(type(error)) as caught:
        index(broken(), shop, kept_encoder(WORDS))
    assert caught.value is error


def test_encoding_a_part_tells_of_a_full_disk(disk: Disk) -> None:
    into = disk.folder / "idx"
    with open_store(into) as store:
        store.upsert(SHOP)
        disk.fill(0)
        with pytest.raises(IndexWriteError, match="disk is full"):
            encode_shard(into, store, WordEncoder(), DEFAULTS, (1, 1), quiet)
        disk.make_room()
        assert encode_shard(into, store, WordEncoder(), DEFAULTS, (1, 1), quiet) > 0


# --- a read-only disk -----------------------------------------------------------------------------


def test_a_store_on_a_read_only_disk_is_read_and_says_that_it_cannot_be_written(disk: Disk) -> None:
    path = disk.folder / "a ?b" / "store.sqlite"
    with Store.open(path) as store:
        store.upsert(SHOP)
    disk.remount("ro")
    with Store.open(path, create=False) as store:
        assert store.count() == len(SHOP)
        assert [change.product_id for change in store.changes(0)] == [product.id for product in SHOP]
        with pytest.raises(StoreError, match=r"store.sqlite: cannot be written to"):
            store.upsert([NEW])
    with pytest.raises(StoreError, match="there is no store"):
        Store.open(disk.folder / "b.sqlite", create=False)
    disk.remount("rw")
    with Store.open(path, create=False) as store:
        assert store.upsert([NEW]).changed == 1


def test_a_read_only_mount_shows_what_is_written_through_another(disk: Disk, tmp_path: Path) -> None:
    view = tmp_path / "view"
    view.mkdir()
    with Store.open(disk.folder / "store.sqlite") as writer:
        writer.upsert(SHOP)
        mount("--bind", str(disk.folder), str(view))
        try:
            mount("-o", "remount,bind,ro", str(view))
            with Store.open(view / "store.sqlite", create=False) as reader:
                assert reader.count() == len(SHOP)
                writer.upsert([NEW])
                assert reader.products(["n1"]) == {"n1": NEW}
                writer.close()
                writer.delete(["n1"])
                writer.close()
                assert reader.count() == len(SHOP)
        finally:
            subprocess.run(["umount", "-l", str(view)], check=True)


@pytest.mark.parametrize("work", [compact, rebuild])
def test_a_build_into_a_read_only_folder_names_it(disk: Disk, work: Callable[[Path], None]) -> None:
    into = disk.folder / "idx"
    index(SHOP, into, kept_encoder(WORDS))
    with open_store(into) as store:
        store.upsert([NEW])
    disk.remount("ro")
    with pytest.raises(IndexWriteError, match=rf"{into}: cannot be written to. Check the permissions"):
        work(into)
    disk.remount("rw")
    work(into)
    assert len(open_index(into)) == len(SHOP) + 1


# --- two writers ----------------------------------------------------------------------------------


def test_a_second_writer_of_the_store_waits_and_succeeds(shop: Path) -> None:
    begun, done = threading.Event(), threading.Event()

    def second() -> None:
        with open_store(shop, create=False) as store:
            begun.set()
            store.upsert([NEW])
            done.set()

    thread = threading.Thread(target=second)

    def slowly() -> Iterator[Product]:
        yield Product(id="n0", title="Dibber")
        thread.start()
        assert begun.wait(30)
        assert not done.wait(0.2)

    with open_store(shop, create=False) as store:
        store.upsert(slowly())
        thread.join(30)
        assert done.is_set()
        assert list(store.products(["n0", "n1"])) == ["n0", "n1"]


# --- damage ---------------------------------------------------------------------------------------

FILES = [
    "dense/index.faiss", "columns/columns.json", "columns/*.npy", "lexical/*.store", "lexical/meta.json",
    "passage_rows.npy", "passage_hashes.npy", "steady_hashes.npy", "vocabulary.txt",
]  # fmt: skip


def flip(file: Path) -> None:
    """Change one byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    replace(file, bytes(content))


def cut(file: Path) -> None:
    replace(file, file.read_bytes()[:-1])


def replace(file: Path, content: bytes) -> None:
    """Give a file other content without touching what an opened index has mapped."""
    aside = file.with_name("aside")
    aside.write_bytes(content)
    aside.replace(file)


def scores(pipeline: Pipeline) -> list[dict[str, float]]:
    runs = [retriever.search(QUERIES, 50) for retriever in pipeline.retrievers().values()]
    return [{hit.product_id: hit.score for hit in run[q.query_id]} for run in runs for q in QUERIES]


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_compaction_replaces_it(
    shop: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    with contextlib.closing(open_index(shop)) as pipeline:
        good = scores(pipeline)
        file = next((shop / "generations" / "1").glob(name))
        damage(file)
        with pytest.raises(
            IndexFormatError, match=rf"{file}: the index is damaged: .* Build the index again"
        ):
            open_index(shop)
        assert scores(pipeline) == good
        compact(shop)  # though the store has not changed
        pipeline.refresh()
        assert pipeline.index.generation.number == 2
        assert scores(pipeline) == good


def test_damaged_vectors_are_made_again_not_reused(shop: Path) -> None:
    file = shop / "generations" / "1" / "dense" / "index.faiss"
    content = bytearray(file.read_bytes())
    content[-64:] = bytes(64)  # of the codes, which no format check looks at
    file.write_bytes(content)
    with open_store(shop) as store:
        store.upsert([NEW])
        manifest = compact_index(shop, store, Resources(), quiet)
    assert manifest["legs"]["dense"]["reused"] == 0
    fresh = shop.with_name("fresh")
    index([*SHOP, NEW], fresh, kept_encoder(WORDS))
    with contextlib.closing(open_index(shop)) as one, contextlib.closing(open_index(fresh)) as other:
        assert scores(one) == scores(other)


@pytest.mark.parametrize(
    "name", ["current", "generations/1/manifest.json", "generations/1/dense/encoder/encoder.json"]
)
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_what_compaction_needs_is_named_and_a_new_build_replaces_it(
    shop: Path, name: str, damage: Callable[[Path], None]
) -> None:
    with contextlib.closing(open_index(shop)) as pipeline:
        good = scores(pipeline)
        with open_store(shop) as store:
            store.upsert([NEW])
        damage(shop / name)
        for work in (open_index, compact):
            with pytest.raises(IndexFormatError, match=rf"{shop}.*({Path(name).name}|Build the index again)"):
                work(shop)
        assert scores(pipeline) == good
        rebuild(shop)
        pipeline.refresh()
        assert found(pipeline, "wheelbarrow") == {"n1"}


def test_a_truncated_store_is_named_and_the_searches_that_are_open_go_on(shop: Path) -> None:
    with contextlib.closing(open_index(shop)) as pipeline:
        good = scores(pipeline)
        with open_store(shop) as store:
            store.upsert(
                Product(id=f"x{n}", title=f"Trowel {n}", description="steel " * 50) for n in range(400)
            )
        pipeline.live.store.close()
        os.truncate(shop / "store.sqlite", (shop / "store.sqlite").stat().st_size // 2)
        for work in (open_index, compact, lambda _: pipeline.refresh()):
            with pytest.raises(StoreError, match=r"store.sqlite: is damaged. Restore a copy, or load"):
                work(shop)
        assert scores(pipeline) == good
    (shop / "store.sqlite").unlink()
    rebuild(shop)
    assert len(open_index(shop)) == len(SHOP) + 1


def test_a_read_only_index_is_searched_and_not_changed(disk: Disk) -> None:
    into = disk.folder / "idx"
    index(SHOP, into, kept_encoder(WORDS))
    disk.remount("ro")
    with contextlib.closing(open_index(into)) as pipeline:
        assert found(pipeline, "manure") == {"m1", "m2"}
        with pytest.raises(StoreError, match=rf"{into}.*cannot be written to"):
            pipeline.upsert([NEW])
    disk.remount("rw")
    with open_store(into) as store:
        store.upsert([NEW])
    disk.remount("ro")
    with contextlib.closing(open_index(into)) as pipeline:
        assert found(pipeline, "wheelbarrow") == {"n1"}


def test_following_outlives_a_full_folder_for_temporary_files(
    disk: Disk, shop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
    monkeypatch.setattr(live, "_RETRY_SECONDS", 0.1)
    with contextlib.closing(open_index(shop)) as pipeline:
        disk.fill(8192)
        with pipeline.following():
            pipeline.upsert([NEW])
            wait_for(lambda: "still serving" in caplog.text)
            assert found(pipeline, "manure") == {"m1", "m2"}
            disk.make_room()
            wait_for(lambda: found(pipeline, "wheelbarrow") == {"n1"})


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it did not happen within 30 seconds"
        time.sleep(0.02)
