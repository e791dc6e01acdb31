"""What the documents show works as they show it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shop import index
from tilth.readers.products import read_products
from tilth.retrieval.encoder_build import ModelForBuild
from tilth.sample.shop import write_shop

ROOT = Path(__file__).parents[1]
PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


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
    ten, released, live, build = blocks("python.md")
    assert "'nDCG@10'" in run(ten, folder)
    none, *hits = run(released, folder).splitlines()
    assert none == "None"
    assert [hit.split()[2] for hit in hits] == ["None"] * 3
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


def test_the_pages_of_features_and_models(folder: Path) -> None:
    if not (folder / "queries.tsv").exists():
        (folder / "queries.tsv").write_bytes((folder / "shop" / "queries.tsv").read_bytes())
    run(blocks("features.md")[0], folder)
    run(blocks("models.md")[0], folder)
    assert (folder / "reranker" / "reranker.json").is_file()


def test_the_page_of_the_own_encoder(folder: Path) -> None:
    (example,) = blocks("own-encoder.md")
    assert int(run(example, folder)) > 0
    assert (folder / "trained" / "training.json").is_file()


def test_the_page_of_judgments(tmp_path: Path) -> None:
    rows = ["query_id\tproduct_id\trater\tgrade", "q1\tp1\tann\t3", "q1\tp1\tbob\t2", "q1\tp2\tann\t0"]
    (tmp_path / "ratings.tsv").write_text("\n".join(rows) + "\n")
    (example,) = blocks("judgments.md")
    assert run(example + "print(qrels.grades)", tmp_path) == "{'q1': {'p1': 2, 'p2': 0}}\n"


def test_the_page_of_an_experiment(tmp_path: Path) -> None:
    (example,) = blocks("experiment.md")
    run(example, tmp_path)
    assert (tmp_path / "experiment.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_the_architecture_names_every_module() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"`(?:[\w/]+/)?(\w+)(?:\.py)?`", page))
    modules = {path.stem for path in (ROOT / "src" / "tilth").rglob("*.py") if path.stem != "__init__"}
    assert modules - named == set()


def test_the_architecture_has_the_layers_as_they_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    (drawn,) = re.findall(r"```\n(cli  >.*?)```", page, re.DOTALL)
    assert [layer.strip() for layer in drawn.split(">")] == layers


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", *PAGES])
def test_links_lead_to_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = {link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link}
    assert {link for link in links if not ((ROOT / page).parent / link).exists()} == set()


def test_the_page_of_commands_is_made_from_the_commands(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    command = [Path(sys.executable).with_name("typer"), "tilth.cli.main", "utils", "docs"]
    options = ["--name", "tilth", "--title", "Command line", "--output", made]
    subprocess.run([*command, *options], check=True, capture_output=True, env={**os.environ, "COLUMNS": "80"})
    assert made.read_text("utf-8") == (ROOT / "docs" / "cli.md").read_text("utf-8"), "run: make docs"
