import gzip
import os
import threading

import pytest

from tilth.errors import InputError
from tilth.files import check_ids, open_binary, read_rows, replacing


def test_rows_have_line_numbers_and_cells(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes("\ufeffa\t b \n\n  \nк\tд\r\n".encode())
    assert list(read_rows(path)) == [(1, ["a", "b"]), (4, ["к", "д"])]


def test_a_quote_in_tsv_is_a_character_and_in_csv_a_quote(tmp_path):
    path = tmp_path / "t"
    path.write_text('5" pot,"a,b"\n')
    assert list(read_rows(path)) == [(1, ['5" pot,"a,b"'])]
    path.write_text('1,"a,b"\n')
    assert list(read_rows(path, delimiter=",")) == [(1, ["1", "a,b"])]


def test_without_a_delimiter_tabs_go_before_blanks(tmp_path):
    path = tmp_path / "t"
    path.write_text("q1\ta product\t3\nq1 0  p 3\n")
    rows = [cells for _, cells in read_rows(path, delimiter=None)]
    assert rows == [["q1", "a product", "3"], ["q1", "0", "p", "3"]]


def test_gzip_is_told_by_its_bytes_not_its_name(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(gzip.compress(b"a\tb\n"))
    assert list(read_rows(path)) == [(1, ["a", "b"])]


def test_closing_an_unpacked_file_closes_the_file_below(tmp_path):
    path = tmp_path / "t.gz"
    path.write_bytes(gzip.compress(b"a"))
    file = open_binary(path)
    below = file.fileobj
    file.close()
    assert below.closed


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(b"a\tb\n"),))
    writer.start()
    assert list(read_rows(pipe)) == [(1, ["a", "b"])]
    writer.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n" * 5000 + b"\xff\xfe\n", r":5001: is not UTF-8. Save it as UTF-8"),
        ("a\n".encode("utf-16"), r":1: is not UTF-8"),
        (b"a\nb\0c\n", r":2: holds a NUL byte"),
        (gzip.compress(os.urandom(4000).hex().encode())[:-900], r"damaged gzip"),
        (gzip.compress(b"a\n")[:-8] + b"00000000", r"damaged gzip: CRC"),
    ],
)
def test_broken_bytes_are_named_with_their_line(tmp_path, content, message):
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_rows(path))


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(read_rows(tmp_path / "absent"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        list(read_rows(tmp_path))


def test_replacing_makes_folders_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "a" / "b" / "t"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_keeps_the_old_file_on_any_error(tmp_path, error):
    path = tmp_path / "t"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    below_a_file = tmp_path / "file" / "t"
    for path, reason in [(tmp_path, "Is a directory"), (below_a_file, "Not a directory|File exists")]:
        with pytest.raises(InputError, match=f"cannot be written: ({reason})"), replacing(path):
            pytest.fail("the body must not run")


@pytest.mark.parametrize("bad", ["", " a", "a\t", "a\tb", "a\nb", "a\rb", "a\0b"])
def test_ids_that_would_not_be_read_back_are_refused(bad):
    for path in ("t.tsv", "t.trec"):
        with pytest.raises(InputError, match="an id cannot be empty or hold a separator"):
            check_ids(path, "good", bad)


def test_blanks_in_ids_suit_tsv_alone():
    check_ids("t.tsv", "a b", "ж-1")
    check_ids("t.trec", "a-b", "ж-1")
    with pytest.raises(InputError, match=r"A file named \.tsv takes ids with blanks"):
        check_ids("t.trec", "a\u00a0b")
