"""Small models with random weights, saved as sentence-transformers saves them."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "cow manure for tomatoes", "query: what feeds roses", "passage: garden hose 25 m",
    "чем подкормить томаты", "садовый шланг 25 м", "секатор для роз", "pelleted chicken manure",
]  # fmt: skip


def tiny_xlm_r(folder: Path, pooling: str = "mean") -> Path:
    """A random XLM-R under the name of an E5 model; it reads 64 tokens."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "bos": "<s>",
        "eos": "</s>",
        "unk": "<unk>",
        "pad": "<pad>",
        "cls": "<s>",
        "sep": "</s>",
        "mask": "<mask>",
    }
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        initializer_range=0.5,
    )  # fmt: skip
    return _saved(folder, "multilingual-e5-small", XLMRobertaModel, config, tokenizer, names, pooling)


def tiny_bert(folder: Path, pooling: str = "cls") -> Path:
    """A random BERT, whose second input is the segment of each token."""
    from transformers import BertConfig, BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    return _saved(folder, "tiny-bert", BertModel, config, tokenizer, names, pooling)


def _saved(folder, name, kind, config, tokenizer, names, pooling) -> Path:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models as modules
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    kind(config).save_pretrained(folder / "raw")
    tokens = {f"{role}_token": token for role, token in names.items()}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **tokens)
    fast.save_pretrained(folder / "raw")
    transformer = modules.Transformer(str(folder / "raw"), max_seq_length=64)
    pool = modules.Pooling(32, pooling_mode=pooling)
    SentenceTransformer(modules=[transformer, pool, modules.Normalize()], device="cpu").save(
        str(folder / name)
    )
    return folder / name


def static_model(folder: Path) -> Path:
    """A random table of one vector a token."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding

    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(SENTENCES, trainers.WordLevelTrainer(special_tokens=["[UNK]"]))
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 16)).astype(np.float32)
    path = folder / "static"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, table)], device="cpu").save(str(path))
    return path
