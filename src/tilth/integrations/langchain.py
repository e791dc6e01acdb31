"""A retriever for LangChain: products of a service as documents. See docs/integrations.md."""

from typing import TYPE_CHECKING, Any

from tilth.errors import MissingExtraError

try:
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import PrivateAttr, SecretStr
except ImportError as error:
    raise MissingExtraError("LangChain", "langchain") from error

from tilth.integrations.client import Client, products_of

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun


class TilthRetriever(BaseRetriever):
    """Finds products through a service of Tilth; a document is a product.

    The text of a document is the product's passages; its metadata is described at `products_of`. What is None
    is as the service is set.
    """

    url: str
    key: SecretStr = SecretStr("")
    k: int | None = None
    filters: dict[str, Any] | None = None
    budget_tokens: int | None = None
    timeout: float = 10.0  # seconds
    _client: Client = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:  # noqa: ANN401 - pydantic's own type
        """Prepare the connection."""
        super().model_post_init(context)
        self._client = Client(self.url, self.key.get_secret_value(), self.timeout)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: "CallbackManagerForRetrieverRun",  # noqa: ARG002 - LangChain's
    ) -> list[Document]:
        return _documents(self._client.context(query, **self._asked()))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: "AsyncCallbackManagerForRetrieverRun",  # noqa: ARG002
    ) -> list[Document]:
        return _documents(await self._client.acontext(query, **self._asked()))

    def _asked(self) -> dict[str, Any]:
        return {"k": self.k, "budget_tokens": self.budget_tokens, "filters": self.filters}


def _documents(context: dict[str, Any]) -> list[Document]:
    return [
        Document(id=metadata["product_id"], page_content=text, metadata=metadata)
        for text, metadata in products_of(context)
    ]
