"""`tilth judge llm`: pairs of queries and products graded by a language model, into the judgment log."""

import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import ERR, OUT, Bars, print_json, progress_bars
from tilth.errors import InputError, SettingError
from tilth.files import read_rows
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment
from tilth.labelling.chat import Chat, Endpoint, EndpointError, read_key
from tilth.labelling.judge import (
    JudgeSettings,
    Key,
    Pair,
    Prices,
    Result,
    Tally,
    judge_pairs,
    judgments_of,
    known_pairs,
)
from tilth.labelling.judge_calibration import Calibration, calibrate
from tilth.labelling.prompts import Prompt, packaged_prompt, read_prompt
from tilth.qrels import COLUMNS, TREC_COLUMNS, read_qrels
from tilth.query import Query, read_queries
from tilth.retrieval.index import open_store
from tilth.run import read_run
from tilth.store import Store

_CHUNK = 500  # products read from the store at a time
_BATCH, _SECONDS = 20, 2.0  # judgments stored at a time, and how long the first of them may wait
_SHOWN = 100  # failed pairs in the JSON
_NO_LIMIT = math.inf


def llm(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    queries: Annotated[Path, typer.Option(help="TSV: query_id, query.")],
    url: Annotated[str, typer.Option(help="Of the endpoint: http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="Its name there; the judge's name in the log.")],
    pairs: Annotated[Path | None, typer.Option(help="TSV: query_id, product_id; qrels will do.")] = None,
    run: Annotated[Path | None, typer.Option(help="Instead: the first hits of a run, TREC or TSV.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="How many hits a query.")] = 10,
    key_variable: Annotated[
        str | None, typer.Option(help="The environment variable that holds the key; none: no key is sent.")
    ] = None,
    language: Annotated[str, typer.Option(help="Of the prompt: en or ru.")] = "en",
    prompt: Annotated[Path | None, typer.Option(help="Instead: a prompt of your own, TOML.")] = None,
    rpm: Annotated[float, typer.Option(help="Requests a minute, at most.")] = _NO_LIMIT,
    tpm: Annotated[float, typer.Option(help="Tokens a minute, at most.")] = _NO_LIMIT,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 60.0,
    attempts: Annotated[int, typer.Option(min=1, help="At a request that fails.")] = 5,
    corrections: Annotated[int, typer.Option(min=0, help="Of an answer that cannot be used.")] = 2,
    price_in: Annotated[float, typer.Option(help="Of a million tokens of questions.")] = 0.0,
    price_out: Annotated[float, typer.Option(help="Of a million tokens of answers.")] = 0.0,
    most_cost: Annotated[float | None, typer.Option(help="Stop when so much is spent.")] = None,
    calibrate_against: Annotated[
        Path | None, typer.Option(help="Qrels by people, to compare the model's grades with.")
    ] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Grade pairs of queries and products by a language model; what it has graded is not asked again."""
    told = read_prompt(prompt) if prompt else packaged_prompt(language)
    settings = JudgeSettings(
        concurrency, corrections, prices=Prices(price_in, price_out), most_cost=most_cost
    )
    endpoint = Endpoint(
        url, model,
        key=read_key(os.environ, key_variable) if key_variable else "",
        timeout=timeout, attempts=attempts, requests_per_minute=rpm, tokens_per_minute=tpm,
    )  # fmt: skip
    texts = {query.query_id: query for query in read_queries(queries)}
    wanted = _wanted(pairs, run, depth)
    people = read_qrels(calibrate_against) if calibrate_against else None
    with open_store(index, store, create=False) as opened, progress_bars() as bars:
        session = _Session(opened, texts, told, settings)
        report = session.judge(wanted, endpoint, bars)
        found = None
        if people is not None:
            found = calibrate(
                session.grades(model), {(q, p): g for q in people for p, g in people[q].items()}, told.highest
            )
    if as_json:
        print_json({**report, "calibration": found and found.to_json()})
        return
    _print_report(report)
    if found is not None:
        _print_calibration(found)


def _wanted(pairs: Path | None, run: Path | None, depth: int) -> list[Key]:
    """Return the ids of what is to be judged, in the order of the file."""
    if (pairs is None) == (run is None):
        raise SettingError("what is to be judged? Name either --pairs or --run")
    if run is not None:
        ranked = read_run(run).top(depth)
        return [(query_id, hit.product_id) for query_id in ranked for hit in ranked[query_id]]
    return _read_pairs(Path(str(pairs)))


def _read_pairs(path: Path) -> list[Key]:
    names: Sequence[str] = ()
    keys: list[Key] = []
    for line, cells in read_rows(path, delimiter=None):
        if not names:
            header = "query_id" in cells
            names = cells if header else TREC_COLUMNS if len(cells) == len(TREC_COLUMNS) else COLUMNS
            if header:
                continue
        row = dict(zip(names, cells, strict=False))
        key = row.get("query_id", ""), row.get("product_id", "")
        if not all(key):
            raise InputError(
                "a pair needs query_id and product_id",
                path=path, line=line, value=" ".join(cells), remedy="Separate the columns by tabs",
            )  # fmt: skip
        keys.append(key)
    if not keys:
        raise InputError("holds no pairs", path=path)
    return keys


class _Session:
    """One run over a store: what there is to judge, what became of it, and what was known."""

    def __init__(
        self, store: Store, queries: Mapping[str, Query], prompt: Prompt, settings: JudgeSettings
    ) -> None:
        self._store, self._log = store, JudgmentLog(store)
        self._queries, self._prompt, self._settings = queries, prompt, settings
        self._tally = Tally()
        self._missing = Counter(queries=0, products=0)
        self._failures: list[Result] = []

    def judge(self, wanted: list[Key], endpoint: Endpoint, bars: Bars) -> dict[str, Any]:
        """Judge what is not known yet, store it as it comes, and return the summary."""
        begun = time.monotonic()
        known = known_pairs(self._judgments(endpoint.model), self._queries.values())
        with (
            Chat(endpoint) as chat,
            closing(
                judge_pairs(
                    self._pairs(wanted), chat, self._prompt,
                    known=known, settings=self._settings, tally=self._tally,
                )
            ) as results,
        ):  # fmt: skip
            try:
                self._keep(self._told(results, len(wanted), bars))
            except EndpointError:
                ERR.print(f"{self._tally.judged:,} were judged before, and are stored")
                raise
        self._check_found(wanted)
        return {
            "judge": endpoint.model,
            "prompt": self._prompt.version,
            **self._tally.to_json(),
            "missing": dict(self._missing),
            "requests": chat.requests,
            "seconds": round(time.monotonic() - begun, 3),
            "failures": [_failure(result) for result in self._failures],
        }

    def grades(self, model: str) -> dict[Key, int]:
        """Return the model's grades of the queries as they are, the latest of each pair."""
        return {
            (judgment.query_id, judgment.product_id): judgment.grade
            for judgment in self._judgments(model)
            if (query := self._queries.get(judgment.query_id)) and query.text == judgment.query
        }

    def _judgments(self, model: str) -> Iterator[Judgment]:
        return judgments_of((judgment for _, judgment in self._log.judgments()), model, self._prompt)

    def _pairs(self, wanted: list[Key]) -> Iterator[Pair]:
        rest = iter(wanted)
        while keys := list(islice(rest, _CHUNK)):
            products = self._store.products(list(dict.fromkeys(product_id for _, product_id in keys)))
            for query_id, product_id in keys:
                self._missing["queries"] += query_id not in self._queries
                self._missing["products"] += query_id in self._queries and product_id not in products
                if query_id in self._queries and product_id in products:
                    yield Pair(self._queries[query_id], products[product_id])

    def _told(self, results: Iterable[Result], total: int, bars: Bars) -> Iterator[Result]:
        bars("judging", 0, total)
        for result in results:
            if result.judgment is None and len(self._failures) < _SHOWN:
                self._failures.append(result)
            passed = self._tally.judged + self._tally.failed + self._tally.skipped
            bars("judging", passed + self._missing.total(), total)
            yield result

    def _keep(self, results: Iterable[Result]) -> None:
        """Store judgments, a few at a time; whatever ends the run, those that are there are stored."""
        batch: list[Judgment] = []
        since = time.monotonic()
        try:
            for result in results:
                if result.judgment is not None:
                    batch.append(result.judgment)
                if len(batch) >= _BATCH or time.monotonic() - since >= _SECONDS:
                    self._log.append(batch)
                    batch, since = [], time.monotonic()
        finally:
            self._log.append(batch)

    def _check_found(self, wanted: list[Key]) -> None:
        if self._missing.total() == len(wanted):
            raise InputError(
                f"none of the {len(wanted)} pairs can be judged: of {self._missing['queries']} the query is "
                f"not in --queries, of {self._missing['products']} the product is not in the store",
                remedy="Check that these files are of this index",
            )  # fmt: skip


def _failure(result: Result) -> dict[str, str]:
    query_id, product_id = result.pair.key
    return {"query_id": query_id, "product_id": product_id, "cause": result.cause}


def _print_report(report: Mapping[str, Any]) -> None:
    OUT.print(
        f"{report['judged']:,} judged by {report['judge']} (prompt {report['prompt']}), "
        f"{report['failed']:,} failed, {report['skipped']:,} skipped",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    guessed = f" ({report['estimated']:,} answers guessed)" if report["estimated"] else ""
    OUT.print(
        f"{report['requests']:,} requests, "
        f"{report['tokens_in']:,} + {report['tokens_out']:,} tokens{guessed}, cost {report['cost']:.4f}, "
        f"{report['seconds']:,.1f} seconds",
        soft_wrap=True,
    )
    if report["stopped_by_cost"]:
        OUT.print("stopped: the limit of cost is reached; the same command with a higher one goes on")
    for what, count in report["missing"].items():
        if count:
            ERR.print(f"{count:,} pairs left out: their {what} are not known", soft_wrap=True)
    for failure in report["failures"][:5]:
        ERR.print(
            f"failed: {failure['query_id']} {failure['product_id']}: {failure['cause']}",
            soft_wrap=True, markup=False,
        )  # fmt: skip


def _print_calibration(found: Calibration) -> None:
    kappas = " ".join(
        f"{name} {_number(value)}"
        for name, value in (("kappa", found.kappa), ("weighted kappa", found.kappa_weighted))
    )
    OUT.print(f"against people, {found.pairs:,} pairs: accuracy {_number(found.accuracy)}, {kappas}")
    table = Table(box=None, pad_edge=False, title="people (down) and model (across)", title_justify="left")
    columns = ("", *map(str, range(len(found.grades))), "precision", "recall")
    for column in columns:
        table.add_column(column, justify="right")
    for grade, (row, quality) in enumerate(zip(found.confusion, found.grades, strict=True)):
        shares = (asdict(quality)[name] for name in ("precision", "recall"))
        table.add_row(str(grade), *(f"{count:,}" for count in row), *map(_number, shares))
    OUT.print(table)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
