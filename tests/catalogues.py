"""Small catalogues and filters for property tests, and what a filter means, said plainly."""

from collections.abc import Mapping

from hypothesis import strategies as st

from tilth.catalog import Price, Product

TEXTS = ["", "Terra", "terra", "Humus", "Straße", "STRASSE", "Грядка", "грядка"]
PATHS = ["", "Garden", "Garden > Compost", "garden > Compost > Leaf", "Gardening", "Garden > Composters"]
ATTRIBUTES = {
    "volume": ["5 l", "60 l", "4,5 l", "60.0 l"],
    "tines": [3, 4, 4.0, 5.5],
    "sown": ["2024-01-31", "2024-02-01", "1969-07-20T20:17:40Z"],
    "organic": [True, False],
    "colour": ["red", "Red", "ROT", "5 l"],
    "odd": ["red", 1, True, "1", 1.0],
    "brand": ["Terra"],
    "notes": ["x" * 300],
}


@st.composite
def products(draw: st.DrawFn, least: int = 0) -> list[Product]:
    """Catalogues of up to twelve products with few distinct values."""
    ids = draw(
        st.lists(
            st.text("abcdefgh0123456789", min_size=1, max_size=3), unique=True, min_size=least, max_size=12
        )
    )
    return [
        Product(
            id=product_id,
            title="t",
            description=draw(st.sampled_from(["", "d"])),
            brand=draw(st.sampled_from(TEXTS)),
            product_type=draw(st.sampled_from(PATHS)),
            price=draw(st.sampled_from([None, Price(1.0, "EUR"), Price(2.5, "USD"), Price(3.0)])),
            availability=draw(st.sampled_from(["", "in_stock"])),
            item_group_id=draw(st.sampled_from(["", "g1", "g2"])),
            rating=draw(st.sampled_from([None, 1.0, 4.5])),
            clicks=draw(st.sampled_from([None, 0, 7])),
            attributes=draw(
                st.fixed_dictionaries({}, optional={n: st.sampled_from(v) for n, v in ATTRIBUTES.items()})
            ),
        )
        for product_id in ids
    ]


def conditions() -> st.SearchStrategy[dict[str, object]]:
    """Filters on one field."""
    numbers = st.sampled_from([-1, 0, 1, 2.5, 3, 4.5, 60])
    bounds = st.fixed_dictionaries({}, optional={"gte": numbers, "lt": st.just(1000)}).filter(bool)
    by_field = {
        "brand": _values(st.sampled_from(["TERRA", "strasse", "ГРЯДКА", "nobody"])),
        "product_type": st.sampled_from(["Garden", " garden>Compost", "Gard"]).map(
            lambda path: {"prefix": path}
        ),
        "price": _values(numbers) | bounds,
        "clicks": bounds,
        "description": st.nothing(),
        "product_id": _values(st.text("abcdefgh0123456789", min_size=1, max_size=1)),
        "attributes.volume": _values(st.sampled_from(["60 l", 60, "60 L", 5, 4.5])) | bounds,
        "tines": _values(numbers) | bounds,
        "sown": st.sampled_from(["1969-12-31", "2024-02-01"]).map(lambda date: {"gt": date}),
        "organic": _values(st.booleans()),
        "colour": _values(st.sampled_from(["RED", "rot", "5 L"])),
    }
    exists = st.booleans().map(lambda wanted: {"exists": wanted})
    return st.one_of(
        [(values | exists).map(lambda value, n=name: {n: value}) for name, values in by_field.items()]
    )


def _values(one: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return one | st.lists(one, min_size=1, max_size=2)


def filters() -> st.SearchStrategy[dict[str, object]]:
    """Filters of filters."""

    def nested(inner: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[dict[str, object]]:
        some = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            some.map(lambda each: {"and": each}),
            some.map(lambda each: {"or": each}),
            inner.map(lambda one: {"not": one}),
            st.tuples(conditions(), inner).map(lambda pair: pair[0] | pair[1]),
        )

    return st.recursive(conditions(), nested, max_leaves=5)


# --- the meaning ----------------------------------------------------------------------------------


def satisfies(product: Product, wanted: Mapping[str, object]) -> bool:
    """Tell whether a product satisfies filters."""
    return all(_holds(product, name, value) for name, value in wanted.items())


def _holds(product: Product, name: str, wanted: object) -> bool:
    if name in ("and", "or"):
        return (all if name == "and" else any)(satisfies(product, inner) for inner in wanted)
    if name == "not":
        return not satisfies(product, wanted)
    value = _value(product, name)
    if not isinstance(wanted, dict):
        each = wanted if isinstance(wanted, list) else [wanted]
        return value is not None and comparable(value) in map(comparable, each)
    return all(_operator(value, operator, bound) for operator, bound in wanted.items())


def _operator(value: object, operator: str, bound: object) -> bool:
    if operator == "exists":
        return (value is not None) == bound
    if value is None:
        return False
    held, limit = comparable(value), comparable(bound)
    if operator == "prefix":
        path, top = ([part.strip() for part in text.split(">")] for text in (held, limit))
        return path[: len(top)] == top
    return {"gt": held > limit, "gte": held >= limit, "lt": held < limit, "lte": held <= limit}[operator]


def _value(product: Product, name: str) -> object:
    name = "id" if name == "product_id" else name
    if name == "price":
        return product.price.amount if product.price else None
    if not hasattr(product, name):
        return product.attributes.get(name.removeprefix("attributes."))
    return None if getattr(product, name) == "" else getattr(product, name)


def comparable(value: object) -> object:
    """The value as it is compared: text without case, `60 l` as 60, numbers as they are."""
    if not isinstance(value, str):
        return value
    words = value.casefold().split()
    return float(words[0].replace(",", ".")) if len(words) == 2 and words[1] == "l" else value.casefold()
