"""A retriever for LlamaIndex: products of a service as nodes. See docs/integrations.md."""

from collections.abc import Mapping
from typing import Any

from tilth.errors import MissingExtraError

try:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtraError("LlamaIndex", "llama-index") from error

from tilth.integrations.client import Client, products_of

_NOT_FOR_MODELS = ["impression_id", "rank"]


class TilthRetriever(BaseRetriever):
    """Finds products through a service of Tilth; a node is a product."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        budget_tokens: int | None = None,
        timeout: float = 10.0,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Prepare the connection; what is None is as the service is set.

        Args:
            url: of the service, such as `http://localhost:8080`.
            key: with the scope search; empty where the service asks for none.
            k: how many hits are looked at, from 1.
            filters: conditions that every product satisfies; see docs/filters.md.
            budget_tokens: of all texts together, from 1.
            timeout: seconds.
            callback_manager: of LlamaIndex.

        Raises:
            InputError: the URL is no address, or the key cannot be sent.
            SettingError: the timeout is not above 0.
        """
        super().__init__(callback_manager=callback_manager)
        self._client = Client(url, key, timeout)
        self._asked: dict[str, Any] = {"k": k, "filters": filters, "budget_tokens": budget_tokens}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(self._client.context(query_bundle.query_str, **self._asked))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(await self._client.acontext(query_bundle.query_str, **self._asked))


def _nodes(context: dict[str, Any]) -> list[NodeWithScore]:
    """Return a node a product; its score is 1 divided by its rank: it orders, and says no more than that."""
    return [
        NodeWithScore(
            node=TextNode(
                id_=metadata["product_id"],
                text=text,
                metadata=metadata,
                excluded_llm_metadata_keys=_NOT_FOR_MODELS,
                excluded_embed_metadata_keys=list(metadata),
            ),
            score=1 / metadata["rank"],
        )
        for text, metadata in products_of(context)
    ]
