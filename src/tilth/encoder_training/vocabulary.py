"""The tokens of a catalogue: WordPiece, learned from its own words, so any language with blanks will do.

Letters are lowered and lose their accents (ё is е), punctuation stands alone, and a number is divided from
the unit that follows it: `5kg` and `5 kg` are the same two tokens.
"""

from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

UNKNOWN = "[UNK]"
_WITHIN = "##"  # before a token that does not begin a word
_LEAST_SEEN = 2  # times that two parts must be met side by side to become a token
LONGEST = 64  # letters of a word; a longer one is unknown


def learn_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Learn a tokenizer; the same texts give the same one.

    Args:
        texts: of the products.
        size: tokens at most, but for single letters, which are all kept.

    Returns:
        A tokenizer without special tokens but `UNKNOWN`, which has the number 0.
    """
    # Of pairs that are met equally often the trainer joins that of the lowest numbers, and it numbers letters
    # within words as it happens to meet them, each time otherwise: so they are numbered beforehand.
    within = sorted(token for token in _learned(texts, 1, []) if token.startswith(_WITHIN))
    tokenizer = _tokenizer(_learned(texts, size, within))
    tokenizer.add_special_tokens([UNKNOWN])
    return tokenizer


def _learned(texts: Sequence[str], size: int, within: Sequence[str]) -> dict[str, int]:
    """Return the tokens with their numbers; those of `within` come first after `UNKNOWN`."""
    tokenizer = _tokenizer({UNKNOWN: 0})
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=_LEAST_SEEN,
        special_tokens=[UNKNOWN, *within],
        show_progress=False,
        continuing_subword_prefix=_WITHIN,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary


def _tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece(
            vocabulary,
            unk_token=UNKNOWN,
            max_input_chars_per_word=LONGEST,
            continuing_subword_prefix=_WITHIN,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=False)]
    )
    return tokenizer


def whole_words(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Return the share of the words of texts that have a token of their own, 0 to 1.

    Of the texts that a tokenizer was learned from, nearly all have. It falls as a catalogue gets new words.

    Args:
        tokenizer: of `learn_tokenizer`.
        texts: titles, say; without a word the share is 1.

    Returns:
        Occurrences of words with one token, over those of all words.
    """
    unknown = tokenizer.token_to_id(UNKNOWN)
    whole = total = 0
    for encoded in tokenizer.encode_batch(texts, add_special_tokens=False):
        tokens = Counter(encoded.word_ids)
        parted = {
            word for word, number in zip(encoded.word_ids, encoded.ids, strict=True) if number == unknown
        }
        total += len(tokens)
        whole += sum(count == 1 and word not in parted for word, count in tokens.items())
    return whole / total if total else 1.0
