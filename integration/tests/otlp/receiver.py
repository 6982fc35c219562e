"""A receiver of OTLP by the published messages, over gRPC and HTTP. Prints its two addresses, and then each metric that comes as a line of JSON."""
import gzip
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as services

lock = threading.Lock()


def take(way, request):
    with lock:
        for resource in request.resource_metrics:
            of_resource = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found = {"way": way, "resource": of_resource, "scope": scope.scope.name, "metric": MessageToDict(metric)}
                    print(json.dumps(found), flush=True)


class Service(services.MetricsServiceServicer):
    def Export(self, request, context):
        assert dict(context.invocation_metadata())["tenant"] == "blue"
        take("grpc", request)
        return service.ExportMetricsServiceResponse()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/metrics" and self.headers["content-type"] == "application/x-protobuf", self.headers
        assert self.headers["content-encoding"] == "gzip" and self.headers["tenant"] == "blue", self.headers
        take("http", service.ExportMetricsServiceRequest.FromString(gzip.decompress(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = grpc.server(ThreadPoolExecutor(4))
services.add_MetricsServiceServicer_to_server(Service(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps([f"127.0.0.1:{port}", f"127.0.0.1:{http.server_port}"]), flush=True)
threading.Thread(target=http.serve_forever, daemon=True).start()
sys.stdin.read()
