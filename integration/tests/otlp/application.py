"""An application with OpenTelemetry's SDK: reports through every exporter with every preference, and ends once all of it has arrived.

application.py ADDRESS...    each for gRPC and HTTP alike
"""
import sys

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

DELTA = {kind: AggregationTemporality.DELTA for kind in (Counter, Histogram, ObservableCounter)}
address = sys.argv[1]


def exporters():
    for way, make in [
        ("grpc", lambda **more: Grpc(endpoint=f"http://{address}", insecure=True, **more)),
        ("http", lambda **more: Http(endpoint=f"http://{address}/v1/metrics", compression=HttpCompression.Gzip, **more)),
    ]:
        yield f"{way}.cumulative", make()
        yield f"{way}.delta", make(preferred_temporality=DELTA)


for prefix, exporter in exporters():
    provider = MeterProvider(
        resource=Resource.create({"service.name": "shop", "service.instance.id": "i-1"}),
        metric_readers=[PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)],
        views=[View(instrument_name="*.exponential", aggregation=ExponentialBucketHistogramAggregation())],
    )
    meter = provider.get_meter("test")
    orders = meter.create_counter(f"{prefix}.orders")
    stock = meter.create_up_down_counter(f"{prefix}.stock")
    load = meter.create_gauge(f"{prefix}.load")
    latency = meter.create_histogram(f"{prefix}.latency", unit="ms")
    size = meter.create_histogram(f"{prefix}.exponential", unit="By")
    for turn in range(2):
        orders.add(5 + turn, {"env": "prod"})
        stock.add(10 - 13 * turn, {"env": "prod"})
        load.set(0.25 + turn, {"env": "prod"})
        for value in (1, 5, 20, 100, 300, 3000):
            latency.record(value, {"env": "prod"})
        for value in range(1, 1001):
            size.record(value, {"env": "prod"})
        assert provider.force_flush(30_000), prefix
    provider.shutdown()
