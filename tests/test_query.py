import pytest

from tilth.errors import InputError
from tilth.query import Query, as_queries, read_queries


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1\tcow manure 20 kg\ttype\n2\tчем подкормить томаты\n",
        "query_id\tquery\tkind\n1\tcow manure 20 kg\ttype\n2\tчем подкормить томаты\n",
        "kind\tlocale\tquery_id\tquery\ntype\ten\t1\tcow manure 20 kg\n\tru\t2\tчем подкормить томаты\n",
    ],
)
def test_header_or_not_the_queries_are_the_same(tmp_path, text):
    assert read_queries(write(tmp_path / "q", text)) == [
        Query("1", "cow manure 20 kg", "type"),
        Query("2", "чем подкормить томаты"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no queries"),
        ("query_id\tquery\n", "holds no queries"),
        ("query_id\ttext\n1\tpot\n", ":1: the header needs a column 'query'"),
        ("1 pot\n", ":1: a query needs an id and a text.*separated by tabs"),
        ("1\tpot\n2\t\n", ":2: a query needs an id and a text"),
        ("1\tpot\n1\tvase\n", ":2, field 'query_id': query id occurs twice"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_queries(write(tmp_path / "q", text))


def test_texts_become_queries_and_queries_pass():
    mine = Query("x", "pot")
    assert as_queries(["vase", mine]) == [Query("1", "vase"), mine]
