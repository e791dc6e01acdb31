"""What the service is told: a TOML file, and variables of the environment over it.

Secrets are no settings: `ask.key_env` names the variable that holds one. See docs/configuration.md.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import orjson
from rapidfuzz import process
from rapidfuzz.distance import OSA

from tilth.errors import InputError, MissingExtraError
from tilth.files import open_binary

try:
    from pydantic import (
        AfterValidator,
        BaseModel,
        ConfigDict,
        Field,
        StringConstraints,
        ValidationError,
        model_validator,
    )
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
except ImportError as error:
    raise MissingExtraError("the service", "serve") from error

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PREFIX = "TILTH_"  # of the variables, as in TILTH_SEARCH__DEADLINE_MS

# --- what a value may be: each description completes "must be ..." ---------------------------------

_MILLION = 1_000_000
_GIB = 1 << 30


def _whole(default: int, least: int, most: int) -> Any:  # noqa: ANN401 - so that any type takes it
    return Field(default, ge=least, le=most, description=f"a whole number from {least} to {most}")


def _number(default: float, most: int) -> Any:  # noqa: ANN401
    return Field(default, gt=0, le=most, description=f"a number above 0 and up to {most}")


def _text(default: str, description: str, pattern: str = "^[^\x00-\x1f\x7f]*$") -> Any:  # noqa: ANN401
    return Field(default, pattern=pattern, description=description)


def _one_of(default: object, description: str) -> Any:  # noqa: ANN401
    return Field(default, description=f"one of {description}")


def _switch() -> Any:  # noqa: ANN401
    return Field(default=True, description="true or false")


def _many(description: str) -> Any:  # noqa: ANN401
    return Field(default=[], max_length=1_000, description=f"a list of {description}")


def _network(text: str) -> str:
    ip_network(text)
    return text


_Network = Annotated[str, AfterValidator(_network)]
_Folder = Annotated[str, StringConstraints(min_length=1)]
_Host = Annotated[str, StringConstraints(pattern=r"^[\w.\-\[\]:]+(:\*)?$")]
_Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+$")]

_URL = r"^(https?://[^\s@]+)?$"
_URL_WANTED = "empty, or an http or https URL without a user name or password"


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, str_max_length=2_000
    )


# --- the sections ----------------------------------------------------------------------------------


class ServerSettings(_Section):
    """Where the service listens, and how it ends."""

    host: str = _text("127.0.0.1", "the name or IP address to listen on", r"^[\w.:\-]+$")
    port: int = _whole(8080, 0, 65_535)  # 0: any that is free
    shutdown_seconds: int = _whole(10, 0, 3_600)
    threads: int = _whole(0, 0, 1_024)  # 0: as many as cores
    trusted_proxies: list[_Network] = _many("IP addresses and networks, such as 10.0.0.0/8")


class SearchSettings(_Section):
    """How long a search may take, and how much it may be asked."""

    deadline_ms: float = _number(300.0, 3_000)
    max_k: int = _whole(100, 1, 10_000)
    max_results: int = _whole(200, 1, 100_000)  # the last rank of the deepest page
    max_query_chars: int = _whole(500, 1, 100_000)
    max_facets: int = _whole(20, 0, 1_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_k > self.max_results:
            raise ValueError(f"max_k ({self.max_k}) must not be above max_results ({self.max_results})")
        return self


class Limits(_Section):
    """How large a request may be, and how many there may be."""

    body_bytes: int = _whole(8 << 20, 1_024, _GIB)
    unpacked_bytes: int = _whole(64 << 20, 1_024, 4 * _GIB)
    batch: int = _whole(1_000, 1, 100_000)
    filter_depth: int = _whole(8, 1, 64)
    filter_conditions: int = _whole(64, 1, 10_000)
    running: int = _whole(0, 0, 1_024)  # 0: as many as threads
    waiting: int = _whole(16, 0, 10_000)
    requests_per_minute: int = _whole(6_000, 1, 10 * _MILLION)
    burst: int = _whole(200, 1, _MILLION)


class ContextSettings(_Section):
    """What a language model is given to answer from."""

    budget_tokens: int = _whole(1_500, 1, _MILLION)
    max_budget_tokens: int = _whole(16_000, 1, _MILLION)
    k: int = _whole(20, 1, 1_000)
    tokenizer: Literal["encoder", "characters"] = _one_of("encoder", "encoder, characters")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.budget_tokens > self.max_budget_tokens:
            given = f"budget_tokens ({self.budget_tokens})"
            raise ValueError(f"{given} must not be above max_budget_tokens ({self.max_budget_tokens})")
        return self


class FeedbackSettings(_Section):
    """What is kept of what was served and done."""

    enabled: bool = _switch()
    spool_bytes: int = _whole(64 << 20, 64 << 10, 1 << 40)
    application: str = _text("tilth", "1 to 100 characters", "^[^\x00-\x1f\x7f]{1,100}$")


class AskSettings(_Section):
    """Which model writes answers; without a URL, none does."""

    url: str = _text("", _URL_WANTED, _URL)
    model: str = _text("", "the name of a model")
    key_env: str = _text("TILTH_ASK_KEY", "the name of a variable", "^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    timeout: float = _number(60.0, 3_600)  # seconds
    budget_tokens: int = _whole(3_000, 1, _MILLION)
    max_answer_tokens: int = _whole(800, 1, _MILLION)


class JudgingSettings(_Section):
    """Which pairs are shown to people who judge."""

    queries: str = _text("", "empty, or the path of a TSV file")
    between: str = _text("lexical,hybrid", "two systems, such as lexical,hybrid", "^[^,\\s]+,[^,\\s]+$")
    highest: Literal[1, 3, 5] = _one_of(3, "1, 3, 5")


class ReportsSettings(_Section):
    """Which pages about experiments are shown."""

    folders: list[_Folder] = _many("folders")


class WebSettings(_Section):
    """The page for people."""

    enabled: bool = _switch()


class McpSettings(_Section):
    """The door for language models."""

    enabled: bool = _switch()
    allowed_hosts: list[_Host] = _many("hosts, such as shop.example or shop.example:*")
    allowed_origins: list[_Origin] = _many("origins, such as https://shop.example")


class LoggingSettings(_Section):
    """What is logged, and how."""

    format: Literal["json", "text"] = _one_of("json", "json, text")
    level: Literal["debug", "info", "warning", "error"] = _one_of("info", "debug, info, warning, error")
    queries: bool = Field(default=False, description="true or false")


class TracingSettings(_Section):
    """Where traces are sent."""

    endpoint: str = _text("", _URL_WANTED, _URL)


class Settings(BaseSettings):
    """All of it; made without arguments, every key is at its default and nothing else is read."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    server: ServerSettings = ServerSettings()
    search: SearchSettings = SearchSettings()
    limits: Limits = Limits()
    context: ContextSettings = ContextSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    ask: AskSettings = AskSettings()
    judging: JudgingSettings = JudgingSettings()
    reports: ReportsSettings = ReportsSettings()
    web: WebSettings = WebSettings()
    mcp: McpSettings = McpSettings()
    logging: LoggingSettings = LoggingSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - handed over by the base class
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing behind the back of `read_settings`, whose errors name place and remedy."""
        return (init_settings,)


# --- reading ---------------------------------------------------------------------------------------

_Values = dict[str, dict[str, object]]  # by section and key


def _variable(section: str, key: str) -> str:
    return f"{PREFIX}{section}__{key}".upper()


_DEFAULTS: _Values = {section: dict(values) for section, values in Settings()}
_DESCRIPTIONS = {
    section: {key: field.description for key, field in type(values).model_fields.items()}
    for section, values in Settings()
}
_VARIABLES = {_variable(section, key): (section, key) for section in _DEFAULTS for key in _DEFAULTS[section]}
_HIDDEN = {"ask.url", "ask.key_env", "tracing.endpoint"}  # where somebody may have written a secret


def read_settings(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration of the service.

    Args:
        path: a TOML file; None: without one.
        environment: its variables `TILTH_SECTION__KEY` override the file; a list is written as JSON or
            separated by commas. Variables without a double underscore are none of ours.

    Returns:
        The settings; what is given nowhere is at its default.

    Raises:
        InputError: the file cannot be read; or sections, keys or variables are unknown, or values of a wrong
            type or out of range, of which all are named.
        MissingExtraError: the module itself raises it where the extra is not installed.
    """
    given, faults = _from_environment(environment)
    written = {} if path is None else _from_file(path)
    faults.extend(_unknown_section(name, path) for name in written if name not in _DEFAULTS)
    try:
        settings = Settings(**_merged(given, written))
    except ValidationError as error:
        faults.extend(_fault(each, path, given) for each in error.errors(include_url=False))
    if faults:
        raise _together(faults)
    return settings


def _merged(given: _Values, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given, over what was written; a section that is no table stays, to be refused."""
    values = {section: written[section] for section in _DEFAULTS if section in written}
    for section in given:
        below = values.get(section, {})
        values[section] = {**below, **given[section]} if isinstance(below, dict) else below
    return values


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with open_binary(path) as file:
            return tomllib.loads(file.read().decode("utf-8-sig"))
    except ValueError as error:  # of the text, its encoding, or a number in it
        raise InputError(f"is not TOML: {error}", path=path, remedy="See docs/tilth.toml") from error


def _from_environment(environment: Mapping[str, str]) -> tuple[_Values, list[InputError]]:
    values: _Values = {}
    unknown: list[InputError] = []
    for name in sorted(environment):
        if name in _VARIABLES:
            section, key = _VARIABLES[name]
            values.setdefault(section, {})[key] = _parsed(environment[name], _DEFAULTS[section][key])
        elif name.startswith(PREFIX) and "__" in name:
            unknown.append(_unknown_variable(name))
    return values, unknown


def _parsed(text: str, default: object) -> object:
    """Return what a text says where the default stands; the text itself if it says nothing of the kind."""
    if isinstance(default, str):
        return text
    if isinstance(default, list) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return orjson.loads(text if isinstance(default, list) else text.lower())
    except orjson.JSONDecodeError:
        return text


# --- faults ----------------------------------------------------------------------------------------


def _fault(error: "ErrorDetails", path: Path | None, given: _Values) -> InputError:
    section, *rest = map(str, error["loc"])
    if error["type"] == "extra_forbidden":
        return _unknown_key(section, rest[0], path)
    if not rest and error["type"] == "value_error":  # of values that are fine one by one
        return InputError(str(error["ctx"]["error"]), path=path, field=section, remedy="Change one of them")
    if not rest:
        remedy = f"Write [{section}] and its keys below it"
        return InputError("must be a table", path=path, field=section, remedy=remedy)
    key, name = rest[0], f"{section}.{rest[0]}"
    return InputError(
        f"must be {_DESCRIPTIONS[section][key]}",
        path=_of(_variable(section, key)) if key in given.get(section, {}) else path,
        field=name,
        value=None if name in _HIDDEN else error["input"],
        remedy=f"Correct it, or leave it out for {_toml(_DEFAULTS[section][key])}",
    )


def _toml(value: object) -> str:
    return orjson.dumps(value).decode()  # of a default, JSON and TOML are one


# Of what nobody knows, the value is not shown: it may be a secret that does not belong here.


def _unknown_section(name: str, path: Path | None) -> InputError:
    homes = [section for section in _DEFAULTS if name in _DEFAULTS[section]]
    remedy = f"{name} stands in [{homes[0]}]" if homes else _nearest(name, _DEFAULTS)
    return InputError("there is no such section", path=path, field=name, remedy=remedy)


def _unknown_key(section: str, key: str, path: Path | None) -> InputError:
    homes = [other for other in _DEFAULTS if key in _DEFAULTS[other]]
    remedy = f"{key} stands in [{', '.join(homes)}]" if homes else _nearest(key, _DEFAULTS[section])
    return InputError("there is no such key", path=path, field=f"{section}.{key}", remedy=remedy)


def _unknown_variable(name: str) -> InputError:
    remedy = f"{_nearest(name, _VARIABLES)}; a variable of {PREFIX} that is no setting has no __ in its name"
    return InputError("names no setting", path=_of(name), remedy=remedy)


def _of(variable: str) -> str:
    return f"environment variable {variable}"


def _nearest(name: str, names: Iterable[str]) -> str:
    there = list(names)
    found = process.extractOne(
        name, there, scorer=OSA.normalized_similarity, processor=str.casefold, score_cutoff=0.5
    )
    return f"The nearest is {found[0]}" if found else f"There are {', '.join(there)}"


def _together(faults: list[InputError]) -> InputError:
    if len(faults) == 1:
        return faults[0]
    return InputError(f"{len(faults)} settings cannot be used:\n" + "\n".join(f"- {each}" for each in faults))
