"""Tilth: the retrieval layer of a shop assistant.

The names below are loaded on first use, so that `import tilth` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilth.catalog import Product as Product
    from tilth.errors import TilthError as TilthError
    from tilth.pipeline import Pipeline as Pipeline
    from tilth.pipeline import open_index as open_index
    from tilth.qrels import Qrels as Qrels
    from tilth.qrels import read_qrels as read_qrels
    from tilth.query import Query as Query
    from tilth.query import read_queries as read_queries
    from tilth.run import Hit as Hit
    from tilth.run import Run as Run

__version__ = "0.1.0"

_HOME = {
    "Product": "tilth.catalog",
    "TilthError": "tilth.errors",
    "Pipeline": "tilth.pipeline",
    "open_index": "tilth.pipeline",
    "Qrels": "tilth.qrels",
    "read_qrels": "tilth.qrels",
    "Query": "tilth.query",
    "read_queries": "tilth.query",
    "Hit": "tilth.run",
    "Run": "tilth.run",
}
__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'tilth' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
