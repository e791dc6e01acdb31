"""What the documents show works as they show it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shop import index
from tilth.readers.products import read_products
from tilth.retrieval.encoder_build import ModelForBuild
from tilth.sample.shop import write_shop

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: ModelForBuild) -> Path:
    """A folder as the pages assume it: a shop, and its index."""
    folder = tmp_path_factory.mktemp("docs")
    write_shop(folder / "shop", products=300, language="en", seed=0)
    products = read_products([folder / "shop" / "products.jsonl"])
    index(products, folder / "idx", model)
    return folder


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ten_lines(folder: Path) -> None:
    ten, live, build = blocks("python.md")
    assert "'nDCG@10'" in run(ten, folder)
    assert run(live, folder) == "300\n"
    run(build.replace('"idx"', '"idx2"').replace("build_encoder()", "build_encoder(form='static')"), folder)
    assert (folder / "idx2" / "current").is_file()


def test_the_page_of_evaluation(folder: Path) -> None:
    (example,) = blocks("evaluation.md")
    (folder / "runs").mkdir()
    for name in ("queries.tsv", "qrels.tsv"):
        (folder / name).write_bytes((folder / "shop" / name).read_bytes())
    saved = """
import tilth
from tilth.run import write_run
pipeline, queries = tilth.open_index("idx"), tilth.read_queries("queries.tsv")
write_run(pipeline.search(queries, 100), "runs/hybrid.trec")
write_run(pipeline.retrievers()["lexical"].search(queries, 100), "runs/lexical.trec")
"""
    run(saved, folder)
    assert 0 < float(run(example, folder)) < 1


def test_the_page_of_commands_is_made_from_the_commands(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    command = [Path(sys.executable).with_name("typer"), "tilth.cli.main", "utils", "docs"]
    options = ["--name", "tilth", "--title", "Command line", "--output", made]
    subprocess.run([*command, *options], check=True, capture_output=True, env={**os.environ, "COLUMNS": "80"})
    assert made.read_text("utf-8") == (ROOT / "docs" / "cli.md").read_text("utf-8"), "run: make docs"
