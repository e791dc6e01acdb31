"""An index that follows its store: changes are applied beside the generation, and new generations taken over.

Everything that a process adds is its own: lexical changes go into a private clone of the generation's
folder, made of links; vectors and columns of later products are in memory. So nothing that two processes
share is ever written to while it is read, and what a killed process leaves means nothing to the next one,
which catches up with the store from the sequence number of the generation.
"""

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from tilth.catalog import Product, product_from_json
from tilth.errors import TilthError
from tilth.protocols import Rows
from tilth.retrieval.dense import ExactVectors
from tilth.retrieval.generations import current_number, explaining_faults, is_being_built, sweep
from tilth.retrieval.index import Index, check_store
from tilth.retrieval.lexical import LexicalIndex, LexicalUpdater, clone, lexical_document
from tilth.retrieval.preparation import CHUNK, steady_hashes
from tilth.retrieval.view import LiveDense, Segment, View
from tilth.store import Change, Store

FOLLOW_SECONDS = 0.2  # between two looks at the store; a change is to be seen within a second
_RETRY_SECONDS = 2.0  # after a failure: to try again may mean to read a whole generation
MANY = 100_000  # changes since the generation; more than these cost memory and time in every process

_log = logging.getLogger(__name__)


class LiveIndex:
    """The current generation of an index folder and all changes of its store; safe between threads."""

    def __init__(self, path: Path, index: Index, store: Store, *, threads: int = 1) -> None:
        """Catch up with the store.

        Args:
            path: the index folder.
            index: its current generation, opened.
            store: the store that it was built from.
            threads: how many the encoding of one query may use.

        Raises:
            IndexFormatError: no index is there, or it is damaged, foreign or of another version or store.
            StoreError: the store cannot be read.
        """
        self.path, self.store, self._threads = path, store, threads
        self._refreshing = threading.Lock()
        self._half_applied = False  # changes that failed on the way are dropped, and begun anew
        self._swept = True  # a generation that this process read may be left
        self._changes = self._after(index)
        self.view = self._changes.view()
        self.refresh()

    def _after(self, index: Index) -> "_Changes":
        check_store(index.generation, self.store)
        return _Changes(index)

    def refresh(self) -> View:
        """Take over a new generation if there is one, and apply what changed in the store.

        Searches in flight go on with the view that they have. While a generation is being built of more than
        `MANY` changes, a whole new catalogue for one, these are not applied one by one: the generation before
        is searched until the new one is there.

        Returns:
            The view from now on, which else holds every change that was committed before the call.

        Raises:
            IndexFormatError: the new generation is damaged; the view stays as it was.
            IndexWriteError: the folder for temporary files cannot be written to; the view stays as it was.
            StoreError: the store cannot be read; the view stays as it was.
        """
        with self._refreshing, explaining_faults(Path(tempfile.gettempdir())):
            if self._half_applied or current_number(self.path) != self._changes.index.generation.number:
                index = Index.open(self.path, threads=self._threads)
                before, self._changes = self._changes, self._after(index)
                self._half_applied = True  # until it has caught up, the view before is searched
                self._swept = False
                before.close()
            behind = self.store.last_sequence() - self._changes.sequence
            waits = behind > MANY and is_being_built(self.path)
            if self._half_applied or (behind and not waits):
                self._half_applied = True
                if not waits:
                    self._catch_up(self._changes)
                self.view = self._changes.view()
                self._half_applied = False
            self._swept = self._swept or sweep(self.path)
            return self.view

    def _catch_up(self, changes: "_Changes") -> None:
        before, pending = len(changes), self.store.changes(changes.sequence)
        while chunk := list(islice(pending, CHUNK)):
            changes.apply(chunk)
        if before <= MANY < len(changes):
            _log.warning("%s: %d changes wait for: tilth compact %s", self.path, len(changes), self.path)

    @contextmanager
    def following(
        self, refresh: Callable[[], object] | None = None, seconds: float = FOLLOW_SECONDS
    ) -> Iterator[None]:
        """Refresh in a thread of its own while the block runs.

        A refresh that fails is logged, and what was opened goes on serving.

        Args:
            refresh: what to do at each look; None: `LiveIndex.refresh`.
            seconds: between two looks at the store.

        Yields:
            Nothing.
        """
        stop, look = threading.Event(), refresh or self.refresh

        def follow() -> None:
            pause = seconds
            while not stop.wait(pause):
                pause = seconds
                try:
                    look()
                except TilthError as error:
                    pause = max(seconds, _RETRY_SECONDS)
                    _log.error("%s: still serving what was opened before: %s", self.path, error)
                except Exception:  # noqa: BLE001 - a fault of ours, after which following must go on all the same
                    pause = max(seconds, _RETRY_SECONDS)
                    _log.exception("%s: still serving what was opened before", self.path)

        thread = threading.Thread(target=follow, name="tilth-follow", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        """Drop what this process made; searches must have ended."""
        self._changes.close()


class _Changes:
    """What came after a generation; touched by one thread at a time."""

    def __init__(self, index: Index) -> None:
        self.index, self.sequence = index, index.sequence
        self._products: list[Product] = []  # of the rows after the generation
        self._steady = np.empty(0, np.uint64)  # of those rows
        self._rows: dict[str, int] = {}  # of products that came after it, the last of each id
        self._segments = [Segment(0, index.columns, index.terms)]
        self._alive = np.ones(len(index.columns), bool)
        self._dead = 0
        self._vectors: dict[str, ExactVectors] = {}  # by the name of their leg
        self._lexical = index.lexical
        self._updater: LexicalUpdater | None = None
        self._uncommitted = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        """Return how many rows were added or are no more."""
        return len(self._products) + self._dead

    def view(self) -> View:
        """Return what a search sees from now on."""
        alive = self._alive.copy() if self._dead else None
        return View(
            self.index,
            self._lexical,
            {
                name: LiveDense(leg.index, self._vectors.get(name), alive)
                for name, leg in self.index.legs.items()
            },
            self.index.speller.knowing(self._lexical.knows),
            tuple(self._segments),
            alive,
            self.sequence,
        )

    def apply(self, changes: Sequence[Change]) -> None:
        """Apply changes in their order: new values in place, new texts as new rows, the rest to the dead."""
        kept = [change for change in changes if change.record is not None]
        products = {c.product_id: product_from_json(orjson.loads(c.record or b"")) for c in kept}
        steady = dict(zip(products, steady_hashes(products.values()).tolist(), strict=True))
        added: list[Product] = []
        for change, row in zip(changes, self._live_rows([c.product_id for c in changes]), strict=True):
            product = products.get(change.product_id)
            if product is not None and row >= 0 and self._steady_hash(row) == steady[product.id]:
                self._update(row, product)
                continue
            if row >= 0:
                self._bury(row)
            if product is not None:
                added.append(product)
        self._add(added)
        if self._updater is not None and self._uncommitted:
            self._updater.commit()
            self._lexical = self._lexical.refreshed()
            self._uncommitted = False
        self.sequence = changes[-1].sequence

    def _live_rows(self, ids: Sequence[str]) -> list[int]:
        """Return the row of each product, -1 where there is none."""
        base = self.index.columns.row_of(ids)
        rows = np.array([self._rows.get(name, row) for name, row in zip(ids, base.tolist(), strict=True)])
        live: list[int] = np.where((rows >= 0) & self._alive[rows], rows, -1).tolist()
        return live

    def _steady_hash(self, row: int) -> int:
        size = len(self.index.columns)
        return int(self.index.steady[row] if row < size else self._steady[row - size])

    def _update(self, row: int, product: Product) -> None:
        """Put a row's price, availability and popularity in place."""
        size = len(self.index.columns)
        if row >= size:
            self._products[row - size] = product
        segment = next(s for s in reversed(self._segments) if s.first <= row)
        segment.columns.update(row - segment.first, product)

    def _bury(self, row: int) -> None:
        self._alive[row] = False
        self._dead += 1
        self._writer().delete(row)

    def _add(self, products: list[Product]) -> None:
        """Give products rows after the last one."""
        if not products:
            return
        first = len(self._alive)
        rows = np.arange(first, first + len(products))
        for row, product in zip(rows.tolist(), products, strict=True):
            self._writer().add(lexical_document(row, product, self.index.lexical.settings))
            self._rows[product.id] = row
        self._add_vectors(rows, products)
        self._products += products
        self._steady = np.concatenate([self._steady, steady_hashes(products)])
        self._alive = np.concatenate([self._alive, np.ones(len(products), bool)])
        self._segments.append(Segment.of(first, products))
        self._join_segments()

    def _add_vectors(self, rows: Rows, products: Sequence[Product]) -> None:
        cuts = self.index.cutter.cut(products)
        passages = [passage for cut in cuts for passage in cut.passages]
        rows = np.repeat(rows, [len(cut.passages) for cut in cuts])
        for name, leg in self.index.legs.items():
            added = ExactVectors.of(leg.encoder.encode_passages(passages), rows)
            before = self._vectors.get(name)
            self._vectors[name] = added if before is None else before.joined(added)

    def _join_segments(self) -> None:
        """Keep each segment after the generation at least twice as large as the next, so that few remain."""
        while len(self._segments) > 2 and len(self._segments[-2].columns) < 2 * len(
            self._segments[-1].columns
        ):
            self._segments.pop()
            first = self._segments.pop().first
            products = self._products[first - len(self.index.columns) :]
            self._segments.append(Segment.of(first, products))

    def _writer(self) -> LexicalUpdater:
        """Return what writes into the private clone of the lexical index, made at the first change."""
        self._uncommitted = True
        if self._updater is None:
            self._folder = tempfile.TemporaryDirectory(prefix="tilth-", ignore_cleanup_errors=True)
            folder = Path(self._folder.name) / "lexical"
            clone(self.index.folder / "lexical", folder)
            self._updater = LexicalUpdater(folder)
            self._lexical = LexicalIndex(folder, self.index.lexical.settings)
        return self._updater

    def close(self) -> None:
        """Remove the clone."""
        if self._updater is not None and self._folder is not None:
            self._updater.close()
            self._folder.cleanup()
