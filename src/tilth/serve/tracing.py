"""Traces of requests for OpenTelemetry, by option: a span a request, and below it one a stage of its search.

Spans are made once a request has been answered, of times that were taken anyway, so that no search
waits for them.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tilth
from tilth.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_NAME = "tilth"
_MILLISECOND = 1_000_000  # nanoseconds
_CLOSING = 3.0  # seconds that a collector has to take what waits


class Tracing:
    """Sends spans to a collector; the caller's `traceparent` makes them part of its trace."""

    def __init__(self, exporter: "SpanExporter") -> None:
        """Start to send.

        Args:
            exporter: where to; it is given spans in batches, in a thread of its own.

        Raises:
            MissingExtraError: the extra `tracing` is not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise MissingExtraError("tracing", "tracing") from error
        resource = Resource.create({"service.name": _NAME, "service.version": tilth.__version__})
        self._exporter = exporter
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_NAME, tilth.__version__)
        self._trace, self._propagator = trace, TraceContextTextMapPropagator()

    def request(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        attributes: Mapping[str, Any],
        start: int,
        end: int,
        stages: Mapping[str, float],
        stages_ended: int,
    ) -> None:
        """Send the spans of one request.

        Args:
            headers: of the request.
            attributes: `http.request.method`, `http.route`, `http.response.status_code` and others.
            start: nanoseconds since 1970.
            end: the same.
            stages: milliseconds by stage, in their order, one after the other.
            stages_ended: when the last of them did, as `start`.
        """
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        span = self._tracer.start_span(
            f"{attributes['http.request.method']} {attributes['http.route']}",
            self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=start,
        )
        if attributes["http.response.status_code"] >= 500:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        parent = self._trace.set_span_in_context(span)
        at = max(start, stages_ended - int(sum(stages.values()) * _MILLISECOND))
        for stage, milliseconds in stages.items():
            child = self._tracer.start_span(stage, parent, start_time=at)
            at += int(milliseconds * _MILLISECOND)
            child.end(at)
        span.end(end)

    def close(self) -> None:
        """Send what waits; a collector that does not take it soon goes without."""
        ending = threading.Thread(target=self._provider.shutdown, name="tilth-tracing", daemon=True)
        ending.start()
        ending.join(_CLOSING)
        if ending.is_alive():
            self._exporter.shutdown()


def tracing_to(endpoint: str) -> Tracing | None:
    """Return what sends traces to a collector, None where the settings name none.

    Args:
        endpoint: OTLP over HTTP, such as `http://localhost:4318/v1/traces`; empty for none.

    Returns:
        The tracing.

    Raises:
        MissingExtraError: the extra `tracing` is not installed.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingExtraError("tracing", "tracing") from error
    return Tracing(OTLPSpanExporter(endpoint=endpoint))
