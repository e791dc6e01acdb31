"""The analyzer: one way of writing for every way of typing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.retrieval import analyzer
from tilth.retrieval.analyzer import LONGEST_TERM, UNITS, analyze, expand, fold, index_terms, words


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("WH-1000XM4", ["wh1000xm4", "wh", "1000xm4", "1000", "xm", "4"]),
        ("wh1000xm4", ["wh1000xm4", "wh", "1000", "xm", "4"]),
        ("TN_2110", ["tn2110", "tn", "2110"]),
        ("4.5kg", ["4.5kg", "4.5", "kg"]),
        ("802.11b", ["802.11b", "802.11", "b"]),
        ("Wi-Fi", ["wifi", "wi", "fi"]),
        ("PS4/PS5", ["ps4", "ps", "4", "ps5", "ps", "5"]),
        ("1,299.50", ["1299.5"]),
        ("12,500 mAh", ["12500mah", "12500", "mah"]),
        ("20x30", ["20x30", "20", "x", "30"]),
        ("Core™ i5®", ["core", "i5", "i", "5"]),
    ],
)
def test_codes_and_numbers_are_terms_whole_and_in_parts(text: str, terms: list[str]) -> None:
    assert expand(text).split() == terms


@pytest.mark.parametrize(
    "text", ["5 kg", "5kg", "5 КГ", "5кг", "5,0 кг", "5.00 kg", "5 kilograms", "5\u00a0kg"]
)
def test_a_measure_is_written_one_way(text: str) -> None:
    assert expand(text).split() == ["5kg", "5", "kg"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("wireless speakers", "Wireless Speaker"),
        ("пелёнки", "пеленка"),
        ("подкормка томатов", "Подкормки томаты"),
        ("café", "cafe"),
        ("ＷＩＲＥＬＥＳＳ", "wireless"),
        ("gardener's", "gardener"),
        ('17" monitor', "17 inch monitors"),
        ("4,5 кг", "4.5kg"),
        ("Ёж", "еж"),
    ],
)
def test_inflections_and_spellings_meet(one: str, other: str) -> None:
    assert analyze(one) == analyze(other)


def test_prepositions_are_no_units() -> None:
    assert expand("2 in 1").split() == ["2", "in", "1"]
    assert "5v" not in expand("5 в 1").split()
    assert expand("2 с половиной").split()[0] == "2"


@given(st.text(max_size=200))
def test_any_text_gives_short_terms_without_blanks(text: str) -> None:
    for term in analyze(text):
        assert term
        assert len(term.encode()) <= LONGEST_TERM
        assert not any(c.isspace() for c in term)


@given(st.text(alphabet=st.characters(categories=["L", "Nd", "Zs", "Pd"]), max_size=60))
def test_case_does_not_matter(text: str) -> None:
    if fold(text.upper()) == fold(text):  # ß and its like have no single upper case
        assert analyze(text.upper()) == analyze(text)


@given(st.integers(0, 9999), st.sampled_from(["kg", "cm", "gb", "л", "мм"]))
def test_the_blank_before_a_unit_does_not_matter(number: int, unit: str) -> None:
    assert analyze(f"{number} {unit}") == analyze(f"{number}{unit}")


PARTS = st.sampled_from(
    ["5", "2", "802.11", "1,299", "x", "in", "kg", '"', "'", "don't", "Wi-Fi", "A4", "b"]
) | (st.sampled_from(["-", ".", "(", "_", " ", "  ", "\u00a0", "\t", "²", "Ⅳ", "ё", "Кг", "мм"]))


def whole(text: str) -> list[str]:
    """Return the terms of a text that is read in one go, by the pattern alone."""
    return [term for match in analyzer.TOKEN.finditer(fold(text)) for term in analyzer._match_terms(match)]


@given(st.lists(PARTS, max_size=12).map("".join))
@settings(max_examples=500)
def test_cutting_a_text_at_blanks_changes_no_term(text: str) -> None:
    assert expand(text).split() == whole(text)
    assert index_terms(text).split() == analyzer.stem(" ".join(whole(text)))


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_no_measure_is_cut(unit: str) -> None:
    for text in (f"5 {unit}", f"a 5 {unit} b", f"2 {unit} 1", f"2 {unit}  1", f"2  {unit} 1"):
        assert expand(text).split() == whole(text)


def test_words_are_neither_codes_nor_measures() -> None:
    assert words("Gardener's 5 kg Wi-Fi WH-1000 spade in 2 in 1") == ["gardener's", "spade", "in", "in"]
