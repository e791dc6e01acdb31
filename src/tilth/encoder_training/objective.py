"""What is minimised: that a query is nearer to its own passage than to the others of its batch.

In-batch softmax with a temperature: van den Oord et al., "Representation Learning with Contrastive Predictive
Coding", 2018; at several dimensions at once: Kusupati et al., "Matryoshka Representation Learning", NeurIPS
2022; a teacher's similarities as a distribution over the batch: Hinton et al., "Distilling the Knowledge in a
Neural Network", 2015.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from tilth.encoder_training.bags import Bags


def sums(table: torch.Tensor, bags: Bags) -> torch.Tensor:
    """Add up the vectors of each bag's tokens: (N, D); an empty bag has zeros."""
    tokens, ends = torch.from_numpy(bags.tokens), torch.from_numpy(bags.ends[:-1].astype("int32"))
    return functional.embedding_bag(tokens, table, ends, mode="sum")


def contrastive(
    queries: torch.Tensor,
    passages: torch.Tensor,
    weights: torch.Tensor,
    owners: torch.Tensor,
    temperature: float,
    dimensions: Sequence[int],
) -> torch.Tensor:
    """Return the weighted mean over pairs, and the mean over dimensions, of the cross-entropy.

    Args:
        queries: (B, D), of any length.
        passages: (B or more, D); passage n belongs to query n.
        weights: (B,) of the pairs, not all 0.
        owners: (P,) the product of each passage: other passages of a query's product are left out.
        temperature: what cosines are divided by.
        dimensions: how many of the first of D are compared.

    Returns:
        A number from 0.
    """
    targets = torch.arange(len(queries))
    others = owners[: len(queries), None] == owners
    others[targets, targets] = False
    losses = []
    for d in dimensions:
        logits = _cosines(queries, passages, d) / temperature
        logits = logits.masked_fill(others, -torch.inf)
        losses.append(functional.cross_entropy(logits, targets, reduction="none"))
    return (torch.stack(losses).mean(dim=0) * weights).sum() / weights.sum()


def taught(
    queries: torch.Tensor,
    passages: torch.Tensor,
    similarities: torch.Tensor,
    temperature: float,
    teacher_temperature: float,
    dimensions: Sequence[int],
) -> torch.Tensor:
    """Return the mean divergence (KL) of the student's distribution over the batch from the teacher's.

    Args:
        queries: (B, D), of any length.
        passages: (P, D).
        similarities: (B, P) cosines of the teacher.
        temperature: what the student's cosines are divided by.
        teacher_temperature: what the teacher's are divided by.
        dimensions: how many of the first of D are compared.

    Returns:
        A number from 0.
    """
    wanted = (similarities / teacher_temperature).softmax(dim=1)
    losses = [
        functional.kl_div(
            (_cosines(queries, passages, d) / temperature).log_softmax(dim=1), wanted, reduction="batchmean"
        )
        for d in dimensions
    ]
    return torch.stack(losses).mean()


def _cosines(queries: torch.Tensor, passages: torch.Tensor, dimension: int) -> torch.Tensor:
    one, other = (functional.normalize(vectors[:, :dimension], dim=1) for vectors in (queries, passages))
    return one @ other.T
