"""The configuration: what it says, what stands above what, and how faults are named."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tilth.errors import InputError
from tilth.serve.settings import Settings, read_settings

DOCS = Path(__file__).parents[2] / "docs"
DEFAULTS = Settings().model_dump()
NAMES = [(section, key) for section, keys in DEFAULTS.items() for key in keys]
NUMBERS = [(section, key) for section, key in NAMES if type(DEFAULTS[section][key]) in (int, float)]
HIDDEN = {("ask", "url"), ("ask", "key_env"), ("tracing", "endpoint")}


def variable(section: str, key: str) -> str:
    return f"TILTH_{section}__{key}".upper()


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """What writes a configuration and reads it."""

    def read(text: str, environment: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "tilth.toml"
        path.write_text(text, "utf-8")
        return read_settings(path, environment or {})

    return read


def refusal(read: Any, *arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(*arguments)
    return str(caught.value)


# --- documents ------------------------------------------------------------------------------------


def test_the_documented_file_has_every_key_at_its_default() -> None:
    text = (DOCS / "tilth.toml").read_text("utf-8")
    assert tomllib.loads(text) == DEFAULTS
    assert read_settings(DOCS / "tilth.toml", {}) == Settings()
    lines = [line for line in text.splitlines() if " = " in line and not line.startswith("#")]
    assert len(lines) == len(NAMES)
    assert all(re.search(r" # \S", line) for line in lines)


def test_the_page_has_a_table_of_every_section() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    sections = dict(re.findall(r"^## `\[(\w+)\]`\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE))
    assert list(sections) == list(DEFAULTS)
    for section, keys in DEFAULTS.items():
        rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.+) \|$", sections[section], re.MULTILINE)
        assert [key for key, _, _ in rows] == list(keys)
        assert {key: tomllib.loads(f"x = {value}")["x"] for key, value, _ in rows} == keys


def test_the_page_shows_what_is_refused(written: Any) -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    (shown,) = re.findall(r"```\nerror: (.*?)\n```", page, re.DOTALL)
    text = "[server]\nport = 99999\n[search]\ndeadline = 200\n"
    said = refusal(written, text, {"TILTH_LOGGING__LEVLE": "debug"})
    assert re.sub(r"/\S*/tilth\.toml", "tilth.toml", said) == shown


def test_the_examples_of_the_page_can_be_read(written: Any) -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    given = dict(re.findall(r"^(TILTH_\w+)=(\S+)", page, re.MULTILINE))
    read = written(example, given)
    assert (read.server.host, read.search.deadline_ms, read.logging.queries) == ("0.0.0.0", 150, True)
    assert read.server.trusted_proxies == ["10.0.0.0/8", "192.168.1.5"]


# --- what stands above what -----------------------------------------------------------------------


def test_without_anything_every_key_is_at_its_default(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER", "ASK", "TILTH_SERVER", "search"):
        monkeypatch.setenv(name, '{"port": 1}')
    assert read_settings(None) == read_settings(None, {}) == written("") == Settings()


def test_the_environment_stands_above_the_file_key_by_key(written: Any) -> None:
    read = written(
        "[search]\ndeadline_ms = 250\nmax_k = 50\n[web]\nenabled = false\n",
        {"TILTH_SEARCH__DEADLINE_MS": "200.5", "TILTH_MCP__ENABLED": "False"},
    )
    assert (read.search.deadline_ms, read.search.max_k, read.search.max_facets) == (200.5, 50, 20)
    assert (read.web.enabled, read.mcp.enabled, read.feedback.enabled) == (False, False, True)


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTH_SERVER__PORT", "9000")
    assert read_settings(None).server.port == 9000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example", ["a.example"]),
        (" a.example , b.example:* ,", ["a.example", "b.example:*"]),
        ('["a.example", "[::1]:8080"]', ["a.example", "[::1]:8080"]),
        ("", []),
        ("[]", []),
    ],
)
def test_a_list_is_separated_by_commas_or_json(text: str, expected: list[str]) -> None:
    read = read_settings(None, {"TILTH_MCP__ALLOWED_HOSTS": text})
    assert read.mcp.allowed_hosts == expected


def test_texts_are_taken_as_they_are() -> None:
    given = {"TILTH_ASK__MODEL": "[7]", "TILTH_FEEDBACK__APPLICATION": "Лавка", "TILTH_JUDGING__QUERIES": "1"}
    read = read_settings(None, given)
    assert (read.ask.model, read.feedback.application, read.judging.queries) == ("[7]", "Лавка", "1")


def test_variables_that_are_no_settings_may_be_there() -> None:
    given = {"TILTH_DATA": "/srv", "TILTH_STORE": "x", "TILTH_ASK_KEY": "x", "MY__TILTH_X": "y", "PORT": "1"}
    assert read_settings(None, given) == Settings()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_what_the_file_may_say_the_environment_may_say(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    section, key = data.draw(st.sampled_from(NUMBERS))
    value = data.draw(st.integers(-10, 10) | st.integers(0, 1 << 40))
    path = tmp_path_factory.mktemp("settings") / "x.toml"
    path.write_text(f"[{section}]\n{key} = {value}\n")
    try:
        by_file = read_settings(path, {})
    except InputError as error:
        assert (f"'{section}.{key}': must be" in str(error) and f"(got {value})" in str(error)) or (
            "must not be above" in str(error)
        )
        with pytest.raises(InputError):
            read_settings(None, {variable(section, key): str(value)})
    else:
        assert getattr(getattr(by_file, section), key) == value
        assert read_settings(None, {variable(section, key): str(value)}) == by_file


def test_settings_stay_as_they_are() -> None:
    read = Settings()
    with pytest.raises(ValidationError):
        read.server = read.server
    with pytest.raises(ValidationError):
        read.server.port = 1


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("section", "key"), NAMES)
def test_a_value_of_a_wrong_type_is_refused_wherever_it_stands(written: Any, section: str, key: str) -> None:
    default = DEFAULTS[section][key]
    said = refusal(written, f"[{section}]\n{key} = {{a = 1}}\n")
    assert f"tilth.toml, field '{section}.{key}': must be " in said
    assert ("(got {'a': 1})" in said) == ((section, key) not in HIDDEN)
    if not isinstance(default, str | list):
        said = refusal(read_settings, None, {variable(section, key): "many"})
        assert said.startswith(f"environment variable {variable(section, key)}, field '{section}.{key}': ")
        assert "(got 'many'). Correct it, or leave it out for " in said


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[server]\nport = -1", "must be a whole number from 0 to 65535 (got -1)"),
        ("[server]\nport = 65536", "must be a whole number from 0 to 65535 (got 65536)"),
        ('[server]\nport = "8080"', "must be a whole number from 0 to 65535 (got '8080')"),
        ("[server]\nport = 8080.0", "(got 8080.0)"),
        ("[server]\nport = true", "(got True)"),
        ('[server]\nhost = ""', "must be the name or IP address to listen on (got '')"),
        ('[server]\nhost = "a b"', "must be the name or IP address"),
        ('[server]\ntrusted_proxies = ["*"]', "IP addresses and networks, such as 10.0.0.0/8 (got '*')"),
        ('[server]\ntrusted_proxies = ["10.1.0.0/8"]', "(got '10.1.0.0/8')"),
        ("[search]\ndeadline_ms = 0", "must be a number above 0 and up to 3000 (got 0)"),
        ("[search]\ndeadline_ms = nan", "(got nan)"),
        ("[ask]\ntimeout = inf", "(got inf)"),
        ("[limits]\nbody_bytes = 0", "must be a whole number from 1024 to 1073741824 (got 0)"),
        ("[web]\nenabled = 1", "must be true or false (got 1). Correct it, or leave it out for true"),
        ('[logging]\nformat = "xml"', "must be one of json, text (got 'xml')"),
        ('[logging]\nlevel = "INFO"', "must be one of debug, info, warning, error (got 'INFO')"),
        ('[context]\ntokenizer = "words"', "must be one of encoder, characters (got 'words')"),
        ("[judging]\nhighest = 2", "must be one of 1, 3, 5 (got 2). Correct it, or leave it out for 3"),
        ('[judging]\nbetween = "hybrid"', "must be two systems, such as lexical,hybrid (got 'hybrid')"),
        ('[reports]\nfolders = "a"', "must be a list of folders (got 'a')"),
        ('[reports]\nfolders = [""]', "must be a list of folders (got '')"),
        ('[mcp]\nallowed_hosts = ["https://a"]', "must be a list of hosts"),
        ('[mcp]\nallowed_origins = ["a.example"]', "must be a list of origins, such as https://shop.example"),
        ('[feedback]\napplication = "a\\nb"', "must be 1 to 100 characters (got 'a\\nb')"),
        ('[ask]\nurl = "ftp://a"', "must be empty, or an http or https URL without a user name or password"),
        ('[tracing]\nendpoint = "a:4318"', "must be empty, or an http or https URL"),
        ("search = 3", "field 'search': must be a table. Write [search] and its keys below it"),
        ("[[search]]\nmax_k = 3", "field 'search': must be a table"),
        ("[search]\nmax_k = 2000", "field 'search': max_k (2000) must not be above max_results (200)"),
        (
            "[context]\nbudget_tokens = 9\nmax_budget_tokens = 8",
            "field 'context': budget_tokens (9) must not be above max_budget_tokens (8)",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(written: Any, text: str, wanted: str) -> None:
    said = refusal(written, text)
    assert "tilth.toml, field '" in said
    assert wanted in said


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[serch]\nk = 1", "field 'serch': there is no such section. The nearest is search"),
        ("port = 80", "field 'port': there is no such section. port stands in [server]"),
        ("[zzz]", "field 'zzz': there is no such section. There are server, search, limits,"),
        ('_env_file = "x"', "field '_env_file': there is no such section"),
        ("[server]\nPort = 80", "field 'server.Port': there is no such key. The nearest is port"),
        ("[search]\nport = 80", "field 'search.port': there is no such key. port stands in [server]"),
        ("[web]\nqqq = 80", "field 'web.qqq': there is no such key. There are enabled"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest(written: Any, text: str, wanted: str) -> None:
    assert wanted in refusal(written, text)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TILTH_SERCH__DEADLINE", "TILTH_SEARCH__DEADLINE_MS"),
        ("TILTH_SERVER__PORT__X", "TILTH_SERVER__PORT"),
        ("TILTH_Server__port", "TILTH_SERVER__PORT"),
    ],
)
def test_a_variable_that_names_no_setting_is_refused(name: str, nearest: str) -> None:
    said = refusal(read_settings, None, {name: "1"})
    assert said.startswith(f"environment variable {name}: names no setting. The nearest is {nearest};")


def test_a_secret_in_the_wrong_place_is_not_shown(written: Any) -> None:
    said = refusal(
        written,
        '[ask]\nkey = "sk-1"\nkey_env = "sk-2"\nurl = "https://me:sk-3@a.example"\n[tracing]\n'
        'endpoint = "http://me:sk-4@a.example"\n[secrets]\nkey = "sk-5"',
        {"TILTH_ASK__KEY": "sk-6"},
    )
    assert said.startswith("6 settings cannot be used:\n")
    assert "sk-" not in said


def test_all_faults_are_named_each_in_its_place(written: Any) -> None:
    said = refusal(
        written,
        "search = 3\n[server]\nport = 99999\nthreds = 2\n[x]\n",
        {"TILTH_LIMITS__WAITING": "-1", "TILTH_SEARCH__MAX_K": "5", "TILTH_A__B": ""},
    )
    first, *lines = said.splitlines()
    assert first == "6 settings cannot be used:"
    for line, wanted in zip(
        lines,
        (
            "TILTH_A__B",
            "field 'x'",
            "'server.port'",
            "'server.threds'",
            "field 'search'",
            "TILTH_LIMITS__WAITING",
        ),
        strict=True,
    ):
        assert line.startswith("- ")
        assert wanted in line


@pytest.mark.parametrize("text", [b"[server", b"port = 1\nport = 2", b"\xff", b"[a]\nb = 01", b"x = \x00"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(text)
    assert "broken.toml: is not TOML: " in refusal(read_settings, path, {})


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "none.toml: cannot be read: No such file" in refusal(read_settings, tmp_path / "none.toml", {})
    assert "cannot be read: Is a directory" in refusal(read_settings, tmp_path, {})


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes("\ufeff[ask]\nmodel = 'ё'\n".encode())
    assert read_settings(tmp_path / "x.toml", {}).ask.model == "ё"


def test_the_extra_is_named_where_it_is_missing() -> None:
    code = """
import sys
sys.modules["pydantic_settings"] = None
from tilth.errors import MissingExtraError
try:
    import tilth.serve.settings
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "the service needs the extra 'serve'. Install it: pip install 'tilth[serve]'\n"
