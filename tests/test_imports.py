"""What a process loads: searching needs neither torch nor transformers, importing needs next to nothing."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shop import index
from tilth.retrieval.encoder_build import for_build
from trainings import SHORT, shop_products, trained

HEAVY = {"torch", "transformers", "sentence_transformers", "onnx", "model2vec", "sklearn"}


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after running some code."""
    report = "import sys; print('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    modules = loaded("import tilth")
    assert not modules & {*HEAVY, "numpy", "pyarrow", "faiss", "tantivy", "onnxruntime"}


def test_searching_loads_no_torch(shop_index: Path) -> None:
    code = f"""
import tilth
hits = tilth.open_index({str(shop_index)!r}).search(["cow manure 20 kg"], 3)["1"]
assert hits[0].product_id == "m1", hits
"""
    assert loaded(code) & HEAVY == set()


@pytest.fixture(scope="module")
def own_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose only encoder is the shop's own."""
    folder, products = tmp_path_factory.mktemp("own"), shop_products(100, "both")
    encoder = trained(products, folder / "work", replace(SHORT, vocabulary=2_000))
    index(products, folder / "idx", for_build(encoder))
    return folder / "idx"


def test_searching_with_an_own_encoder_loads_no_runtime(own_index: Path) -> None:
    product = shop_products(100, "both")[0]
    code = f"""
import tilth
pipeline = tilth.open_index({str(own_index)!r})
answer = pipeline.answer({product.title!r}, 3)
assert answer.hits[0].product.id == {product.id!r}, answer
assert "dense" in answer.milliseconds, answer.milliseconds
"""
    assert loaded(code) & {*HEAVY, "onnxruntime"} == set()


def test_building_with_the_folder_of_an_own_encoder_loads_no_torch(own_index: Path, tmp_path: Path) -> None:
    encoder = own_index / "generations" / "1" / "dense" / "encoder"
    code = f"""
import sys
sys.argv = ["tilth", "index", "--into", {str(own_index)!r}, "--encoder", {str(encoder)!r}, "--workers", "1"]
from tilth.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    assert loaded(code) & HEAVY == set()


def test_the_command_that_searches_loads_no_torch(shop_index: Path) -> None:
    code = f"""
import sys
sys.argv = ["tilth", "search", {str(shop_index)!r}, "cow manure", "--json"]
from tilth.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
"""
    assert loaded(code) & HEAVY == set()


def test_the_root_exports_its_names() -> None:
    import tilth

    assert {"Product", "open_index", "read_qrels", "read_queries", "Run"} <= set(tilth.__all__)
    assert all(getattr(tilth, name) is not None for name in tilth.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import tilth

    with pytest.raises(AttributeError, match="no attribute 'open_shop'"):
        _ = tilth.open_shop


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_onnxruntime_is_told_to_report_nothing_before_it_is_loaded(given: str | None, expected: str) -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ["ORT_DISABLE_TELEMETRY"])
sys.meta_path.insert(0, Watch())
import tilth.pipeline, tilth.reranking.cross_encoder
import onnxruntime
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout.split(), done.returncode) == ([expected], 0), done.stderr
