"""What is minimised, against numpy: log-softmax by hand, gradients by finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilth.encoder_training.bags import Bags
from tilth.encoder_training.objective import contrastive, sums, taught

RANDOM = np.random.default_rng(0)
DIMENSIONS = [(6,), (6, 4), (6, 4, 2)]


def cosines(queries: np.ndarray, passages: np.ndarray, dimension: int) -> np.ndarray:
    out = np.zeros((len(queries), len(passages)))
    for i, query in enumerate(queries[:, :dimension]):
        for j, passage in enumerate(passages[:, :dimension]):
            lengths = np.linalg.norm(query) * np.linalg.norm(passage)
            out[i, j] = query @ passage / lengths if lengths else 0.0
    return out


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def by_hand(queries, passages, weights, temperature, dimensions) -> float:
    of_pairs = np.zeros(len(queries))
    for dimension in dimensions:
        logs = log_softmax(cosines(queries, passages, dimension) / temperature)
        of_pairs += [-logs[pair, pair] for pair in range(len(queries))]
    return float((of_pairs / len(dimensions) * weights).sum() / weights.sum())


def taught_by_hand(queries, passages, similarities, temperature, teacher_temperature, dimensions) -> float:
    wanted = np.exp(log_softmax(similarities / teacher_temperature))
    total = 0.0
    for dimension in dimensions:
        logs = log_softmax(cosines(queries, passages, dimension) / temperature)
        total += (wanted * (np.log(wanted) - logs)).sum() / len(queries)
    return total / len(dimensions)


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array) for array in arrays]


@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("further", [0, 3])
def test_the_contrastive_loss_is_the_weighted_cross_entropy(dimensions: tuple, further: int) -> None:
    queries, passages = RANDOM.normal(size=(5, 6)), RANDOM.normal(size=(5 + further, 6))
    weights = np.array([1.0, 0.5, 1.0, 2.0, 0.0])
    loss = contrastive(*tensors(queries, passages, weights, np.arange(len(passages))), 0.2, dimensions)
    assert float(loss) == pytest.approx(by_hand(queries, passages, weights, 0.2, dimensions), rel=1e-9)


def test_lengths_do_not_matter() -> None:
    queries, passages, weights = RANDOM.normal(size=(4, 6)), RANDOM.normal(size=(4, 6)), np.ones(4)
    one, other = (
        contrastive(*tensors(scale * queries, passages / scale, weights, np.arange(4)), 0.1, (6, 2))
        for scale in (1, 7.5)
    )
    assert float(one) == pytest.approx(float(other), rel=1e-9)


def test_a_pair_without_weight_does_not_count() -> None:
    queries, passages = RANDOM.normal(size=(3, 6)), RANDOM.normal(size=(3, 6))
    weights = np.array([1.0, 1.0, 0.0])
    before = float(contrastive(*tensors(queries, passages, weights, np.arange(len(passages))), 0.1, (6,)))
    queries[2] *= -1
    assert float(
        contrastive(*tensors(queries, passages, weights, np.arange(len(passages))), 0.1, (6,))
    ) == pytest.approx(before)


def test_other_passages_of_the_same_product_are_no_negatives() -> None:
    queries, passages, weights = RANDOM.normal(size=(3, 6)), RANDOM.normal(size=(4, 6)), np.ones(3)
    owners = np.array([7, 8, 7, 8])  # passages 0 and 2 are of one product, 1 and 3 of another
    loss = contrastive(*tensors(queries, passages, weights, owners), 0.2, (6,))
    scores = cosines(queries, passages, 6) / 0.2
    seen = [[0, 1, 3], [1, 0, 2], [2, 1, 3]]  # each query's own passage first
    wanted = np.mean([-log_softmax(scores[None, row, places])[0, 0] for row, places in enumerate(seen)])
    assert float(loss) == pytest.approx(wanted, rel=1e-9)


def test_found_pairs_cost_nothing_and_equal_ones_the_log_of_their_number() -> None:
    eye, ones = np.eye(4), np.ones((4, 4))
    assert float(contrastive(*tensors(eye, eye, np.ones(4), np.arange(4)), 0.01, (4,))) == pytest.approx(
        0, abs=1e-9
    )
    assert float(contrastive(*tensors(ones, ones, np.ones(4), np.arange(4)), 0.01, (4,))) == pytest.approx(
        np.log(4)
    )
    # seen through its first number alone, every row but one is nothing: all passages are equally near
    found = float(contrastive(*tensors(eye, eye, np.ones(4), np.arange(4)), 0.01, (1,)))
    assert found == pytest.approx(3 / 4 * np.log(4), abs=1e-6)


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_the_taught_loss_is_the_divergence_from_the_teacher(dimensions: tuple) -> None:
    queries, passages = RANDOM.normal(size=(4, 6)), RANDOM.normal(size=(5, 6))
    similarities = RANDOM.uniform(-1, 1, size=(4, 5))
    loss = taught(*tensors(queries, passages, similarities), 0.3, 0.15, dimensions)
    wanted = taught_by_hand(queries, passages, similarities, 0.3, 0.15, dimensions)
    assert float(loss) == pytest.approx(wanted, rel=1e-9)
    assert wanted > 0


def test_a_student_that_agrees_has_nothing_to_learn() -> None:
    queries, passages = RANDOM.normal(size=(4, 6)), RANDOM.normal(size=(4, 6))
    similarities = cosines(queries, passages, 6)
    assert float(taught(*tensors(queries, passages, similarities), 0.1, 0.1, (6,))) == pytest.approx(
        0, abs=1e-9
    )
    assert float(taught(*tensors(queries, passages, similarities), 0.2, 0.1, (6,))) > 1e-3


@pytest.mark.parametrize("loss", ["contrastive", "taught"])
def test_gradients_are_those_of_finite_differences(loss: str) -> None:
    table = RANDOM.normal(size=(5, 4))
    queries, passages = [[1, 2], [3], [4, 4, 1]], [[1], [2, 3], [4], [2, 2, 1]]
    weights, similarities = np.array([1.0, 0.5, 0.7]), RANDOM.uniform(-1, 1, size=(3, 4))

    def value(numbers: np.ndarray) -> float:
        one, other = (np.array([numbers[bag].sum(axis=0) for bag in bags]) for bags in (queries, passages))
        if loss == "contrastive":
            return by_hand(one, other, weights, 0.3, (4, 2))
        return taught_by_hand(one, other, similarities, 0.3, 0.2, (4, 2))

    parameter = torch.tensor(table, requires_grad=True)
    one, other = (sums(parameter, bags_of(bags)) for bags in (queries, passages))
    if loss == "contrastive":
        result = contrastive(one, other, torch.tensor(weights), torch.arange(4), 0.3, (4, 2))
    else:
        result = taught(one, other, torch.tensor(similarities), 0.3, 0.2, (4, 2))
    result.backward()
    assert parameter.grad is not None
    step, differences = 1e-5, np.zeros_like(table)
    for place in np.ndindex(*table.shape):
        up, down = table.copy(), table.copy()
        up[place] += step
        down[place] -= step
        differences[place] = (value(up) - value(down)) / (2 * step)
    np.testing.assert_allclose(parameter.grad.numpy(), differences, atol=1e-6)
    assert np.abs(differences).max() > 1e-2


def bags_of(lists: list[list[int]]) -> Bags:
    tokens = [token for each in lists for token in each]
    return Bags(
        np.array(tokens, np.int32), np.array([0, *np.cumsum([len(each) for each in lists])], np.int64)
    )


@given(lists=st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6))
def test_sums_add_up_the_vectors_of_a_bag(lists: list[list[int]]) -> None:
    table = np.random.default_rng(1).normal(size=(10, 3))
    wanted = [sum((table[token] for token in each), np.zeros(3)) for each in lists]
    np.testing.assert_allclose(sums(torch.tensor(table), bags_of(lists)).numpy(), wanted, atol=1e-12)
