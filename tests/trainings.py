"""Small trainings of the shop's own encoder, on one thread: short ones gain nothing from more."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shop import quiet
from tilth.catalog import Product
from tilth.encoder_training.settings import EncoderSettings
from tilth.protocols import Vectors
from tilth.readers.products import read_products
from tilth.retrieval.encoder import STATIC_MODEL, TOKENIZER, StaticEncoder
from tilth.sample.shop import write_shop

SHORT = EncoderSettings(  # all of them, whatever the defaults come to be
    dimension=64,
    vocabulary=600,
    sample=1_000,
    shares={"title": 0.5, "description": 0.2, "attributes": 0.2, "names": 0.1, "kin": 0.0, "asked": 0.2},
    batch=32,
    steps=12,
    learning_rate=0.01,
    temperature=0.05,
    dropped=0.5,
    slips=0.2,
    strange=0.4,
    hard_negatives=0.0,
    teaching=3.0,
    taught=30_000,
)
TEXTS = ["tomato feed 5 l", "5kg Compost, rose", "лейка 8 л", "Секатор садовый", "zzzz"]


@lru_cache
def sample_shop(products: int, language: str) -> Path:
    """The folder of a sample shop."""
    folder = Path(tempfile.mkdtemp(prefix="tilth-tests-"))
    write_shop(folder, products=products, language=language)
    return folder


@lru_cache
def shop_products(products: int, language: str) -> tuple[Product, ...]:
    """The products of a sample shop."""
    return tuple(read_products([sample_shop(products, language) / "products.jsonl"]))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let a training use one thread, and torch as many as before when it is done."""
    import torch

    from tilth.encoder_training import trainer

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "usable_cores", lambda: 1)
        yield
    torch.set_num_threads(before)


def trained(
    products: Sequence[Product], work: Path, settings: EncoderSettings = SHORT, **options: Any
) -> StaticEncoder:
    """Train an encoder."""
    from tilth.encoder_training.trainer import train_encoder

    with one_thread():
        return train_encoder(products, work, settings, options.pop("progress", quiet), **options)


def content(encoder: StaticEncoder, folder: Path) -> tuple[bytes, bytes]:
    """The bytes of the table and of the tokenizer, as they are saved."""
    encoder.save(folder)
    return (folder / STATIC_MODEL).read_bytes(), (folder / TOKENIZER).read_bytes()


def reciprocal_rank(queries: Vectors, products: Vectors, wanted: Sequence[int]) -> float:
    """The mean of one over the rank of each query's own product, ties ranked last."""
    scores = queries @ products.T
    own = scores[np.arange(len(scores)), list(wanted)]
    return float(np.mean(1 / (scores >= own[:, None]).sum(axis=1)))
