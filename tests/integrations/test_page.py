"""What docs/integrations.md shows works as it shows it."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def shown(example: str, url: str, capsys: pytest.CaptureFixture[str]) -> str:
    exec(example.replace("http://localhost:8080", url).replace("hose reel", "steel bucket"), {})
    return capsys.readouterr().out


def test_the_examples_run(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    langchain, chain, llama_index, client = EXAMPLES
    assert "[1] 9.00 EUR in_stock" in shown(langchain, url, capsys)
    prompt = shown(chain, url, capsys)
    assert prompt.startswith("Answer from these products alone")
    assert "[1] 9.00 EUR Steel bucket" in prompt
    assert prompt.endswith("steel bucket\n")
    assert shown(llama_index, url, capsys).startswith("1.0 [1] Steel bucket")
    said = shown(client, url, capsys)
    assert "[1]\n> id: b1\n> price: 9.00 EUR" in said
    assert "\n[(1, 'Steel bucket')" in said
    assert "\n422 http://127.0.0.1" in said
    assert "colour_of_the_sky" in said
