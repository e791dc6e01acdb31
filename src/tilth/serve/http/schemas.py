"""JSON Schemas of what is read by other parts than models: products, events and judgments."""

from typing import Any

from tilth.interactions import ACTIONS, MOST_ID, MOST_RANK, MOST_REASON
from tilth.judgments import SCALES
from tilth.serve.judgment_json import MOST_ID as MOST_JUDGED_ID
from tilth.serve.judgment_json import MOST_NAME, MOST_TEXT

LINES = "application/x-ndjson"
_ID = {"type": "string", "minLength": 1, "maxLength": MOST_ID}
_NAME = {"type": ["string", "null"], "maxLength": MOST_ID}

_PRODUCT = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "title": {"type": "string"}},
    "required": ["id", "title"],
    "description": "A record with the field names of the merchant product feed; others become attributes.",
}
PRODUCTS: dict[str, Any] = {  # of an operation
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "minItems": 1, "items": _PRODUCT},
                "example": [{"id": "4711", "title": "Cow manure, 20 kg", "price": "9.49 EUR"}],
            },
            LINES: {"schema": {"type": "string"}},
        },
    }
}
EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "action_name": {"enum": ["add_to_cart" if action == "cart" else action for action in ACTIONS]},
        "query_id": {**_ID, "description": "The impression_id of the answer."},
        "timestamp": {"type": "string", "format": "date-time", "description": "With its zone."},
        "event_id": {**_NAME, "description": "The same id again is the same event."},
        "client_id": _NAME,
        "session_id": _NAME,
        "event_attributes": {
            "type": ["object", "null"],
            "properties": {
                "object": {"type": ["object", "null"], "properties": {"object_id": _NAME}},
                "position": {
                    "type": ["object", "null"],
                    "properties": {
                        "ordinal": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_RANK}
                    },
                },
                "value": {"type": ["number", "null"], "description": "Of dwell, purchase, csat and thumbs."},
                "reason": {"type": ["string", "null"], "maxLength": MOST_REASON},
            },
        },
    },
    "required": ["action_name", "query_id", "timestamp"],
}
JUDGMENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "judge": {"type": "string", "minLength": 1, "maxLength": MOST_NAME},
        "query_id": {"type": "string", "minLength": 1, "maxLength": MOST_JUDGED_ID},
        "product_id": {"type": "string", "minLength": 1, "maxLength": MOST_JUDGED_ID},
        "grade": {"type": "integer", "minimum": 0, "maximum": max(SCALES)},
        "highest": {"enum": [*SCALES, None], "description": "The top of the scale."},
        "query": {"type": ["string", "null"], "maxLength": MOST_TEXT},
        "reason": {"type": ["string", "null"], "maxLength": MOST_TEXT},
        "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    },
    "required": ["judge", "query_id", "product_id", "grade"],
    "additionalProperties": False,
}
