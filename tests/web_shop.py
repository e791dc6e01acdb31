"""A shop with all that the web page shows: products, releases, a report, pairs to judge, feedback."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import live_service
from fakes import kept_encoder, own_encoder
from live_service import GENEROUS, Live
from shop import index
from tilth.catalog import Price, Product
from tilth.feedback_log import FeedbackLog
from tilth.interactions import Interaction, Served
from tilth.promotions import promote, rollback
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion
from tilth.serve.settings import Settings

WORDS = ["garden", "hose", "green", "red", "blue", "cow", "manure", "секатор", "роз", "шланг"]
HOSTILE = "<img src=x onerror=\"window.hurt='title'\">"
REPORT = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Training</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>:root { --ink: #1b1f23; } body { font-family: sans-serif; } h1 { color: rgb(1, 2, 3); }</style></head>
<body><h1>What was learned</h1><p><a href="#chart">To the chart</a></p>
<p title="a > b" style="color: rgb(4, 5, 6)">The style= of this word stays.</p>
<script>parent.hurt = "report"</script><img src="x" onerror="parent.hurt = 'picture'">
<svg id="chart" width="300" height="120" role="img" aria-label="A chart"><path d="M10 100 L150 30 L290 60"
style="fill: none; stroke: rgb(7, 8, 9); stroke-width: 3"/></svg></body></html>
"""


def _hose(length: int, colour: str, brand: str) -> Product:
    return Product(
        id=f"hose-{length}-{colour}",
        title=f"Garden hose {length} m, {colour}",
        description="Kink-free hose for the garden, with fittings. " * 4,
        brand=brand,
        product_type="Garden > Watering > Hoses",
        price=Price(length + 4.5, "EUR"),
        sale_price=Price(length + 1.0, "EUR") if colour == "red" else None,
        availability="in_stock" if colour != "blue" else "out_of_stock",
        mpn=f"GH-{length}-{colour[0]}",
        item_group_id=f"hose-{length}",
        link=f"https://shop.example/hose/{length}/{colour}",
        image_link=f"https://pictures.example/{length}-{colour}.jpg",
        attributes={"length": f"{length} m", "colour": colour, "frost proof": colour == "green"},
        rating=4.5,
        rating_count=12,
    )


PRODUCTS = [
    *(
        _hose(length, colour, brand)
        for length in (10, 15, 20, 25, 30, 50)
        for colour, brand in (("green", "Rill"), ("red", "Terra"), ("blue", "Rill"))
    ),
    Product(
        id="evil",
        title=f"Garden hose {HOSTILE}",
        brand="<b>Bold</b>",
        description="</p><script>window.hurt='text'</script>",
        link="javascript:window.hurt='link'",
        image_link="data:text/html,<script>1</script>",
        attributes={"<i>name</i>": '"><svg onload="window.hurt=\'value\'">'},
    ),
    Product(id="m1", title="Cow manure 20 kg", brand="Humus", product_type="Garden > Manures"),
    Product(
        id="t1",
        title="Секатор садовый",
        description="Для обрезки роз и кустов.",
        brand="Грядка",
        product_type="Сад > Инструменты > Секаторы",
        price=Price(1290.5, "RUB"),
        availability="preorder",
        link="https://shop.example/secateurs",
        attributes={"материал": "сталь", "длина": "21 см"},
    ),
    Product(
        id="t2",
        title="Шланг поливочный 25 м",
        brand="Грядка",
        product_type="Сад > Полив > Шланги",
        price=Price(1990, "RUB"),
        availability="in_stock",
        attributes={"длина": "25 м"},
    ),
]
_EVIDENCE = {
    "candidate": "reranker", "measure": "nDCG@10", "part": "folds", "queries": 120,
    "systems": {"reranker": {"nDCG@10": 0.712}, "hybrid": {"nDCG@10": 0.663}}, "slices": {},
    "differences": [{"system": "reranker", "baseline": "hybrid", "measure": "nDCG@10", "difference": 0.049,
                     "low": 0.021, "high": 0.078, "p": 0.001, "won": 70, "lost": 31}],
    "latency": {"p50_ms": 1.2, "p99_ms": 4.4},
}  # fmt: skip
_PASSED = {"passed": True, "refusals": [], "in_force": "hybrid"}


def build(folder: Path) -> Path:
    """Build the index into a folder, with releases, of which one was in force for a while."""
    into = folder / "index"
    index(PRODUCTS, into, kept_encoder(WORDS), own=own_encoder([*WORDS, "25", "m"]))
    (folder / "report.html").write_text(REPORT, "utf-8")
    propose(into, fusion=Fusion(weights=(1.0, 0.0)), evidence=_EVIDENCE, report=folder / "report.html")
    propose(into, fusion=Fusion(weights=(0.0, 1.0)), evidence=_EVIDENCE)
    promote(into, "r1", _PASSED, by="ann", why="better by far")
    rollback(into, by="ann", why="too slow")
    return into


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Live]:
    """Serve the shop from a folder while a block runs, with a history of feedback and queries to judge."""
    into, queries = build(folder), folder / "queries.tsv"
    queries.write_text("q1\tgarden hose 25 m\nq2\tсекатор для роз\nq3\tcow manure\n", "utf-8")
    settings = Settings(judging={"queries": str(queries)}, limits=GENEROUS)
    with live_service.running(into, settings) as live:
        _fill(FeedbackLog(live.service.store))
        yield live


def _fill(log: FeedbackLog) -> None:
    """Log two weeks of answers of two arms, some of them clicked."""
    for day in range(14):
        for number in range(20):
            arm, time_ = "ab"[number % 2], datetime(2026, 3, 1 + day, 12, number, tzinfo=UTC)
            served = Served(
                impression_id=f"old-{day}-{number}",
                query="garden hose",
                product_ids=("hose-10-red",),
                time=time_,
                arm=arm,
                release="" if arm == "a" else "r1",
                milliseconds={"lexical": 1.0 + number, "dense": 2.0},
            )
            click = Interaction(
                event_id=f"click-{day}-{number}",
                impression_id=served.impression_id,
                action="click",
                product_id="hose-10-red",
                rank=1,
                time=time_ + timedelta(seconds=9),
            )
            log.append([served], [click] if number < 4 + day // 3 + 6 * (arm == "b") else [])
