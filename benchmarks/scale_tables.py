"""The tables of scale.py: how costs grow, beside what they are to be, and Tilth beside other libraries."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from record import Figure
from scale_workload import SHARES

OUT = Console(width=max(160, Console().width))


@dataclass(frozen=True, slots=True)
class Target:
    """What a cost is to be at 5,000,000 products on 2 cores."""

    bound: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:,g}"

    def met(self, value: float) -> bool:
        """Tell whether a value satisfies it."""
        return value >= self.bound if self.at_least else value <= self.bound


TARGETS = {
    "index apart from encoding": Target(1_200),
    "encoding": Target(250),
    "peak memory": Target(12),
    "disk": Target(6_000),
    "open": Target(10),
    "resident memory": Target(6),
    "hybrid p50": Target(20),
    "hybrid p99": Target(60),
    "throughput, 2 threads": Target(100, at_least=True),
    "recall@100": Target(0.95, at_least=True),
    "changes in batches": Target(2_000, at_least=True),
    "changes one by one": Target(200, at_least=True),
}


def show_growth(figures: Iterable[Figure]) -> None:
    """Print every cost of Tilth by the number of products, how it grows, and what it is to be."""
    own = [figure for figure in figures if figure["system"] == "Tilth"]
    own.sort(key=lambda figure: (figure["part"], -int(figure["products"])))
    values = {(f["metric"], f["products"]): float(f["value"]) for f in own}
    units = {f["metric"]: f["unit"] for f in own}
    sizes = sorted({size for _, size in values})
    table = Table(title="Tilth by the number of products", caption="growth: largest to smallest")
    for heading in ("", *(f"{size:,}" for size in sizes), "", "growth", "at 5,000,000"):
        table.add_column(heading, justify="left" if not heading else "right")
    targets = TARGETS | filter_targets(values)
    for metric, unit_ in units.items():
        row = [values.get((metric, size)) for size in sizes]
        known = [value for value in row if value is not None]
        grown = f"× {known[-1] / known[0]:.2f}" if len(known) > 1 and known[0] else ""
        table.add_row(metric, *map(shown, row), unit_, grown, judged(targets.get(metric), known[-1]))
    OUT.print(table)


def filter_targets(values: dict[tuple[object, object], float]) -> dict[str, Target]:
    """Return the targets of searches with filters: no worse than without, at the largest size."""
    plain = {size: value for (metric, size), value in values.items() if metric == "hybrid p99"}
    names = [f"filtered {share} {use} p99" for share in SHARES for use in ("first", "repeated")]
    return {name: Target(round(plain[max(plain)], 1)) for name in names if plain}


def judged(target: Target | None, value: float) -> str:
    """Return a target, green where the largest size meets it."""
    return "" if target is None else f"[{'green' if target.met(value) else 'red'}]{target}[/]"


def shown(value: float | None) -> str:
    """Return a value with four digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def show_peers(figures: Iterable[Figure]) -> None:
    """Print all systems at each size at which there are peers."""
    figures = list(figures)
    metrics = list(dict.fromkeys(f["metric"] for f in figures if f["system"] != "Tilth"))
    for size in sorted({int(f["products"]) for f in figures if f["system"] != "Tilth"}):
        here = {(f["system"], f["metric"]): float(f["value"]) for f in figures if f["products"] == size}
        systems = sorted({str(system) for system, _ in here}, key=lambda name: (name != "Tilth", name))
        add_whole_build(here)
        table = Table(title=f"{size:,} products", caption="Peers are given the vectors of queries")
        for heading in ("", *systems):
            table.add_column(heading, justify="left" if not heading else "right")
        for metric in [*metrics, "hybrid without encoding p50", "hybrid without encoding p99"]:
            table.add_row(str(metric), *(shown(here.get((system, metric))) for system in systems))
        OUT.print(table)


def add_whole_build(values: dict[tuple[object, object], float]) -> None:
    """Let Tilth's build be what the peers' is: everything but the encoding."""
    if ("Tilth", "index apart from encoding") in values:
        values["Tilth", "build"] = values["Tilth", "index apart from encoding"]
