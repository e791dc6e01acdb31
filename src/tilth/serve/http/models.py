"""What requests and answers hold: requests are checked by it, answers by the tests."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, WithJsonSchema, model_validator

from tilth.serve.http.schemas import EVENT, JUDGMENT
from tilth.serve.requests import LONGEST_NAME

Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Filters = Annotated[
    dict[str, Any] | None,
    Field(
        description="Conditions; see GET /v1/fields and docs/filters.md.", examples=[{"price": {"lt": 30}}]
    ),
]
_MOST_FIELDS = 50  # more than any body has
Milliseconds = Annotated[dict[str, float], Field(description="By stage.")]


class Body(BaseModel):
    """What is sent: unknown fields and values of other types are refused.

    Lists fail at their first fault, and an object with very many fields as a whole: to name each fault of a
    large body would take seconds and gigabytes.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, values: Any) -> Any:  # noqa: ANN401 - whatever was sent
        if isinstance(values, dict) and len(values) > _MOST_FIELDS:
            raise ValueError(f"has {len(values):,} fields")
        return values


class Sent(BaseModel):
    """What is answered."""

    model_config = ConfigDict(extra="allow")


# --- searching ------------------------------------------------------------------------------------


class SearchBody(Body):
    """A search."""

    query: Annotated[str, Field(description="What the customer typed.", examples=["cow manure 20 kg"])]
    k: Annotated[int, Field(ge=0, description="Hits a page.")] = 10
    filters: Filters = None
    facets: Annotated[
        list[str], FailFast(), Field(description="Fields whose values are counted.", examples=[["brand"]])
    ] = []
    cursor: Annotated[str | None, Field(description="Of the page before.")] = None
    collapse: Annotated[bool, Field(description="Of the variants of one group, show the best.")] = False
    explain: Annotated[bool, Field(description="Say why each hit is there.")] = False
    arm: Annotated[Name, Field(description="Side of an experiment, for the log.")] = ""
    release: Annotated[Name | None, Field(description="A release, or hybrid; null: the one in force.")] = None
    deadline_ms: Annotated[float | None, Field(ge=0, le=3000, description="How long it may take.")] = None
    client_id: Annotated[Name, Field(description="Who asks, for the log.")] = ""
    log: Annotated[bool, Field(description="Keep what was shown as an impression.")] = True


class Place(Sent):
    """Where a retriever put a product."""

    rank: int
    score: float


class Explanation(Sent):
    """Why a hit is there."""

    places: dict[str, Place]
    matched: Annotated[dict[str, list[str]], Field(description="Terms, and the fields that have them.")]
    identified: Annotated[bool, Field(description="Whether the query is its identifier.")]


class Hit(Sent):
    """A product with its score, and the fields of its record that are not empty."""

    rank: int
    product_id: str
    score: float
    probability: float | None
    title: str
    explanation: Explanation | None = None


class Decision(Sent):
    """Whether the shop has what was asked for, by the calibration of the release in force."""

    answered: bool
    probability: float
    threshold: float


class Totals(Sent):
    """How many products the filters allow, and how many of them were found."""

    allowed: int
    retrieved: int


class Facet(Sent):
    """Counts of a field's values among the products of the totals, the 1,000 most frequent at most."""

    allowed: dict[str, Any]
    retrieved: dict[str, Any]


class SearchAnswer(Sent):
    """One page of hits."""

    impression_id: Annotated[str, Field(description="What feedback is about: UBI's query_id.")]
    query: str
    read_as: str
    release: str | None
    arm: str
    decision: Decision | None
    skipped: Annotated[dict[str, str], Field(description="Stages that were left out, and why.")]
    totals: Totals
    facets: dict[str, Facet]
    hits: list[Hit]
    cursor: str | None
    milliseconds: Milliseconds


class ContextBody(Body):
    """A context for a language model; null is as the settings say."""

    query: Annotated[str, Field(examples=["what to feed tomatoes with"])]
    budget_tokens: Annotated[int | None, Field(ge=1, description="Of the whole text.")] = None
    k: Annotated[int | None, Field(ge=1, description="Hits that are looked at.")] = None
    filters: Filters = None
    template: Literal["markdown", "json", "xml"] = "markdown"
    passages_per_product: Annotated[int, Field(ge=1, le=10)] = 2
    arm: Name = ""
    release: Name | None = None
    deadline_ms: Annotated[float | None, Field(ge=0, le=3000)] = None
    client_id: Name = ""


class ContextAnswer(Sent):
    """The text for a language model, and its parts."""

    impression_id: str
    query: str
    text: str
    tokens: int
    language: Literal["en", "ru"]
    nearest: Annotated[bool, Field(description="Nothing fits: the products are merely the nearest.")]
    decision: Decision | None
    passages: list[dict[str, Any]]
    variants: list[dict[str, Any]]
    left_out: list[str]
    skipped: dict[str, str]
    milliseconds: Milliseconds


class FacetsBody(Body):
    """Fields whose values are to be counted."""

    fields: Annotated[list[str], FailFast(), Field(examples=[["brand", "price"]])]
    filters: Filters = None


class FacetsAnswer(Sent):
    """Counts by value, or the range of numbers."""

    facets: dict[str, dict[str, Any]]


class FieldsAnswer(Sent):
    """What can be filtered by."""

    fields: dict[str, dict[str, Any]]
    filter_schema: dict[str, Any]


class ProductAnswer(Sent):
    """A product's record, with the names of the merchant feed; empty fields are absent."""

    id: str
    title: str


class ToolsAnswer(Sent):
    """The tools of a language model, for OpenAI's function calling."""

    openai: list[dict[str, Any]]


class Turn(Body):
    """What was said before."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(max_length=20_000)]


class AskBody(Body):
    """A question to the language model that the settings name."""

    query: Annotated[str, Field(examples=["Which hose reel takes 30 m?"])]
    filters: Filters = None
    budget_tokens: Annotated[int | None, Field(ge=1)] = None
    history: Annotated[list[Turn], FailFast(), Field(max_length=20)] = []
    client_id: Name = ""


# --- writing --------------------------------------------------------------------------------------


class DeleteBody(Body):
    """Ids of products."""

    ids: Annotated[list[str], FailFast(), Field(min_length=1)]


class WrittenAnswer(Sent):
    """What a write did; it is durable."""

    changed: int
    unchanged: int
    deleted: int
    sequence: Annotated[int, Field(description="Number of the last change of the store.")]


class FeedbackBody(Body):
    """Events with the field names of OpenSearch's User Behavior Insights; see docs/feedback.md."""

    events: Annotated[
        list[Annotated[dict[str, Any], WithJsonSchema(EVENT)]],
        FailFast(),
        Field(
            min_length=1,
            examples=[
                [
                    {
                        "action_name": "click",
                        "query_id": "0f3a…",
                        "timestamp": "2026-01-31T12:00:00Z",
                        "event_attributes": {
                            "object": {"object_id": "en0001141", "object_id_field": "product_id"},
                            "position": {"ordinal": 1},
                        },
                    }
                ]
            ],
        ),
    ]


class FeedbackAnswer(Sent):
    """How many events were recorded, and how many were known already; all are durable."""

    recorded: int
    known: int


# --- people ---------------------------------------------------------------------------------------


class JudgmentsBody(Body):
    """Grades by a person."""

    judgments: Annotated[
        list[Annotated[dict[str, Any], WithJsonSchema(JUDGMENT)]],
        FailFast(),
        Field(min_length=1, max_length=1000),
    ]


class AddedAnswer(Sent):
    """How many judgments are new."""

    added: int


class SkipBody(Body):
    """A pair that a judge does not want to grade."""

    judge: Annotated[str, Field(min_length=1, max_length=100)]
    query_id: Annotated[str, Field(min_length=1, max_length=500)]
    product_id: Annotated[str, Field(min_length=1, max_length=500)]


class UndoBody(Body):
    """Whose last grade is taken back."""

    judge: Annotated[str, Field(min_length=1, max_length=100)]


class PairAnswer(Sent):
    """A pair to judge, or null where none is left."""

    pair: dict[str, Any] | None


class PromoteBody(Body):
    """Why a release is put in force, and whether against the gate."""

    why: Annotated[str, Field(max_length=2000)] = ""
    force: bool = False


class RollbackBody(Body):
    """Why the release before is returned to."""

    why: Annotated[str, Field(max_length=2000)] = ""


class ReleasesAnswer(Sent):
    """The releases, the one in force, and what happened."""

    in_force: str | None
    releases: list[dict[str, Any]]
    history: list[dict[str, Any]]


class DecisionAnswer(Sent):
    """What the gate said, and what is in force now."""

    in_force: str | None


class Report(Sent):
    """A page about a training or an experiment."""

    name: str
    kind: Literal["release", "experiment"]
    created: str
    title: str


class ReportsAnswer(Sent):
    """The pages that there are."""

    reports: list[Report]


class StatsAnswer(Sent):
    """Figures of what was served and what was done with it."""

    by: list[str]
    groups: list[dict[str, Any]]


class LiveAnswer(Sent):
    """The process answers."""

    live: bool


class ReadyAnswer(Sent):
    """Whether searches can be answered."""

    ready: bool
    products: int
    generation: int
    release: str | None
    sequence: int
    behind: int | None
    fault: str | None


class Problem(Sent):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, str]] = []
