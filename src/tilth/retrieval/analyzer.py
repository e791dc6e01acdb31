"""Text to index terms: one analyzer for catalogue and query, English and Russian together.

Two steps. `expand` rewrites a text as terms separated by blanks: case and width folded, ё as е, model
numbers and measures both whole and in parts. A tantivy analyzer then splits at the blanks, folds accents
and stems; English and Russian stemmers are chained, since each leaves the other's alphabet alone.

Most texts are made of the same few thousand words. So a text is first cut at those blanks that no term can
reach across, and what a piece gives is remembered.
"""

import re
import unicodedata
from functools import lru_cache
from itertools import chain

import tantivy

LONGEST_TERM = 64  # characters; longer "words" are data, not language

# Units as they are written after a number -> one canonical form. Only unambiguous spellings: the Russian
# preposition "в" is no volt, and "с" no second.
_UNIT_SPELLINGS = {
    "mg": "mg мг", "g": "g gr gram grams г гр грамм грамма граммов",
    "kg": "kg kgs kilo kilos kilogram kilograms кг килограмм килограмма килограммов",
    "t": "tonne tonnes т тонна тонны тонн", "lb": "lb lbs pound pounds", "oz": "oz ounce ounces",
    "ml": "ml millilitre millilitres milliliter milliliters мл миллилитров",
    "cl": "cl", "l": "l ltr litre litres liter liters л литр литра литров",
    "mm": "mm millimetre millimetres millimeter millimeters мм", "cm": "cm centimetre centimetres centimeter "
    "centimeters см сантиметр сантиметров", "m": "m metre metres meter meters м метр метра метров",
    "km": "km км", "in": 'in inch inches " ″ дюйм дюйма дюймов', "ft": "ft foot feet",
    "m2": "m2 м2 sqm", "m3": "m3 м3",
    "kb": "kb кб", "mb": "mb мб", "gb": "gb гб", "tb": "tb тб",
    "hz": "hz гц", "khz": "khz кгц", "mhz": "mhz мгц", "ghz": "ghz ггц",
    "w": "w watt watts вт ватт", "kw": "kw квт", "v": "v volt volts вольт", "a": "amp amps ампер",
    "mah": "mah мач", "bar": "bar бар", "mp": "mp megapixel megapixels мп",
    "pcs": "pcs pc piece pieces шт штук штуки штука", "days": "days day дней дня день",
    "h": "hrs hours hour ч час часа часов", "min": "min mins minutes minute мин минут",
}  # fmt: skip
UNITS = {spelling: unit for unit, spellings in _UNIT_SPELLINGS.items() for spelling in spellings.split()}

_NUMBER = r"\d+(?:[.,]\d+)*"
_UNIT = "|".join(
    r"in(?!\s\d)" if unit == "in" else re.escape(unit)  # "2 in 1" is no length
    for unit in sorted(UNITS, key=len, reverse=True)
)
TOKEN = re.compile(  # in folded text
    rf"(?P<number>{_NUMBER})[ \u00a0]?(?P<unit>{_UNIT})(?![^\W_])"  # a measure
    r"|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)?)(?![-_.+]?[^\W_])"  # a plain word
    r"|(?P<code>[^\W_]+(?:[-_.+,][^\W_]+)*)"  # anything joined, or with digits
)
_SEPARATORS = re.compile(r"[-_+]|[.,](?!\d)|(?<!\d)[.,]")  # the point in 802.11 separates nothing
_RUNS = re.compile(rf"{_NUMBER}|[^\W\d_]+")
_DIGIT = re.compile(r"\d")
# White space that no term reaches across: `5 kg` is one term, and whether `2 in` is depends on what follows.
_BLANK = re.compile(r"\s(?:(?<![\dn]\s)|(?<=n\s)(?!\d))")
_REMEMBERED = 65_536  # pieces of texts
_ALPHANUMERIC = re.compile(r"[^\W_]+")
_PLAIN_NUMBER = re.compile(rf"{_NUMBER}$")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?$")
_MARKS = str.maketrans("ё™®©", "е   ")


def fold(text: str) -> str:
    """Fold width, compatibility forms and case; ё becomes е."""
    if text.isascii():
        return text.lower()
    text = text.replace("Ё", "ё").translate(_MARKS)
    return unicodedata.normalize("NFKC", text).casefold().translate(_MARKS)


def expand(text: str) -> str:
    """Rewrite a text as its terms before stemming, separated by blanks, in the order of the text.

    `WH-1000XM4` gives the whole `wh1000xm4` and the parts; `5 kg`, `5kg` and `5 кг` all give `5kg 5 kg`.
    """
    return " ".join(filter(None, map(_expanded, _pieces(text))))


def _pieces(text: str) -> list[str]:
    """Fold a text and cut it so that its terms are those of its pieces."""
    text = fold(text)
    return _BLANK.split(text) if _DIGIT.search(text) else text.split()


@lru_cache(_REMEMBERED)
def _expanded(piece: str) -> str:
    return " ".join(term for match in TOKEN.finditer(piece) for term in _match_terms(match))


def _match_terms(match: re.Match[str]) -> tuple[str, ...]:
    kind = match.lastgroup
    if kind == "word":
        return (match["word"],)
    if kind == "code":
        return _code_terms(match["code"])
    number, unit = _number(match["number"]), UNITS[match["unit"]]
    return (number + unit, number, unit)


def compact(text: str) -> str:
    """Return an identifier as one term, however it is spelt: `HR 1044-X` and `hr1044x` alike.

    A text without a digit, or with fewer than four or more than forty letters and digits, is none: empty.
    """
    joined = fold(text)
    if not (joined.isascii() and joined.isalnum()):
        joined = "".join(_ALPHANUMERIC.findall(joined))
    return joined if 4 <= len(joined) <= 40 and any(map(str.isdigit, joined)) else ""


def words(text: str) -> list[str]:
    """Return the plain words of a text, folded but not stemmed, without numbers and codes."""
    return list(chain.from_iterable(map(_words, _pieces(text))))


@lru_cache(_REMEMBERED)
def _words(piece: str) -> tuple[str, ...]:
    return tuple(match["word"] for match in TOKEN.finditer(piece) if match.lastgroup == "word")


def _number(text: str) -> str:
    """Write a number one way: `4,5` as 4.5, `1,299` as 1299, `5.0` as 5."""
    if "," in text:
        text = text.replace(",", "" if _THOUSANDS.match(text) else ".")
    if text.count(".") == 1:
        text = text.rstrip("0").rstrip(".")
    return text


@lru_cache(maxsize=65536)
def _code_terms(code: str) -> tuple[str, ...]:
    """Return the whole without separators, then its parts, each once."""
    if _PLAIN_NUMBER.match(code):
        return (_number(code),)
    pieces = [piece for piece in _SEPARATORS.split(code) if piece]
    parts = [run for piece in pieces for run in (piece, *_RUNS.findall(piece))]
    return tuple(dict.fromkeys(["".join(pieces), *parts]))


def build_analyzer() -> tantivy.TextAnalyzer:
    """Build the second step, for registering with an index: split at blanks, fold accents, stem."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
        .filter(tantivy.Filter.remove_long(LONGEST_TERM))
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.stemmer("english"))
        .filter(tantivy.Filter.stemmer("russian"))
        .build()
    )


_ANALYZER = build_analyzer()


def stem(expanded: str) -> list[str]:
    """Return the index terms of an expanded text, in order, repetitions kept."""
    terms: list[str] = _ANALYZER.analyze(expanded)
    return terms


def index_terms(text: str) -> str:
    """Return the index terms of a text, in order, repetitions kept, separated by blanks."""
    return " ".join(filter(None, map(_stemmed, _pieces(text))))


@lru_cache(_REMEMBERED)
def _stemmed(piece: str) -> str:
    return " ".join(stem(_expanded(piece)))


def analyze(text: str) -> list[str]:
    """Return the index terms of a text, in order, repetitions kept."""
    return index_terms(text).split()
