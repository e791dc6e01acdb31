"""The product, and the values of its fields: prices, availability, category paths.

Field names follow the merchant product feed specification.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Price:
    """An amount of money; `currency` is an ISO 4217 code, or empty where the feed names none."""

    amount: float
    currency: str = ""

    def __str__(self) -> str:
        return f"{self.amount:.2f} {self.currency}".rstrip()


AttributeValue = str | int | float | bool
NO_ATTRIBUTES: Mapping[str, AttributeValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One record of the catalogue. Text that the feed lacks is empty; a number that it lacks is None."""

    id: str
    title: str
    description: str = ""
    brand: str = ""
    product_type: str = ""  # "A > B > C", from the widest to the narrowest
    price: Price | None = None
    sale_price: Price | None = None
    availability: str = ""  # in_stock, out_of_stock, preorder, backorder, or empty
    gtin: str = ""
    mpn: str = ""
    item_group_id: str = ""
    link: str = ""
    image_link: str = ""
    attributes: Mapping[str, AttributeValue] = field(default=NO_ATTRIBUTES)
    rating: float | None = None
    rating_count: int | None = None
    popularity: float | None = None
    clicks: int | None = None
