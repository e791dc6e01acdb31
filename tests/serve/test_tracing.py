"""Traces: what is sent to a collector, whose trace it is part of, and that nobody waits for a collector."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import tilth
from fakes import WordEncoder
from integrations.running import running, settings_of
from serve.chat_stream import DONE, Reply, event
from serve.chat_stream import serving as chatting
from shop import SHOP, index
from tilth.errors import MissingExtraError
from tilth.serve import tracing as tracing_module
from tilth.serve.tracing import Tracing, tracing_to

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{PARENT}-01"
SECOND = 1_000_000_000  # nanoseconds
START = 1_800_000_000 * SECOND
ROUTE = {"http.request.method": "POST", "http.route": "/v1/search", "http.response.status_code": 200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("traced") / "index"
    index(SHOP, into, WordEncoder())
    return into


def sent_for(headers: dict[str, str], attributes: dict[str, Any] = ROUTE, **more: Any) -> list[ReadableSpan]:
    """The spans of one request that took three seconds; its stages ended after two."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    stages = {"lexical": 500.0, "rerank": 250.0}
    times = {"start": START, "end": START + 3 * SECOND, "stages": stages, "stages_ended": START + 2 * SECOND}
    tracing.request(given, attributes, **(times | more))
    tracing._provider.force_flush()
    spans = list(exporter.get_finished_spans())
    tracing.close()
    return spans


# --- spans ----------------------------------------------------------------------------------------


def test_a_request_is_a_span_with_its_stages_below() -> None:
    *stages, server = sent_for({"traceparent": CALLER, "tracestate": "shop=7"})
    assert (server.name, server.kind) == ("POST /v1/search", SpanKind.SERVER)
    assert dict(server.attributes or {}) == ROUTE
    assert server.resource.attributes["service.name"] == "tilth"
    assert server.resource.attributes["service.version"] == tilth.__version__
    assert (server.start_time, server.end_time) == (START, START + 3 * SECOND)
    assert server.parent is not None
    assert (f"{server.parent.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, PARENT)
    assert server.context.trace_state.get("shop") == "7"
    assert [(each.name, each.start_time, each.end_time) for each in stages] == [
        ("lexical", START + 1_250_000_000, START + 1_750_000_000),
        ("rerank", START + 1_750_000_000, START + 2 * SECOND),
    ]
    assert all(each.parent == server.context for each in stages)


@pytest.mark.parametrize("header", ["", "00-0-0-01", "x" * 60_000, f"00-{'0' * 32}-{PARENT}-01", "\x00\xff"])
def test_without_a_caller_that_can_be_read_a_trace_begins_here(header: str) -> None:
    *_, server = sent_for({"traceparent": header} if header else {})
    assert server.parent is None
    assert server.context.is_valid


def test_a_caller_that_is_not_traced_is_left_alone() -> None:
    assert sent_for({"traceparent": f"00-{TRACE}-{PARENT}-00"}) == []


@pytest.mark.parametrize(
    ("status", "expected"), [(200, StatusCode.UNSET), (422, StatusCode.UNSET), (503, StatusCode.ERROR)]
)
def test_a_fault_of_the_service_is_one_of_its_span(status: int, expected: StatusCode) -> None:
    *_, server = sent_for({}, ROUTE | {"http.response.status_code": status})
    assert server.status.status_code is expected


def test_no_stage_begins_before_its_request() -> None:
    *stages, server = sent_for({}, stages={"lexical": 9_000.0})
    assert [each.start_time for each in stages] == [server.start_time]


# --- a collector ----------------------------------------------------------------------------------


class Collector:
    """What has arrived at a collector."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}/v1/traces"
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.paths: set[str] = set()

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({a.key: a.value.string_value for a in each.resource.attributes})
            self.spans += [span for scope in each.scope_spans for span in scope.spans]

    def below(self, span: Any) -> list[Any]:
        return [each for each in self.spans if each.parent_span_id == span.span_id]

    def of(self, name: str) -> Any:
        (span,) = (each for each in self.spans if each.name == name)
        return span


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def attributes_of(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def traced(endpoint: str, **sections: Any) -> Any:
    return settings_of(tracing={"endpoint": endpoint}, **sections)


def test_searches_of_the_service_arrive_at_a_collector(folder: Path) -> None:
    with collecting() as collector, running(folder, traced(collector.endpoint)) as url:
        asked = {"query": "cow manure"}
        found = httpx.post(f"{url}/v1/search", json=asked, headers={"traceparent": CALLER})
        httpx.post(f"{url}/v1/facets", json={"fields": ["nosuch"]})
        httpx.get(f"{url}/v1/products/m1", headers={"x-request-id": "r7"})
        httpx.get(f"{url}/nothing/here")
    assert collector.paths == {"/v1/traces"}
    assert all(each["service.name"] == "tilth" for each in collector.resources)
    search = collector.of("POST /v1/search")
    assert (search.trace_id.hex(), search.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes_of(search) == ROUTE | {"tilth.request_id": found.headers["x-request-id"]}
    stages = collector.below(search)
    assert [each.name for each in stages] == list(found.json()["milliseconds"])
    assert all(search.start_time_unix_nano <= each.start_time_unix_nano for each in stages)
    assert all(each.end_time_unix_nano <= search.end_time_unix_nano for each in stages)
    facets = attributes_of(collector.of("POST /v1/facets"))
    assert facets["http.response.status_code"] == 422
    product = attributes_of(collector.of("GET /v1/products/{product_id:path}"))
    assert product["tilth.request_id"] == "r7"
    (unknown,) = (each for each in collector.spans if attributes_of(each).get("http.route") == "other")
    assert attributes_of(unknown)["http.response.status_code"] == 404
    assert "cow manure" not in str(collector.spans)


def test_the_stages_of_an_answer_stand_before_its_stream(folder: Path) -> None:
    pause = 0.2
    with collecting() as collector, chatting() as chat:
        chat.replies = [Reply([event("Yes [1]."), event("", "stop"), DONE], pause=pause)]
        settings = settings_of(ask={"url": chat.url, "model": "m1"}, tracing={"endpoint": collector.endpoint})
        with running(folder, settings) as url:
            assert "event: done" in httpx.post(f"{url}/v1/ask", json={"query": "manure"}).text
    answer = collector.of("POST /v1/ask")
    ends = [each.end_time_unix_nano for each in collector.below(answer)]
    assert ends
    assert max(ends) <= answer.end_time_unix_nano - 2 * pause * SECOND


# --- without a collector --------------------------------------------------------------------------


def ends(close: threading.Thread) -> bool:
    """Tell whether something comes to its end by itself."""
    close.start()
    close.join(20.0)
    return not close.is_alive()


@contextmanager
def deaf() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            over.wait()

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1/traces"
    finally:
        over.set()
        listening.shutdown()
        listening.server_close()


def test_a_collector_that_is_not_there_or_deaf_disturbs_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing_module, "_CLOSING", 0.3)
    with collecting() as gone:
        pass
    with deaf() as endpoint:
        for each in (gone.endpoint, endpoint):
            with running(folder, traced(each)) as url:
                for _ in range(20):
                    assert httpx.post(f"{url}/v1/search", json={"query": "manure"}).status_code == 200
                assert httpx.get(f"{url}/health/ready").status_code == 200


class Stuck(SpanExporter):
    """An exporter that never comes back, not even when it is told to."""

    def export(self, spans: Any) -> SpanExportResult:
        threading.Event().wait()
        return SpanExportResult.FAILURE


def test_what_waits_is_bounded_and_closing_ends_whatever_the_exporter_does() -> None:
    tracing = Tracing(Stuck())
    for _ in range(5_000):
        tracing.request([], ROUTE, START, START + SECOND, {}, START)
    (processor,) = tracing._provider._active_span_processor._span_processors
    assert len(processor._batch_processor._queue) <= 2_048
    assert ends(threading.Thread(target=tracing.close, daemon=True))


def test_without_an_endpoint_nothing_of_it_is_loaded(folder: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
import httpx
from integrations.running import running, settings_of
with running(Path({str(folder)!r}), settings_of()) as url:
    assert httpx.post(url + "/v1/search", json={{"query": "manure"}}).status_code == 200
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing_to("") is None
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
        with pytest.raises(MissingExtraError, match=r"tilth\[tracing\]"):
            tracing_to("http://127.0.0.1:4318/v1/traces")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
        with pytest.raises(MissingExtraError, match=r"tilth\[tracing\]"):
            Tracing(InMemorySpanExporter())
