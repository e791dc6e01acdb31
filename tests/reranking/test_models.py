"""Models: every kind learns, keeps to its seed, scores as its library does, and is opened as it was saved."""

from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import orjson
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tilth.errors import IndexFormatError, SettingError
from tilth.reranking.models import FACTS, KINDS, VALIDATION, Model, open_model, search, train
from tilth.reranking.settings import Settings
from tilth.reranking.training import TrainingData, mean_ndcg

NAMES = ("planted", "noise", "sparse", "constant")
SMALL = Settings(rounds=40, fixed_rounds=20, patience=10, min_data_in_leaf=5)
TREES = [kind for kind, scorer in KINDS.items() if scorer is KINDS["lambdarank"]]
LINEAR = [kind for kind in KINDS if kind not in TREES]


def ranking(seed: int, queries: int = 40) -> TrainingData:
    """Queries of 20 candidates whose grade 0 to 3 rises with the first feature, with some noise."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(20 * queries, 4)).astype(np.float32)
    features[:, 3] = 1
    blurred = features[:, 0] + random.normal(scale=0.3, size=len(features))
    grades = np.digitize(blurred, [0, 0.8, 1.5])
    features[random.random(len(features)) < 0.6, 2] = np.nan
    features[random.random(len(features)) < 0.05, 0] = np.nan
    return TrainingData(features, grades, np.full(queries, 20), NAMES)


DATA, VALIDATING, TESTED = ranking(0), ranking(1, 20), ranking(2)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {kind: train(kind, DATA, VALIDATING, seed=3, settings=SMALL, threads=1) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_feature_is_learnt(kind: str, models: dict[str, Model]) -> None:
    model = models[kind]
    by_chance = mean_ndcg(np.random.default_rng(0).random(len(TESTED.grades)), TESTED)
    assert mean_ndcg(model.predict(TESTED.features), TESTED) > by_chance + 0.3
    assert model.metrics[VALIDATION] == mean_ndcg(model.predict(VALIDATING.features), VALIDATING)
    importance = model.importance()
    assert max(importance, key=importance.__getitem__) == "planted"
    assert importance["constant"] == 0
    ends = np.zeros((2, 4), np.float32)
    ends[:, 0] = [-2, 2.5]
    low, high = model.predict(ends)
    assert low < high


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_gives_the_same_scores(kind: str, models: dict[str, Model], tmp_path: Path) -> None:
    models[kind].save(tmp_path / "new" / "model", {"test nDCG@10": 0.5})
    opened = open_model(tmp_path / "new" / "model", NAMES)
    np.testing.assert_array_equal(opened.predict(TESTED.features), models[kind].predict(TESTED.features))
    assert opened.importance() == models[kind].importance()
    assert opened.metrics == {**models[kind].metrics, "test nDCG@10": 0.5}
    facts = (opened.kind, opened.names, opened.data, opened.settings, opened.seed)
    assert facts == (kind, NAMES, DATA.digest(), SMALL, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bytes(kind: str, models: dict[str, Model], tmp_path: Path) -> None:
    models[kind].save(tmp_path / "one")
    train(kind, ranking(0), ranking(1, 20), seed=3, settings=SMALL, threads=1).save(tmp_path / "two")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted([FACTS, KINDS[kind].FILE])
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("leaves", [2, 15, 31, 64])
def test_trees_score_as_lightgbm_does(kind: str, leaves: int) -> None:
    settings = replace(SMALL, num_leaves=leaves, fixed_rounds=8, min_data_in_leaf=2)
    model = train(kind, DATA, seed=1, settings=settings, threads=1)
    booster = lightgbm.Booster(model_str=model.scorer.content().decode())
    thresholds = booster.dump_model()["tree_info"][0]["tree_structure"]["threshold"]
    features = np.concatenate(
        [TESTED.features, np.full((4, 4), np.nan, np.float32), np.zeros((1, 4), np.float32)]
    )
    features[-2, 0] = thresholds  # on the edge, as near as float32 comes
    theirs = booster.predict(features)
    if kind == "multiclass":
        theirs = theirs @ np.arange(theirs.shape[1])
    np.testing.assert_allclose(model.predict(features), theirs, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        list(model.importance().values()), booster.feature_importance("gain"), rtol=1e-4
    )
    assert model.scorer.trees.rounds == 8


@pytest.mark.parametrize("kind", LINEAR)
def test_linear_models_score_as_scikit_learn_does(kind: str) -> None:
    inputs = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    columns = inputs.fit_transform(DATA.features.astype(np.float64))
    tested = inputs.transform(TESTED.features.astype(np.float64))
    one = LogisticRegression(C=0.5, max_iter=1000)
    if kind == "logistic":
        theirs = one.fit(columns, DATA.grades >= 2).predict_proba(tested)[:, 1]
    elif kind == "logistic-ovr":
        theirs = OneVsRestClassifier(one).fit(columns, DATA.grades).predict_proba(tested) @ [0, 1, 2, 3]
    else:
        pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        fitted = OneVsOneClassifier(one).fit(columns, DATA.grades).estimators_
        chances = [each.predict_proba(tested) for each in fitted]
        theirs = np.mean([chance @ pair for chance, pair in zip(chances, pairs, strict=True)], axis=0)
    model = train(kind, DATA, seed=0, settings=Settings(c=0.5, threshold=2))
    np.testing.assert_allclose(model.predict(TESTED.features), theirs, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_move_the_model(kind: str, models: dict[str, Model]) -> None:
    weighted = replace(DATA, weights=np.where(np.arange(len(DATA.grades)) < 400, 5.0, 0.1))
    model = train(kind, weighted, VALIDATING, seed=3, settings=SMALL, threads=1)
    assert not np.array_equal(model.predict(TESTED.features), models[kind].predict(TESTED.features))


@pytest.mark.parametrize("kind", ["multiclass", "logistic-ovr", "logistic-ovo"])
def test_a_grade_that_nobody_gave_is_no_obstacle(kind: str) -> None:
    data = replace(DATA, grades=np.where(DATA.grades >= 2, 3, 0))
    model = train(kind, data, seed=0, settings=SMALL)
    scores = model.predict(TESTED.features)
    assert (scores >= 0).all()
    assert (scores <= 3).all()
    assert mean_ndcg(scores, TESTED) > 0.7


def test_rounds_stop_where_validation_was_best() -> None:
    stopped = train("lambdarank", DATA, VALIDATING, seed=0, settings=replace(SMALL, rounds=200), threads=1)
    fixed = train("lambdarank", DATA, seed=0, settings=replace(SMALL, fixed_rounds=7), threads=1)
    assert stopped.scorer.trees.rounds < 200
    assert (fixed.scorer.trees.rounds, fixed.metrics) == (7, {})


def test_search_keeps_the_best_of_its_grid() -> None:
    grid = {"num_leaves": (2, 15), "feature_fraction": (0.3, 1.0)}
    found = search("lambdarank", DATA, VALIDATING, grid, seed=4, settings=SMALL, threads=1)
    tried = [(trial.settings.num_leaves, trial.settings.feature_fraction) for trial in found.trials]
    assert tried == [(2, 0.3), (2, 1.0), (15, 0.3), (15, 1.0)]
    best = max(found.trials, key=lambda trial: trial.ndcg)
    assert (found.best.settings, found.best.metrics[VALIDATION]) == (best.settings, best.ndcg)
    assert best.settings.rounds == SMALL.rounds
    again = train("lambdarank", DATA, VALIDATING, seed=4, settings=best.settings, threads=1)
    assert again.scorer.content() == found.best.scorer.content()


def test_search_has_a_grid_for_each_family() -> None:
    found = search("logistic", DATA, VALIDATING)
    assert [trial.settings.c for trial in found.trials] == [0.01, 0.1, 1, 10]


@pytest.mark.parametrize("grid", [{"leaves": (3,)}, {"num_leaves": ()}, {"num_leaves": (1,)}])
def test_a_grid_that_makes_no_sense_is_refused(grid: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(SettingError, match="leaves"):
        search("lambdarank", DATA, VALIDATING, grid)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("forest", DATA, "no kind 'forest'"),
        ("regression", replace(DATA, grades=np.ones_like(DATA.grades)), "no two different grades"),
        ("lambdarank", replace(DATA, grades=np.repeat(np.arange(40) % 2, 20)), "differ in grade"),
        ("binary", replace(DATA, grades=DATA.grades + 1), "all of 800 grades are from 1"),
        ("logistic", replace(DATA, grades=DATA.grades + 1), "all of 800 grades are from 1"),
        ("regression", DATA.only(np.array([0])).only(np.array([0])), "gave no tree"),
    ],
)
def test_data_that_teach_nothing_are_refused(kind: str, data: TrainingData, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        train(kind, data, seed=0, settings=replace(SMALL, min_data_in_leaf=20))


def test_validation_must_have_the_same_features() -> None:
    with pytest.raises(SettingError, match="it lacks 'planted' and it has 'price'"):
        train("lambdarank", DATA, replace(VALIDATING, names=("price", *NAMES[1:])), seed=0)
    with pytest.raises(SettingError, match="no validation queries"):
        train("lambdarank", DATA, VALIDATING.only(np.array([], np.int64)), seed=0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((*NAMES, "price"), "it lacks 'price'"),
        (NAMES[1:], "it has 'planted'"),
        (("noise", "planted", *NAMES[2:]), "their order differs from 'planted' on"),
    ],
)
def test_other_features_are_refused(
    names: tuple[str, ...], message: str, models: dict[str, Model], tmp_path: Path
) -> None:
    models["lambdarank"].save(tmp_path)
    with pytest.raises(IndexFormatError, match=message):
        open_model(tmp_path, names)


@pytest.mark.parametrize("kind", ["lambdarank", "logistic-ovo"])
def test_damage_is_noticed(kind: str, models: dict[str, Model], tmp_path: Path) -> None:
    models[kind].save(tmp_path)
    path = tmp_path / KINDS[kind].FILE
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1", b"2", 1))
    with pytest.raises(IndexFormatError, match=f"{path.name}: the file is damaged"):
        open_model(tmp_path, NAMES)
    path.unlink()
    with pytest.raises(IndexFormatError, match="cannot be read"):
        open_model(tmp_path, NAMES)


def test_facts_that_cannot_be_used_are_refused(models: dict[str, Model], tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="holds no model"):
        open_model(tmp_path, NAMES)
    models["binary"].save(tmp_path)
    facts = orjson.loads((tmp_path / FACTS).read_bytes())
    for change, message in [
        ({"format_version": 2}, "Upgrade Tilth"),
        ({"format": "tilth-index"}, "not of the format tilth-reranker"),
        ({"kind": "forest"}, "damaged"),
        ({"settings": {"num_leaves": 0}}, "damaged"),
        ({"model": {}}, "damaged"),
    ]:
        (tmp_path / FACTS).write_bytes(orjson.dumps(facts | change))
        with pytest.raises(IndexFormatError, match=message):
            open_model(tmp_path, NAMES)
    (tmp_path / FACTS).write_bytes(b'{"format": ')
    with pytest.raises(IndexFormatError, match="holds no model that can be read"):
        open_model(tmp_path, NAMES)


@pytest.mark.parametrize(
    "values",
    [
        {"num_leaves": 65}, {"num_leaves": 1}, {"learning_rate": 0}, {"feature_fraction": 1.5},
        {"bagging_fraction": float("nan")}, {"min_data_in_leaf": 0}, {"lambda_l2": -1}, {"c": 0},
        {"threshold": 0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(values))):
        Settings(**values)
