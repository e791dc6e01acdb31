"""What is measured of the running service, in Prometheus' form."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tilth.pipeline import Answer
from tilth.serve.limits import Admission
from tilth.serve.service import Service

_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0)


class Telemetry:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tilth_requests", "Requests by route and status.", ("method", "route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "tilth_request_seconds", "From the first byte to the last.", ("route",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._stages = Histogram(
            "tilth_stage_seconds", "Stages of a search.", ("stage",), buckets=_SECONDS, registry=self.registry
        )
        self._skipped = Counter(
            "tilth_stages_skipped", "Stages that a search left out.", ("stage",), registry=self.registry
        )
        self._answers = Counter(
            "tilth_answers", "Answers: with hits, without any, or nothing fits.", ("outcome",),
            registry=self.registry,
        )  # fmt: skip

    def watch(self, service: Service, searches: Admission, writes: Admission) -> None:
        """Measure a service and its queues at each scrape, too."""
        self.registry.register(_State(service, {"search": searches, "write": writes}))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answer(self, answer: Answer, milliseconds: Mapping[str, float]) -> None:
        """Count an answer and the time of its stages."""
        for stage, spent in milliseconds.items():
            self._stages.labels(stage).observe(spent / 1000)
        for stage in answer.skipped:
            self._skipped.labels(stage).inc()
        fits = answer.decision is None or answer.decision.answered
        self._answers.labels("nothing fits" if not fits else "hits" if answer.hits else "no hits").inc()

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self.registry)


class _State(Collector):
    """What is read when it is asked for."""

    def __init__(self, service: Service, queues: Mapping[str, Admission]) -> None:
        self._service, self._queues = service, queues

    def collect(self) -> Iterator[Metric]:
        health = self._service.health()
        yield _gauge("tilth_ready", "Whether searches can be answered.", float(health["ready"]))
        yield _gauge("tilth_products", "Products that searches see.", health["products"])
        yield _gauge("tilth_generation", "Number of the generation.", health["generation"])
        if health["behind"] is not None:
            yield _gauge("tilth_behind", "Changes that searches do not see yet.", health["behind"])
        running = GaugeMetricFamily("tilth_running", "Requests that are worked on.", labels=("queue",))
        waiting = GaugeMetricFamily("tilth_waiting", "Requests that wait for a place.", labels=("queue",))
        for name, queue in self._queues.items():
            running.add_metric((name,), queue.running)
            waiting.add_metric((name,), queue.queued)
        yield from (running, waiting)
        if self._service.spool is not None:
            counts = CounterMetricFamily("tilth_feedback", "Feedback by what became of it.", labels=("what",))
            for name, count in self._service.spool.counts().items():
                if name == "waiting_bytes":
                    yield _gauge("tilth_feedback_waiting_bytes", "Feedback not yet in the store.", count)
                else:
                    counts.add_metric((name,), count)
            yield counts


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)
