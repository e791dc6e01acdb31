"""What a cross-encoder reads of a product: its passages, the head first, in training as in serving.

Each later passage opens with the title, as the head does; together they need it once.
"""

from collections.abc import Sequence

from tilth.retrieval.live import LiveIndex


class ProductTexts:
    """The texts of a live index's products as the store has them now; safe to share between threads."""

    def __init__(self, live: LiveIndex) -> None:
        """Prepare; nothing is read.

        Args:
            live: the index, whose cutter makes the passages.
        """
        self._live = live

    def __call__(self, product_ids: Sequence[str]) -> list[str]:
        """Return the text of each product: its passages in one.

        Args:
            product_ids: of M products.

        Returns:
            M texts; empty for a product that the store does not have.

        Raises:
            StoreError: the store cannot be read.
        """
        products = self._live.store.products(product_ids)
        cuts = self._live.view.index.cutter.cut(list(products.values()))
        texts = {name: _joined(cut.passages) for name, cut in zip(products, cuts, strict=True)}
        return [texts.get(name, "") for name in product_ids]


def _joined(passages: Sequence[str]) -> str:
    """Join passages, leaving out the words with which one opens just as the first does."""
    head, *later = [passage.split() for passage in passages] or [[]]
    for passage in later:
        same = [one == other for one, other in zip(head, passage, strict=False)]
        head = head + passage[(*same, False).index(False) :]
    return " ".join(head)
