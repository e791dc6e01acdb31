"""Impressions as they were served, and interactions: what a person or an agent did with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b

from tilth.errors import InputError

ACTIONS = ("view", "click", "cart", "purchase", "dwell", "cited", "rejected", "csat", "thumbs")
MOST_ID = 200  # characters of an id or a name
MOST_REASON = 1_000  # characters
MOST_RANK = 1_000_000
MOST_VALUE = 1e12  # of a value, and of milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One answer as it was served: which products, at which ranks, and what put them there.

    `propensities` are the probabilities with which each product came to its rank; empty where the order left
    nothing to chance.

    Raises:
        InputError: an id is empty or too long, a text cannot be stored, a product occurs twice, the time has
            no zone, the first rank is no rank, or the propensities are no probabilities of the products.
    """

    impression_id: str
    query: str
    product_ids: tuple[str, ...]  # by rank
    time: datetime  # aware, UTC
    kind: str = "search"  # what was asked for: search, context, ask, or the name of a tool
    first_rank: int = 1  # of the first product; more than 1 on later pages
    propensities: tuple[float, ...] = ()
    arm: str = ""  # the side of an experiment, as its caller names it
    release: str = ""  # empty: the plain hybrid
    answered: bool = True  # false where calibration found that nothing fits
    skipped: tuple[str, ...] = ()  # stages that time did not allow
    milliseconds: Mapping[str, float] = field(default_factory=dict)  # by stage
    application: str = ""
    client_id: str = ""

    def __post_init__(self) -> None:
        for name in ("impression_id", "kind"):
            _check_id(name, getattr(self, name))
        for name in ("arm", "release", "application", "client_id"):
            _check_text(name, getattr(self, name), MOST_ID)
        _check_text("query", self.query)
        _check_time(self.time)
        _check_rank("first_rank", self.first_rank)
        self._check_products()
        self._check_stages()

    def _check_products(self) -> None:
        for product_id in self.product_ids:  # as long as the store has them: a search must not fail of it
            if not product_id:
                raise InputError("cannot hold an empty id", field="product_ids")
            _check_text("product_ids", product_id)
        if len(set(self.product_ids)) < len(self.product_ids):
            raise InputError("a product occurs twice", field="product_ids", value=self.product_ids)
        if self.propensities and len(self.propensities) != len(self.product_ids):
            raise InputError(
                f"there are {len(self.product_ids)} products",
                field="propensities", value=self.propensities, remedy="Give one for each product, or none",
            )  # fmt: skip
        if not all(0 < propensity <= 1 for propensity in self.propensities):
            raise InputError(
                "a probability is above 0 and at most 1", field="propensities", value=self.propensities
            )

    def _check_stages(self) -> None:
        for name in ("skipped", "milliseconds"):
            for stage in getattr(self, name):
                _check_id(name, stage)
        if not all(0 <= milliseconds <= MOST_VALUE for milliseconds in self.milliseconds.values()):
            raise InputError("times are from 0", field="milliseconds", value=dict(self.milliseconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """What was done with an impression, once: a second one with the same `event_id` is the same one.

    Raises:
        InputError: an id is empty or too long, a text cannot be stored, there is no such action, the time has
            no zone, the rank is no rank, it is said of no product what is done with one, or the value is
            missing, not one of its action, or given where the action has none.
    """

    event_id: str
    impression_id: str
    action: str  # of `ACTIONS`
    time: datetime  # aware, UTC
    product_id: str = ""  # empty where it is about the whole answer
    rank: int | None = None  # from 1
    value: float | None = None  # dwell: seconds; csat: 1 to 5; thumbs: 1 or -1; purchase: what was paid
    reason: str = ""  # of a rejection
    client_id: str = ""
    session_id: str = ""

    def __post_init__(self) -> None:
        for name in ("event_id", "impression_id"):
            _check_id(name, getattr(self, name))
        for name in ("product_id", "client_id", "session_id"):
            _check_text(name, getattr(self, name), MOST_ID)
        _check_text("reason", self.reason, MOST_REASON)
        _check_time(self.time)
        if self.action not in ACTIONS:
            raise InputError(f"is none of {', '.join(ACTIONS)}", field="action", value=self.action)
        if self.rank is not None:
            _check_rank("rank", self.rank)
        if self.action in _OF_A_PRODUCT and not self.product_id and self.rank is None:
            raise InputError(
                f"is missing for {self.action}", field="product_id", remedy="Name the product, or its rank"
            )
        _check_value(self.action, self.value)


def query_id_of(query: str) -> str:
    """Return an id for the text of a query: the same whatever its case and white space."""
    text = " ".join(query.casefold().split())
    return f"q{blake2b(text.encode(), digest_size=8).hexdigest()}"


# --- checks ---------------------------------------------------------------------------------------

_OF_A_PRODUCT = ("click", "cart", "cited")  # others may be about the whole answer
_NEEDING_VALUE = ("dwell", "csat", "thumbs")
_VALUES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "dwell": (lambda value: 0 <= value <= MOST_VALUE, "Give the seconds, from 0"),
    "purchase": (lambda value: 0 <= value <= MOST_VALUE, "Give what was paid, from 0"),
    "csat": (lambda value: value in (1, 2, 3, 4, 5), "Give a whole number from 1 (worst) to 5 (best)"),
    "thumbs": (lambda value: value in (1, -1), "Give 1 (up) or -1 (down)"),
}


def _check_value(action: str, value: float | None) -> None:
    if action not in _VALUES:
        if value is not None:
            raise InputError(f"means nothing for {action}", field="value", value=value, remedy="Leave it out")
        return
    fits, remedy = _VALUES[action]
    if value is None:
        if action in _NEEDING_VALUE:
            raise InputError(f"is missing for {action}", field="value", remedy=remedy)
    elif not fits(value):
        raise InputError(f"is no value of {action}", field="value", value=value, remedy=remedy)


def _check_id(name: str, text: str) -> None:
    if not text:
        raise InputError("cannot be empty", field=name)
    _check_text(name, text, MOST_ID)


def _check_text(name: str, text: str, most: int | None = None) -> None:
    if most is not None and len(text) > most:
        raise InputError(f"is longer than {most:,} characters", field=name, value=text)
    if "\0" in text or not (text.isascii() or _is_unicode(text)):
        raise InputError("holds a NUL or half a character", field=name, value=text)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _check_time(time: datetime) -> None:
    if time.utcoffset() is None:
        raise InputError("has no time zone", field="time", value=str(time), remedy="Add +00:00")
    try:
        time.astimezone(UTC)
    except OverflowError as error:
        raise InputError("is outside the years 1 to 9999", field="time", value=str(time)) from error


def _check_rank(name: str, rank: int) -> None:
    if not 1 <= rank <= MOST_RANK:
        raise InputError("is no rank", field=name, value=rank, remedy=f"Ranks are from 1 to {MOST_RANK:,}")
