"""Measures of a run against qrels, per query, through ir_measures (MacAvaney et al., ECIR 2022).

The rules, the same for every measure:

- Every query of the qrels counts. One without a product of a grade above 0 has no ideal ranking and has 0
  under any system in all but Judged; reports say how many there are.
- A query that the run lacks, or for which it has no hits, has 0.
- An unjudged product counts as irrelevant, unless the measure is `judged_only`: then it is taken out of the
  run first, and what stands below it moves up (Sakai, "Alternatives to Bpref", SIGIR 2007).
- The order measured is the order of the run. trec_eval would sort equal scores by descending product_id, so
  it is given ranks for scores.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
import numpy.typing as npt
from ir_measures import Measure

from tilth.errors import InputError, SettingError, shorten
from tilth.qrels import Qrels
from tilth.run import Run

Values = npt.NDArray[np.float64]

_FAMILIES = {
    "ndcg": ir_measures.nDCG,
    "r": ir_measures.R, "recall": ir_measures.R,
    "rr": ir_measures.RR, "mrr": ir_measures.RR,
    "p": ir_measures.P, "precision": ir_measures.P,
    "ap": ir_measures.AP, "map": ir_measures.AP,
    "success": ir_measures.Success,
    "judged": ir_measures.Judged,
}  # fmt: skip
_NEED_CUTOFF = {"R", "P", "Success", "Judged"}
_FORM = re.compile(r"(?P<family>[A-Za-z]+)(?:\((?P<settings>[^()]*)\))?(?:@(?P<cutoff>[1-9]\d{0,5}))?")
_SETTINGS = {"rel": re.compile(r"[1-9]\d{0,2}"), "judged_only": re.compile(r"True|False")}
_EXAMPLES = "nDCG@10, R@100, RR@10, P@5, AP, Success@10, Judged@10, R(rel=2)@100, nDCG(judged_only=True)@10"


def parse_measure(name: str) -> Measure:
    """Read a measure from its name, in any case of letters.

    Args:
        name: as ir_measures writes it; `rel` is the lowest relevant grade, 1 if not given.

    Returns:
        A value whose `str` is the canonical name.

    Raises:
        SettingError: the name is not one of a measure known here.
    """
    match = _FORM.fullmatch(name.strip())
    family = _FAMILIES.get(match["family"].lower()) if match else None
    if match is None or family is None:
        raise _unknown(name)
    measure = family(**_parse_settings(name, match["settings"] or ""))
    if set(measure.params) - set(measure.SUPPORTED_PARAMS):
        raise _unknown(name, f"{family.NAME} has no such setting")
    if match["cutoff"]:
        return measure @ int(match["cutoff"])
    if family.NAME in _NEED_CUTOFF:
        raise _unknown(name, f"{family.NAME} needs a cutoff, as in {family.NAME}@10")
    return measure


def _parse_settings(name: str, text: str) -> dict[str, int | bool]:
    settings: dict[str, int | bool] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in _SETTINGS or not _SETTINGS[key].fullmatch(value):
            raise _unknown(name, "the settings are rel=GRADE and judged_only=True")
        settings[key] = value == "True" if key == "judged_only" else int(value)
    return settings


def _unknown(name: str, reason: str = "not a known measure") -> SettingError:
    return SettingError(f"measure {shorten(name)}: {reason}. Write for example {_EXAMPLES}")


def parse_measures(names: Iterable[str], relevant: int = 1) -> tuple[Measure, ...]:
    """Read measures from their names, each once.

    Args:
        names: names for `parse_measure`.
        relevant: the lowest relevant grade, from 1, for measures that do not name one.

    Returns:
        The measures; a `relevant` above 1 becomes part of their names.

    Raises:
        SettingError: a name is not one of a measure known here, or `relevant` is below 1.
    """
    if relevant < 1:
        raise SettingError(f"the lowest relevant grade must be from 1, not {relevant}")
    parsed = (parse_measure(name) for name in names)
    rel = {} if relevant == 1 else {"rel": relevant}
    return tuple(dict.fromkeys(m(**rel | m.params) if "rel" in m.SUPPORTED_PARAMS else m for m in parsed))


def judged_only(measures: Iterable[Measure]) -> tuple[Measure, ...]:
    """Return the judged-only variants of those measures that have one: all but Judged."""
    return tuple(m(judged_only=True) for m in measures if "judged_only" in m.SUPPORTED_PARAMS)


DEFAULT = parse_measures(["nDCG@10", "R@100", "RR@10", "P@5", "Judged@10"])


@dataclass(frozen=True, slots=True)
class PerQuery:
    """The value of each measure for each query: `values[query, measure]`, float64 of shape (Q, M)."""

    query_ids: tuple[str, ...]
    measures: tuple[str, ...]
    values: Values

    def __getitem__(self, measure: str) -> Values:
        return self.values[:, self.measures.index(measure)]

    def mean(self) -> dict[str, float]:
        """Return the mean of each measure over the queries."""
        return dict(zip(self.measures, self.values.mean(axis=0).tolist(), strict=True))

    def by_query(self, measure: str) -> dict[str, float]:
        """Return the value of one measure for each query_id."""
        return dict(zip(self.query_ids, self[measure].tolist(), strict=True))

    def only(self, query_ids: Collection[str]) -> "PerQuery":
        """Return the values of these queries alone, in the order they have here."""
        keep = set(query_ids)
        rows = [row for row, query_id in enumerate(self.query_ids) if query_id in keep]
        return PerQuery(tuple(self.query_ids[row] for row in rows), self.measures, self.values[rows])


def relevant_queries(qrels: Qrels) -> tuple[str, ...]:
    """Return the queries with at least one product of a grade above 0."""
    return tuple(query_id for query_id in qrels if any(grade > 0 for grade in qrels[query_id].values()))


def measure(run: Run, qrels: Qrels, measures: Sequence[Measure] = DEFAULT) -> PerQuery:
    """Measure a run, query by query.

    Every query of the qrels counts, as in ir_measures and `trec_eval -c`: one without a relevant product has
    0 in every measure but Judged, whatever the run, so that the best possible mean may lie below 1.

    Args:
        run: the run; queries without qrels are not looked at.
        qrels: the grades.
        measures: measures of `parse_measures`.

    Returns:
        A row for each query of the qrels, a column for each measure.

    Raises:
        InputError: no query of the qrels has a relevant product.
    """
    query_ids = tuple(qrels)
    if not relevant_queries(qrels):
        raise InputError("no query of the qrels has a product of a grade above 0")
    measures = tuple(dict.fromkeys(measures))
    grades = {query_id: dict(qrels[query_id]) for query_id in query_ids}
    values = np.zeros((len(query_ids), len(measures)))
    rows = {query_id: row for row, query_id in enumerate(query_ids)}
    for judged in (False, True):
        plain = {_plain(m): c for c, m in enumerate(measures) if bool(m.params.get("judged_only")) == judged}
        if plain:
            ranks = _ranks(run, grades, depth=_depth(plain), judged=judged)
            for result in ir_measures.evaluator(list(plain), grades).iter_calc(ranks):
                values[rows[result.query_id], plain[result.measure]] = result.value
    return PerQuery(query_ids, tuple(map(str, measures)), values)


def _plain(measure: Measure) -> Measure:
    """Return the measure that judges all products: the run is filtered here, alike for every measure."""
    return measure(judged_only=False) if "judged_only" in measure.params else measure


def _depth(measures: Iterable[Measure]) -> int | None:
    """Return the rank below which no measure looks, None if there is none."""
    cutoffs = [measure.params.get("cutoff") for measure in measures]
    return None if None in cutoffs else max(cutoffs)


def _ranks(
    run: Run, grades: Mapping[str, Mapping[str, int]], *, depth: int | None, judged: bool
) -> dict[str, dict[str, float]]:
    """Return scores that say the order of the run and nothing else: -1 for the first hit, -2..."""
    ranks = {}
    for query_id, products in grades.items():
        hits = run.hits.get(query_id, ())
        kept = [hit.product_id for hit in hits if not judged or hit.product_id in products][:depth]
        if kept:
            ranks[query_id] = {product_id: -float(rank) for rank, product_id in enumerate(kept, start=1)}
    return ranks
