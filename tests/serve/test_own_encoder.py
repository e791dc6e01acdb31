"""A service over an index with an own encoder: what it says of the third list, and its systems."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fakes import kept_encoder, own_encoder
from live_service import PRODUCTS, WORDS, Live, running
from shop import THREE_LISTS, TWO_LISTS, index
from tilth.errors import SettingError
from tilth.promotions import promote
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion
from tilth.serve.http import models
from tilth.serve.settings import Settings
from tilth.serve.starting import open_service
from tilth.serve.systems import first_hits, two_systems


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    into = tmp_path_factory.mktemp("own") / "index"
    index(PRODUCTS, into, kept_encoder(WORDS), own=own_encoder(WORDS))
    with running(into) as shop:
        yield shop


def test_a_hit_says_where_the_own_encoder_put_it(live: Live) -> None:
    body = {"query": "garden hose", "explain": True, "k": 5}
    content = live.client("search").post("/v1/search", json=body).json()
    answer = models.SearchAnswer.model_validate(content)
    assert answer.hits
    for hit in content["hits"]:
        places = hit["explanation"]["places"]
        assert list(places) == ["lexical", "dense", "own"]
        assert places["own"]["rank"] >= 1
        assert -1 <= places["own"]["score"] <= 1
    assert {"lexical", "dense", "own"} <= content["milliseconds"].keys()


def test_without_time_the_own_encoder_is_named_too(live: Live) -> None:
    content = live.client("search").post("/v1/search", json={"query": "hose", "deadline_ms": 0}).json()
    assert {"dense", "own"} <= content["skipped"].keys()
    assert content["hits"]


def test_the_systems_are_those_of_the_index(live: Live) -> None:
    pipeline = live.service.pipeline
    assert two_systems(pipeline, "own, hybrid", "x") == ("own", "hybrid")
    with pytest.raises(SettingError, match="no system 'best'; there are tfidf, lexical, dense, own, hybrid"):
        two_systems(pipeline, "own,best", "x")
    asked = [Query("q", "garden hose")]
    assert first_hits(pipeline, "own", asked).hits == pipeline.retrievers()["own"].search(asked, 10).hits
    assert first_hits(pipeline, "hybrid", asked).hits == pipeline.search(asked, 10).hits


def test_the_plain_fusion_beside_a_release_follows_the_lists_of_the_index(tmp_path: Path) -> None:
    into = tmp_path / "index"
    index(PRODUCTS, into, kept_encoder(WORDS))
    propose(into, fusion=Fusion(weights=(1.0, 0.0)), evidence={})
    promote(into, "r1", {"passed": True, "refusals": [], "in_force": "hybrid"})
    with closing(open_service(into, Settings())) as service:
        assert service._ranked("hybrid").ranking == Ranking(TWO_LISTS)
        index(PRODUCTS[1:], into, kept_encoder(WORDS), own=own_encoder(WORDS))
        service.pipeline.refresh()
        assert service._ranked("hybrid").ranking == Ranking(THREE_LISTS)
        assert service._ranked(None).ranking.release == "r1"
