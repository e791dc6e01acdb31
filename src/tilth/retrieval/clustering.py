"""Lists for an inverted file: k-means in two levels, whose cost grows with N times the root of the lists.

Vectors are first divided into about sqrt(lists) regions, then each region into its share of lists. A vector
is assigned through its two nearest regions. Threads work on separate regions and blocks with one thread each,
so the result depends on the seed alone.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import faiss
import numpy as np
import numpy.typing as npt

from tilth.protocols import Vectors
from tilth.retrieval.quantisation import Codes

BLOCK = 16_384  # vectors that a thread has in float32 at a time; with more, faiss is slower

_PER_LIST = 32  # vectors trained on for each list
_PER_REGION = 256  # vectors trained on for each region
_ROUNDS = 4  # of k-means; eight give lists no better (docs/log.md)
_NEAREST = 2  # regions in which a vector's list is looked for

Assignment = npt.NDArray[np.int32]  # (N,) the list of each vector


@dataclass(frozen=True, slots=True)
class Regions:
    """Centres of the regions, (R, D), and the centres of the lists within each."""

    centres: Vectors
    lists: tuple[Vectors, ...]

    @property
    def list_centres(self) -> Vectors:
        """The centres of all lists, (L, D), in the order in which they are numbered."""
        return np.concatenate(self.lists)


@contextmanager
def single_threads(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool whose threads run faiss with one thread each."""
    with ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        yield pool


def train_regions(codes: Codes, lists: int, seed: int, pool: ThreadPoolExecutor) -> Regions:
    """Find the centres of about `lists` lists.

    Args:
        codes: (N, D), may be memory-mapped; a sample of it is used.
        lists: how many are wanted, at most N.
        seed: of the sample and of k-means.
        pool: of `single_threads`.

    Returns:
        The regions.
    """
    count = min(len(codes), lists * _PER_LIST)
    chosen = np.sort(np.random.default_rng(seed).choice(len(codes), count, replace=False))
    sample = codes[chosen].astype(np.float32)
    faiss.normalize_L2(sample)
    regions = max(round(lists**0.5), 1)
    coarse = sample[:: max(count // (regions * _PER_REGION), 1)]
    centres = pool.submit(_centres, coarse, regions, seed).result()
    nearest = pool.submit(_nearest, sample, centres, 1).result()[1][:, 0]
    members = [np.flatnonzero(nearest == region) for region in range(regions)]
    kept = [region for region in range(regions) if len(members[region])]

    def divide(region: int) -> Vectors:
        inside = sample[members[region]]
        return _centres(inside, max(round(lists * len(inside) / count), 1), seed)

    return Regions(centres[kept], tuple(pool.map(divide, kept)))


def _centres(vectors: Vectors, count: int, seed: int) -> Vectors:
    means = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=_ROUNDS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    means.train(vectors)
    return np.asarray(means.centroids)


def _nearest(vectors: Vectors, centres: Vectors, count: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    found: tuple[Vectors, npt.NDArray[np.int64]] = faiss.knn(
        vectors, centres, count, faiss.METRIC_INNER_PRODUCT
    )
    return found


def assign(codes: Codes, regions: Regions, pool: ThreadPoolExecutor) -> Assignment:
    """Return the list of each vector.

    Args:
        codes: (N, D), may be memory-mapped.
        regions: what `train_regions` found.
        pool: of `single_threads`.

    Returns:
        (N,) numbers of lists.
    """
    blocks = (codes[start : start + BLOCK] for start in range(0, len(codes), BLOCK))
    return np.concatenate(list(pool.map(partial(_assign_block, regions=regions), blocks)))


def _assign_block(codes: Codes, regions: Regions) -> Assignment:
    vectors = codes.astype(np.float32)
    near = _nearest(vectors, regions.centres, min(_NEAREST, len(regions.centres)))[1]
    order = np.argsort(near, axis=None, kind="stable")
    ends = np.searchsorted(near.ravel()[order], np.arange(len(regions.centres) + 1))
    best = np.full(len(vectors), -np.inf, np.float32)
    lists = np.zeros(len(vectors), np.int32)
    first = 0
    for region, centres in enumerate(regions.lists):
        places = order[ends[region] : ends[region + 1]] // near.shape[1]
        if len(places):
            scores, numbers = _nearest(vectors[places], centres, 1)
            better = scores[:, 0] > best[places]
            places = places[better]
            best[places], lists[places] = scores[better, 0], first + numbers[better, 0]
        first += len(centres)
    return lists
