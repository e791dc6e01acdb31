"""A training that was interrupted, in one file: it goes on as if it had not been."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tilth.encoder_training.asked import Asked
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from tilth.files import replacing

_FACTS = "facts"


@dataclass(slots=True)
class Course:
    """How far a training has come."""

    fall_from: int  # step from which the learning rate falls
    step: int = 0  # steps that are done
    seconds: float = 0.0  # that earlier processes took, up to what they kept
    stale: int = 0  # looks at held-out queries without a gain
    curve: list[tuple[int, float]] = field(default_factory=list)  # step and value of each look


def fingerprint(
    material: Material, settings: EncoderSettings, asked: Sequence[Asked], teacher: object
) -> str:
    """Return a hash of all that the outcome of a training depends on.

    Args:
        material: the products.
        settings: of the training.
        asked: queries with products.
        teacher: the identity of the teacher, as JSON has it; None: there is none.

    Returns:
        Hexadecimal digits.
    """
    digest = blake2b(digest_size=16)
    plain: list[Any] = [settings.to_json(), list(map(tuple, asked)), teacher, torch.get_num_threads()]
    for part in (
        orjson.dumps(plain, option=orjson.OPT_SORT_KEYS),
        material.tokenizer.to_str().encode(),
        material.bags.tokens.tobytes(),
        orjson.dumps(list(map(tuple, material.texts))),
    ):
        digest.update(part)
    return digest.hexdigest()


class Checkpoint:
    """One file that holds a training between two looks at held-out queries."""

    def __init__(self, path: Path, mark: str) -> None:
        """Name it.

        Args:
            path: the file.
            mark: `fingerprint` of the training; what another one left is passed over.
        """
        self._path, self._mark = path, mark

    def write(self, course: Course, state: dict[str, torch.Tensor]) -> None:
        """Write a training, whole or not at all.

        Args:
            course: how far it has come.
            state: of the student.
        """
        facts = orjson.dumps({"mark": self._mark, **asdict(course)}).decode()
        with replacing(self._path) as file:
            file.write(save(state, {_FACTS: facts}))

    def read(self) -> tuple[Course, dict[str, torch.Tensor]] | None:
        """Return what was written; None: there is nothing that can be read, or it is of another training."""
        try:
            with safe_open(self._path, "pt") as file:
                facts = orjson.loads((file.metadata() or {})[_FACTS])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            mark, curve = facts.pop("mark"), [(step, value) for step, value in facts.pop("curve")]
            course = Course(**facts, curve=curve)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):  # of facts: of another version
            return None
        return (course, state) if mark == self._mark else None
