"""Which column of a file fills which field of a product."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tilth.catalog import PRODUCT_FIELDS
from tilth.errors import InputError, SettingError

FIELDS = (*PRODUCT_FIELDS, "currency")  # currency: for prices that name none

# Other names that a field goes by, the best first; a field's own name goes before them.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "id": ("product_id", "item_id", "sku"),
    "title": ("name", "product_name", "product_title"),
    "description": ("content", "summary", "product_description"),
    "brand": ("manufacturer", "vendor", "product_brand"),
    "product_type": ("category", "categories", "category_path", "google_product_category"),
    "gtin": ("ean", "upc", "barcode"),
    "link": ("url", "product_url"),
    "image_link": ("image", "image_url"),
    "rating": ("average_rating",),
    "rating_count": ("review_count", "reviews_count"),
    "attributes": ("product_detail",),
    "currency": ("price_currency", "currency_code"),
}
_REQUIRED = ("id", "title")
_REMEMBERED = 10_000  # columns whose fields are kept; files with more are read more slowly


def normalised(column: str) -> str:
    """Return the name by which columns are compared: `g:Image Link` is `image_link`."""
    return column.strip().lower().removeprefix("g:").replace(" ", "_").replace("-", "_")


@dataclass(slots=True)
class ColumnMap:
    """Sorts the columns of a row into product fields and the rest.

    `chosen` maps a field to the one column that fills it; a field not in it is filled from the column of its
    own name, or else of its first synonym that the row has a value for.
    """

    chosen: Mapping[str, str]
    _places: dict[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.chosen:
            if name not in FIELDS:
                raise SettingError(f"no product field is called {name!r}. Fields are {', '.join(FIELDS)}")

    def sort(self, row: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
        """Return the row's values by field, and the rest by column; blank values are in neither."""
        best: dict[str, tuple[int, str, object]] = {}
        rest: dict[str, object] = {}
        for column, value in row.items():
            if value is None or value == "":
                continue
            places = self._places.get(column)
            if places is None:
                places = self._remember(column)
            if not places:
                rest[column] = value
            for rank, name in places:
                held = best.get(name)
                if held is None or rank < held[0]:
                    best[name] = (rank, column, value)
                    if held is not None:
                        rest[held[1]] = held[2]
                else:
                    rest[column] = value
        return {name: held[2] for name, held in best.items()}, rest

    def check(self, columns: Collection[str], path: object) -> None:
        """Raise an InputError unless the columns hold every chosen one, and those of `id` and `title`."""
        found = {name for column in columns for _, name in self._places_of(column)}
        listed = ", ".join(sorted(map(str, columns))[:50])
        for name, column in self.chosen.items():
            if name not in found:
                raise InputError(
                    f"no column is called {column!r}, which is to be the {name}",
                    path=path, remedy=f"The columns are: {listed}",
                )  # fmt: skip
        for name in _REQUIRED:
            if name not in found:
                remedy = f"Say which one it is with --map {name}=COLUMN. The columns are: {listed}"
                raise InputError(f"no column for the {name}", path=path, remedy=remedy)

    def _remember(self, column: str) -> tuple[tuple[int, str], ...]:
        places = self._places_of(column)
        if len(self._places) < _REMEMBERED:
            self._places[column] = places
        return places

    def _places_of(self, column: str) -> tuple[tuple[int, str], ...]:
        """The (rank, field) pairs that a column can fill; the lowest rank wins."""
        places = []
        for name in FIELDS:
            if name in self.chosen:
                if normalised(column) == normalised(self.chosen[name]):
                    places.append((0 if column == self.chosen[name] else 1, name))
            elif normalised(column) in (names := (name, *SYNONYMS.get(name, ()))):
                places.append((names.index(normalised(column)), name))
        return tuple(places)
