"""Texts as bags of tokens, side by side in one array, as the static encoder sees them."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Numbers = npt.NDArray[np.int64]

_BLOCK = 4_096  # texts tokenised at a time


class Bags(NamedTuple):
    """N bags: the tokens of bag n are `tokens[ends[n]:ends[n + 1]]`."""

    tokens: npt.NDArray[np.int32]
    ends: Numbers  # (N + 1,), the first is 0

    @classmethod
    def of(cls, tokenizer: Tokenizer, texts: Sequence[str]) -> Self:
        """Tokenise texts; what the tokenizer makes of them takes many times the room of the bags."""
        parts = [np.empty(0, np.int32)]
        for start in range(0, len(texts), _BLOCK):
            encoded = tokenizer.encode_batch_fast(texts[start : start + _BLOCK], add_special_tokens=False)
            parts += [np.array(each.ids, np.int32) for each in encoded]
        return cls(np.concatenate(parts), _ends(np.fromiter(map(len, parts[1:]), np.int64, len(texts))))

    def __len__(self) -> int:
        """Return N."""
        return len(self.ends) - 1

    def take(self, numbers: Numbers) -> Self:
        """Return some of the bags, in the order of `numbers`."""
        lengths = self.ends[numbers + 1] - self.ends[numbers]
        ends = _ends(lengths)
        places = np.arange(ends[-1]) + np.repeat(self.ends[numbers] - ends[:-1], lengths)
        return type(self)(self.tokens[places], ends)

    def thinned(self, dropped: float, random: np.random.Generator) -> Self:
        """Return the bags without a random share of their tokens."""
        kept = random.random(len(self.tokens)) >= dropped
        counts = np.concatenate([[0], np.cumsum(kept)])
        return type(self)(self.tokens[kept], counts[self.ends])


def _ends(lengths: Numbers) -> Numbers:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
