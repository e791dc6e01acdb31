"""Passages: bounded in tokens, cut at words, with every word placed or counted."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from fakes import word_tokenizer
from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.retrieval.encoder_build import ModelForBuild
from tilth.retrieval.passages import Cut, PassageCutter, PassageSettings

CORPUS = [
    "cow manure for tomatoes 20 kg",
    "чем подкормить томаты и розы",
    "garden hose WH-1000XM4, café",
    "🍅 a b c",
]


def cut(product: Product, cutter: PassageCutter) -> Cut:
    return cutter.cut([product])[0]


def in_words(limits: PassageSettings) -> PassageCutter:
    """A cutter whose tokens are words, without special tokens."""
    return PassageCutter(word_tokenizer(), limits, 0)


@st.composite
def numbered(draw: st.DrawFn) -> tuple[Product, list[str]]:
    """A product in which every word is another one, and its words as passages should show them."""
    shapes = st.sampled_from(["w{}", "слово{}", "🍅{}", "WH-{}XM4", "{}kg.", "x" * 1_000 + "{}"])
    numbers = count()

    def text(least: int, most: int) -> str:
        words = draw(st.lists(shapes, min_size=least, max_size=most))
        blank = draw(st.sampled_from([" ", "  ", "\n", " \t"]))
        return blank.join(shape.format(next(numbers)) for shape in words)

    attributes = {f"name_{n}": text(1, 8) for n in range(draw(st.integers(0, 4)))}
    product = Product(
        id="1",
        title=text(1, 60),
        brand=text(0, 3),
        product_type=text(0, 6),
        description=text(0, 120),
        attributes=attributes,
    )
    pairs = [f"{name.replace('_', ' ')}: {value};" for name, value in attributes.items()]
    texts = [product.title, product.brand, product.product_type, product.description]
    return product, " ".join([*texts, *pairs]).split()


@given(product_and_words=numbered(), passages=st.integers(1, 5), head=st.integers(16, 40))
@settings(deadline=None, max_examples=150)
def test_every_word_is_placed_once_or_counted(
    product_and_words: tuple[Product, list[str]], passages: int, head: int
) -> None:
    product, words = product_and_words
    found = cut(product, in_words(PassageSettings(passages, max_tokens=40, head_tokens=head)))
    placed = [text.split() for text in found.passages]
    assert len(placed) <= passages
    missing = list(words)
    for each in placed:
        assert len(set(each)) + 2 * len(product.attributes) >= len(each)
        missing = [word for word in missing if word not in each]
    names = sum(word == "name" for word in words)  # the only word that is there more than once
    lost_names = names - sum(text.count("name") for text in found.passages)
    assert found.dropped_words == len([word for word in missing if word != "name"]) + lost_names
    assert {word for each in placed for word in each} <= set(words)  # none is cut
    assert all(len(word) <= 1_000 for each in placed for word in each)


def byte_level() -> Tokenizer:
    """As GPT-2's and ModernBERT's: a word has other tokens after a blank than alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return with_ends(tokenizer)


def unigram() -> Tokenizer:
    """As XLM-R's: blanks are part of the tokens."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>")
    )
    return with_ends(tokenizer)


def with_ends(tokenizer: Tokenizer) -> Tokenizer:
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer


@pytest.fixture(scope="module", params=["wordpiece", "byte level", "unigram"])
def tokenizer(request: pytest.FixtureRequest, model: ModelForBuild) -> Iterator[Tokenizer]:
    kinds = {"wordpiece": lambda: model.tokenizer, "byte level": byte_level, "unigram": unigram}
    yield kinds[request.param]()


TEXT = st.text(max_size=80) | st.lists(st.sampled_from(" ".join(CORPUS).split()), max_size=60).map(" ".join)


@given(title=TEXT, description=TEXT, value=TEXT, passages=st.integers(1, 5))
@settings(deadline=None, max_examples=100)
def test_no_passage_exceeds_the_limit_in_the_encoders_tokens(
    tokenizer: Tokenizer, title: str, description: str, value: str, passages: int
) -> None:
    prefix = "passage: "
    limits = PassageSettings(passages=passages, max_tokens=48, head_tokens=32)
    cutter = PassageCutter(tokenizer, limits, len(tokenizer.encode(prefix).ids))
    product = Product(id="1", title=title or "t", description=description, attributes={"use": value or "any"})
    texts = cut(product, cutter).passages
    tokens = [len(one.ids) for one in tokenizer.encode_batch([prefix + text for text in texts])]
    assert all(number <= 48 for number in tokens)


def test_the_head_has_its_own_limit(model: ModelForBuild) -> None:
    product = Product(id="1", title="Spade " * 100, description="For clay. " * 200)
    head, second = cut(product, model.cutter(PassageSettings())).passages
    sizes = [len(one.ids) for one in model.tokenizer.encode_batch([head, second])]
    assert sizes[0] <= 64 < sizes[1] <= 256


def test_the_order_is_head_description_attributes() -> None:
    product = Product(
        id="1",
        title="Spade",
        brand="Terra",
        product_type="Tools > Spades",
        description="Forged in one piece. For heavy clay.",
        attributes={"blade_width": "18 cm", "handle": "ash", "foldable": False, "boxed": True},
    )
    found = cut(product, in_words(PassageSettings(passages=3, max_tokens=40, head_tokens=16)))
    assert found.passages == (
        "Spade Terra Tools > Spades blade width: 18 cm; handle: ash;",
        "Spade Forged in one piece. For heavy clay.",
        "Spade boxed;",
    )
    assert found.dropped_words == 0


def test_attributes_that_say_no_are_left_out_and_not_counted() -> None:
    product = Product(
        id="1", title="Pump", attributes={"solar": False, "filter": "no", "timer": True, "volts": 12}
    )
    assert cut(product, in_words(PassageSettings())) == (("Pump timer; volts: 12;",), 0)


def test_one_passage_holds_all_that_fits() -> None:
    product = Product(id="1", title="Spade", description="For clay.", attributes={"blade": "steel"})
    found = cut(product, in_words(PassageSettings(passages=1)))
    assert found.passages == ("Spade For clay. blade: steel;",)


def test_a_title_longer_than_the_head_goes_on_in_the_next_passage() -> None:
    title = " ".join(f"t{n}" for n in range(30))
    limits = PassageSettings(passages=2, max_tokens=40, head_tokens=16)
    found = cut(Product(id="1", title=title, description="For clay."), in_words(limits))
    words = title.split()
    opening = words[:10]  # a quarter of the passage
    assert found.passages == (" ".join(words[:16]), " ".join([*opening, *words[16:], "For", "clay."]))
    assert found.dropped_words == 0


def test_a_long_description_goes_on_in_passages_that_open_with_the_title() -> None:
    product = Product(id="1", title="Spade", description=" ".join(f"w{n}" for n in range(100)))
    found = cut(product, in_words(PassageSettings(passages=3, max_tokens=32, head_tokens=16)))
    assert [text.split()[0] for text in found.passages] == ["Spade"] * 3
    assert [len(text.split()) for text in found.passages] == [1, 32, 32]
    assert found.dropped_words == 100 - 62


def test_sentences_stay_whole_where_they_fit() -> None:
    sentences = ["Сталь кованая, ручка из ясеня.", "Для тяжёлой глины!", "Чехол идёт в комплекте."]
    limits = PassageSettings(passages=3, max_tokens=16, head_tokens=16)
    found = cut(Product(id="1", title="Лопата", description="\n".join(sentences)), in_words(limits))
    assert found.passages == ("Лопата", f"Лопата {sentences[0]} {sentences[1]}", f"Лопата {sentences[2]}")


@pytest.mark.parametrize("passages", [1, 2, 5])
def test_what_is_no_language_is_counted_and_costs_nothing(passages: int) -> None:
    product = Product(id="1", title="Spade", description="x" * 1_000_000 + " clay" + " " * 1_000_000)
    found = cut(product, in_words(PassageSettings(passages=passages)))
    assert found.passages == (("Spade clay",) if passages == 1 else ("Spade", "Spade clay"))
    assert found.dropped_words == 1


def test_a_product_without_any_word_for_a_passage_has_none(model: ModelForBuild) -> None:
    assert cut(Product(id="1", title="x" * 1_000_000), model.cutter(PassageSettings())) == ((), 1)


def test_words_longer_than_the_room_beside_a_title_are_counted(model: ModelForBuild) -> None:
    """Else the passage that should hold such a word would never come to an end."""
    title, word = "pelleted chicken manure for roses and tomatoes", "qz" * 14
    assert 23 < len(model.tokenizer.encode(word, add_special_tokens=False)) <= 30
    limits = PassageSettings(passages=3, max_tokens=32, head_tokens=32)
    found = cut(Product(id="1", title=title, description=f"{word} clay"), model.cutter(limits))
    assert found.passages == (title, "pelleted chicken manure for clay")
    assert found.dropped_words == 1


def test_products_cut_together_are_cut_as_alone(model: ModelForBuild) -> None:
    products = [Product(id=str(n), title=text, description=" ".join(CORPUS)) for n, text in enumerate(CORPUS)]
    cutter = model.cutter(PassageSettings(max_tokens=32, head_tokens=16))
    assert cutter.cut(products) == [cut(product, cutter) for product in products]
    assert cutter.cut([]) == []


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"passages": 0}, "at least 1"),
        ({"head_tokens": 8}, "between 16 and"),
        ({"head_tokens": 300}, "max_tokens, 256"),
        ({"max_tokens": 20}, "head_tokens is 64"),
    ],
)
def test_settings_have_ranges(limits: dict[str, int], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        PassageSettings(**limits)


def test_settings_keep_within_what_an_encoder_reads() -> None:
    assert PassageSettings().within(128) == PassageSettings(max_tokens=128)
    assert PassageSettings().within(32) == PassageSettings(max_tokens=32, head_tokens=32)
    assert PassageSettings().within(512) == PassageSettings()


def test_a_prefix_longer_than_the_head_is_refused() -> None:
    with pytest.raises(SettingError, match="prefix"):
        PassageCutter(word_tokenizer(), PassageSettings(head_tokens=16), reserved=16)


@given(numbered(), st.integers(16, 80))
def test_a_product_that_fits_into_its_only_passage_is_not_taken_apart(
    made: tuple[Product, list[str]], tokens: int
) -> None:
    limits = PassageSettings(1, tokens, 16)
    slow = in_words(limits)
    slow._whole = lambda products: [None] * len(products)  # type: ignore[method-assign]
    assert cut(made[0], in_words(limits)) == cut(made[0], slow)
