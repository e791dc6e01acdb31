"""The encoder that learns: one vector a token, moved by Adam; its state can be written and read back."""

import numpy as np
import torch

from tilth.encoder_training.batches import Batch
from tilth.encoder_training.objective import contrastive, sums, taught
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.teacher import Lesson
from tilth.protocols import Vectors

_LENGTH = 0.3  # of a vector at the start: a token that is never trained weighs less than those that are
_TEACHER_TEMPERATURE = 0.03


class Student:
    """A table of (tokens, D) vectors in training; token 0, the unknown one, stays zero."""

    def __init__(self, tokens: int, settings: EncoderSettings) -> None:
        """Start from random vectors.

        Args:
            tokens: of the vocabulary.
            settings: dimensions, temperature and learning rate.
        """
        self._settings = settings
        random = np.random.default_rng([settings.seed, 0])
        scale = _LENGTH / np.sqrt(settings.dimension)
        start = random.normal(0, scale, (tokens, settings.dimension)).astype(np.float32)
        start[0] = 0
        self._table = torch.nn.Parameter(torch.from_numpy(start))
        self._optimizer = torch.optim.Adam([self._table], lr=settings.learning_rate, fused=True)

    @property
    def table(self) -> Vectors:
        """A copy of the vectors, (tokens, D)."""
        vectors: Vectors = self._table.detach().numpy().copy()
        return vectors

    def learn(self, batch: Batch, lesson: Lesson | None, rate: float) -> float:
        """Take one step.

        Args:
            batch: pairs.
            lesson: of a teacher; None: there is none.
            rate: factor of the learning rate, 0 to 1.

        Returns:
            The loss before the step.
        """
        settings = self._settings
        loss = contrastive(
            sums(self._table, batch.queries),
            sums(self._table, batch.passages),
            torch.from_numpy(batch.weights),
            torch.from_numpy(batch.owners),
            settings.temperature,
            settings.dimensions,
        )
        if lesson is not None:
            loss = loss + settings.teaching * taught(
                sums(self._table, lesson.queries),
                sums(self._table, lesson.passages),
                torch.from_numpy(lesson.similarities),
                settings.temperature,
                _TEACHER_TEMPERATURE,
                settings.dimensions,
            )
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        with torch.no_grad():
            self._table[0] = 0
        return float(loss.detach())

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that the next steps depend on."""
        return {"table": self._table.detach(), **self._optimizer.state_dict()["state"].get(0, {})}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` returned."""
        state = dict(state)
        with torch.no_grad():
            self._table.copy_(state.pop("table"))
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": {0: state} if state else {}, "param_groups": groups})
