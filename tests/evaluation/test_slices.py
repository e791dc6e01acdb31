import numpy as np

from tilth.evaluation.measures import PerQuery
from tilth.evaluation.slices import group_queries, slice_means
from tilth.query import Query

QUERIES = [
    Query("1", "pot", "type"),
    Query("2", "clay pot", "type"),
    Query("3", "чем подкормить томаты", "use"),
    Query("4", "pot of red clay, 20 cm"),
]


def test_queries_are_grouped_by_kind_and_by_words():
    assert group_queries(QUERIES) == {
        "kind": {"type": ("1", "2"), "use": ("3",)},
        "length": {"1": ("1",), "2": ("2",), "3+": ("3", "4")},
    }


def test_without_kinds_there_are_lengths_alone():
    assert group_queries([Query("1", "pot")]) == {"length": {"1": ("1",)}}
    assert group_queries([]) == {}


def test_means_are_over_all_the_measured_queries_of_a_slice():
    values = PerQuery(("1", "2", "4", "5"), ("P@5",), np.array([[0.2], [0.6], [1.0], [0.0]]))
    assert slice_means(values, group_queries([*QUERIES, Query("5", "used car price", "none")])) == {
        "kind": {"none": {"P@5": 0.0}, "type": {"P@5": 0.4}},  # use holds no measured query
        "length": {"1": {"P@5": 0.2}, "2": {"P@5": 0.6}, "3+": {"P@5": 0.5}},
    }
