"""What the tools take and give, as JSON Schema (draft 2020-12); arguments are held against it.

Names and values of the catalogue stand in descriptions that a model reads, so they are made harmless first.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tilth.context_text import TEMPLATES, inert
from tilth.errors import InputError, MissingExtraError
from tilth.interactions import ACTIONS, MOST_ID, MOST_RANK, MOST_REASON
from tilth.retrieval.facets import MOST_ATTRIBUTES
from tilth.retrieval.filters import ATTRIBUTE, RANGES, operators_of
from tilth.serve.settings import Settings

Schema = dict[str, Any]

DEEPEST = 64  # levels of objects and lists
MOST_PARTS = 10_000  # values, at whatever level
LONGEST = 4_000  # characters of a text, a name included
_MOST_WHOLE = 2**63 - 1

_TEXT: Schema = {"type": "string"}
_OPEN: Schema = {"type": "object"}


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


# --- what they take -------------------------------------------------------------------------------

_CONTEXT: Schema = {
    "type": "object",
    "properties": {"currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217"}},
    "description": "Of the buyer. Only the currency counts: it is that of filters.price.",
}
_NOT_READ = {"description": "Not looked at."}  # what the protocol has and Tilth has no use for
_UNREAD: Schema = {"type": "object", **_NOT_READ}
_AMOUNT: Schema = {"type": "integer", "minimum": 0, "description": "in minor units: 749 for 7.49 EUR"}
_UCP_FILTERS: Schema = {
    **_object(
        {
            "categories": _list(_TEXT, minItems=1),
            "brand": _list(_TEXT, minItems=1),
            "availability": _list(_TEXT, minItems=1),
            "price": _object({"min": _AMOUNT, "max": _AMOUNT}),
        }
    ),
    "description": "Plain filters, all of which must hold; of a list, one. Finer ones: the other `filters`.",
}
_SELECTED: Schema = _list(_object({"name": _TEXT, "label": _TEXT}, "name", "label"))


def _catalog(properties: Mapping[str, Schema], required: str, **beside: Schema) -> Schema:
    """Return arguments as the protocol has them: what is asked of the catalogue, and who asks."""
    unread = dict.fromkeys(("context", "signals", "attribution"), _UNREAD)
    return _object(
        {"catalog": _object({**unread, **properties}, required), **beside, "meta": _UNREAD}, "catalog"
    )


def search_parameters(settings: Settings, filters: Schema) -> Schema:
    """Return the parameters of search_catalog."""
    most = settings.search.max_k
    limit = {
        "type": "integer",
        "minimum": 1,
        "default": 10,
        "description": f"products a page, {most} at most",
    }
    cursor = {**_TEXT, "description": "of the page before; all else must be as there"}
    return _catalog(
        {
            "query": _query(settings),
            "filters": _UCP_FILTERS,
            "context": _CONTEXT,
            "pagination": _object({"cursor": cursor, "limit": limit}),
        },
        "query",
        filters=filters,
    )


def lookup_parameters(most: int) -> Schema:
    """Return the parameters of lookup_catalog; that there may be so many ids is for the tool to check."""
    ids = {**_list(_TEXT, minItems=1), "description": f"of products or variants, {most} at most"}
    return _catalog({"ids": ids}, "ids")


def product_parameters() -> Schema:
    """Return the parameters of get_product."""
    return _catalog(
        {
            "id": {**_TEXT, "description": "of a product or variant"},
            "selected": {**_SELECTED, **_NOT_READ},  # for all variants are returned
            "preferences": {**_list(_TEXT), **_NOT_READ},
        },
        "id",
    )


def context_parameters(settings: Settings, filters: Schema) -> Schema:
    """Return the parameters of get_context."""
    most, usual = settings.context.max_budget_tokens, settings.context.budget_tokens
    budget = {"type": "integer", "minimum": 1, "maximum": most, "default": usual}
    return _object(
        {
            "query": _query(settings),
            "budget_tokens": {**budget, "description": "of the whole text"},
            "filters": filters,
            "template": {"enum": list(TEMPLATES), "type": "string", "default": "markdown"},
        },
        "query",
    )


def outcome_parameters() -> Schema:
    """Return the parameters of report_outcome."""
    named = {"type": "string", "minLength": 1, "maxLength": MOST_ID}
    value = "dwell: seconds; csat: 1 (worst) to 5 (best); thumbs: 1 or -1; purchase: what was paid"
    return _object(
        {
            "impression_id": {**named, "description": "of the result that it is about"},
            "action": {"type": "string", "enum": list(ACTIONS)},
            "product_id": {**named, "description": "Absent: it is about the whole answer."},
            "rank": {"type": "integer", "minimum": 1, "maximum": MOST_RANK},
            "value": {"type": "number", "description": value},
            "reason": {"type": "string", "maxLength": MOST_REASON, "description": "of a rejection"},
            "event_id": {**named, "description": "One id counts once; made of the rest where absent."},
        },
        "impression_id",
        "action",
    )


def _query(settings: Settings) -> Schema:
    most = settings.search.max_query_chars
    return {**_TEXT, "minLength": 1, "maxLength": most, "description": "What the customer wants, as said."}


# --- what they give, but for what the protocol has ------------------------------------------------

_NUMBER: Schema = {"type": "number"}
DECISION: Schema = {
    "type": ["object", "null"],
    "properties": {"answered": {"type": "boolean"}, "probability": _NUMBER, "threshold": _NUMBER},
    "description": "Whether the shop has what was asked for, where a calibrated release is in force.",
}
CONTEXT_OUTPUT: Schema = _object(
    {
        "impression_id": _TEXT,
        "query": _TEXT,
        "language": {"enum": ["en", "ru"]},
        "tokens": {"type": "integer"},
        "nearest": {"type": "boolean"},
        "decision": DECISION,
        "passages": _list(_OPEN),
        "variants": _list(_OPEN),
        "left_out": _list(_TEXT),
    },
    "impression_id",
    "tokens",
    "passages",
)
OUTCOME_OUTPUT: Schema = _object(
    {"recorded": {"type": "boolean", "description": "false: it was known already"}, "event_id": _TEXT},
    "recorded",
    "event_id",
)


# --- the filters of a catalogue -------------------------------------------------------------------

ANY_FILTERS: Schema = {
    "type": "object",
    "description": 'Conditions by field, as of search_catalog: {"attributes.volume": {"gte": 20}}.',
}
_FILTERS_SAY = (
    "Conditions by field, all of which must hold: a value, a list of which one must hold, "
    '{"gte": 5, "lt": 20}, {"prefix": "A > B"} or {"exists": true}; also "and", "or" and "not". Attributes '
    "that are not listed here can be named too: metadata.attributes of the results has them."
)
_NEVER_ASKED = {"product_id", "gtin", "mpn", "item_group_id", "currency"}  # by a customer
_LONGEST_NAME, _LONGEST_VALUE, _FEW, _SUCH = 60, 40, 8, 5


def filters_for_models(fields: Mapping[str, Mapping[str, Any]]) -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of a catalogue's filters, a quarter as long as that of `tilth.retrieval.facets`.

    Args:
        fields: as the service describes them, attributes of the most products first.

    Returns:
        A schema that refers to `#/$defs/...`, and these definitions. It spells out the product's own fields
        and 40 attributes, and allows any other.
    """
    named = {name: facts for name, facts in fields.items() if _is_shown(name, facts)}
    left_out = [name for name in named if name.startswith(ATTRIBUTE)][MOST_ATTRIBUTES:]
    shown = {name: facts for name, facts in named.items() if name not in set(left_out)}
    inner = {"$ref": "#/$defs/filters"}
    properties: dict[str, Schema] = {
        name: {"$ref": f"#/$defs/{_definition(facts)}", "description": _meaning(facts)}
        for name, facts in shown.items()
    } | {"and": _list(inner), "or": _list(inner, minItems=1), "not": inner}
    definitions = {_definition(facts): _condition(facts) for facts in shown.values()}
    definitions["filters"] = {"type": "object", "properties": properties}
    return {**inner, "description": _FILTERS_SAY}, definitions


def _is_shown(name: str, facts: Mapping[str, Any]) -> bool:
    if name in _NEVER_ASKED or facts["type"] == "presence":
        return False
    return len(name) <= _LONGEST_NAME and inert(name) == name  # another could not be named as it is shown


def _definition(facts: Mapping[str, Any]) -> str:
    return "quantity" if "unit" in facts else str(facts["type"])


def _condition(facts: Mapping[str, Any]) -> Schema:
    """Return the schema of the conditions on a kind of field: a value, one of several, or operators."""
    types = {"number": "number", "quantity": ["number", "string"], "boolean": "boolean"}  # 60, or "60 l"
    value = {"type": types.get(_definition(facts), "string")}
    kinds = {"exists": {"type": "boolean"}, "prefix": _TEXT, **dict.fromkeys(RANGES, value)}
    operators = _object({name: kinds[name] for name in operators_of(facts["type"])})
    return {"anyOf": [value, _list(value, minItems=1), {**operators, "minProperties": 1}]}


def _meaning(facts: Mapping[str, Any]) -> str:
    unit = f" in {_brief(facts['unit'])}" if "unit" in facts else ""
    if "min" in facts:
        return f"{facts['type']}{unit}, {_brief(facts['min'])} to {_brief(facts['max'])}"
    values = [_brief(each["value"]) for each in facts.get("values", [])]
    if not values:
        return f"{facts['type']}{unit}"
    every = len(values) <= _FEW and facts["distinct"] == len(values)
    listed = f": {'; '.join(values)}" if every else f", such as {'; '.join(values[:_SUCH])}"
    return f"{facts['type']}{unit}{listed}"


def _brief(value: object) -> str:
    text = inert(str(value).lower() if isinstance(value, bool) else str(value).replace(">", "›"))
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


# --- the strict form ------------------------------------------------------------------------------

_NOT_STRICT = ("minLength", "maxLength", "default")


def without_unread(parameters: Schema) -> Schema:
    """Return parameters without those that are not looked at, of which a model has no use."""
    if "properties" not in parameters:
        return parameters
    read = {
        name: without_unread(each)
        for name, each in parameters["properties"].items()
        if each.get("description") != _NOT_READ["description"]
    }
    return {**parameters, "properties": read}


def strict(parameters: Schema) -> Schema:
    """Return parameters that a model's output can be held to: all are required, optional ones nullable."""
    plain = {name: value for name, value in parameters.items() if name not in _NOT_STRICT}
    if "items" in plain:
        return {**plain, "items": strict(plain["items"])}
    if "properties" not in plain:
        return plain
    needed = plain.get("required", [])
    properties = {
        name: strict(each) if name in needed else _nullable(strict(each))
        for name, each in plain["properties"].items()
    }
    return {**plain, "properties": properties, "required": list(properties), "additionalProperties": False}


def _nullable(schema: Schema) -> Schema:
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **values}


# --- arguments against their schema ---------------------------------------------------------------


def checked(arguments: object, parameters: Schema, longest: int = LONGEST) -> dict[str, Any]:
    """Return arguments without those that are null, which are as good as absent.

    Args:
        arguments: as JSON is parsed, of any origin.
        parameters: what they may be.
        longest: characters of a text, at most.

    Returns:
        What satisfies the schema.

    Raises:
        InputError: they are too many, too deep or too long, hold what is no Unicode or no number, or do not
            satisfy the schema; names the field.
        MissingExtraError: the part that reads schemas is not installed.
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match
    except ImportError as error:
        raise MissingExtraError("calling tools", "serve") from error
    _check_plain(arguments, longest)
    given = _without_nulls(arguments, parameters)
    fault = best_match(Draft202012Validator(parameters).iter_errors(given))
    if fault is not None:
        raise _refusal(fault)
    return given  # type: ignore[no-any-return]  # an object, as the schema says


def _without_nulls(value: Any, schema: Schema) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, Mapping) or "properties" not in schema:
        return value
    known = schema["properties"]
    return {
        name: _without_nulls(each, known.get(name, {})) for name, each in value.items() if each is not None
    }


def _check_plain(arguments: object, longest: int) -> None:
    level, seen = [arguments], 0
    for _ in range(DEEPEST):
        seen += len(level)
        if seen > MOST_PARTS:
            raise InputError(f"the arguments have more than {MOST_PARTS:,} values")
        for value in level:
            _check_scalar(value, longest)
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise InputError(f"the arguments are nested deeper than {DEEPEST} levels")


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value


def _check_scalar(value: object, longest: int) -> None:
    if isinstance(value, str):
        if len(value) > longest:
            raise InputError(f"a text is longer than {longest:,} characters", value=value)
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError("a text holds a NUL or half a character", value=value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError("a number is not finite", value=value)
    elif isinstance(value, int) and not -_MOST_WHOLE <= value <= _MOST_WHOLE:
        raise InputError("a number has more than 63 bits")


_REASONS = {
    "type": "must be of the type {}",
    "enum": "must be one of {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "pattern": "must match {}",
}


def _refusal(fault: Any) -> InputError:  # noqa: ANN401 - jsonschema has no types
    """Return the error of the library in the words of ours: the field, the reason and what to do."""
    path, wanted = [str(part) for part in fault.absolute_path], fault.validator_value
    if fault.validator == "required":
        missing = next(name for name in wanted if name not in fault.instance)
        return InputError("is missing", field=".".join([*path, missing]))
    if fault.validator == "additionalProperties":
        known = list(fault.schema["properties"])
        unknown = next(name for name in fault.instance if name not in known)
        remedy = f"There are {', '.join(known)}"
        return InputError("there is no such field", field=".".join([*path, unknown[:80]]), remedy=remedy)
    shown = ", ".join(wanted) if isinstance(wanted, list) else wanted
    reason = _REASONS[fault.validator].format(shown)
    value = fault.instance if isinstance(fault.instance, str | int | float) else None
    return InputError(reason, field=".".join(path) or "arguments", value=value)
