"""Datadog's intake, as far as its API is documented.

Bodies are read with the models of Datadog's own client, so that a body which those do not know is an error and not a point.

    intake.py <where datadog-api-client is> <port> <api key>

GET /seen tells what came, POST /do what the next requests are answered: {"answers": [[status, {header: value}, body], …], "refuse": name, "limit": bytes, "key": key}.
"""

import gzip
import json
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, sys.argv[1])

from datadog_api_client import ApiClient, Configuration  # noqa: E402
from datadog_api_client.v1.model.event_create_request import EventCreateRequest  # noqa: E402
from datadog_api_client.v1.model.service_checks import ServiceChecks  # noqa: E402
from datadog_api_client.v2.model.metric_payload import MetricPayload  # noqa: E402

CLIENT = ApiClient(Configuration(api_key={"apiKeyAuth": "none"}))
MODELS = {"/api/v2/series": MetricPayload, "/api/v1/check_run": ServiceChecks, "/api/v1/events": EventCreateRequest}
LOCK = threading.Lock()
SEEN = []
STATE = {"answers": [], "refuse": None, "limit": 512000, "key": sys.argv[3]}


class Unknown(Exception):
    """A key that the model does not have."""


def known(model, sent):
    """Fails where something was sent that the model has no field or no value for."""
    if getattr(model, "_unparsed", False) or type(model).__name__ == "UnparsedObject":
        raise Unknown(f"no value of {type(model).__name__}: {sent}")
    if isinstance(sent, dict):
        fields = {wire: name for name, wire in type(model).attribute_map.items()}
        for key, value in sent.items():
            if key not in fields:
                raise Unknown(f"{type(model).__name__} has no {key}")
            known(getattr(model, fields[key]), value)
    elif isinstance(sent, list):
        for item, value in zip(getattr(model, "value", model), sent, strict=True):
            known(item, value)


class Intake(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with LOCK:
            self.answer(200, {}, json.dumps(SEEN))

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/do":
            with LOCK:
                STATE.update(json.loads(raw))
            return self.answer(200, {}, "{}")
        with LOCK:
            scripted = STATE["answers"].pop(0) if STATE["answers"] else None
        encoding = self.headers.get("content-encoding")
        body = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[encoding](raw)
        status, headers, words = scripted or self.judge(raw, body)
        text = body.decode()
        with LOCK:
            SEEN.append({"path": self.path, "status": status, "encoding": encoding, "length": len(raw), "body": json.loads(text)})
        self.answer(status, headers, words)

    def judge(self, raw, body):
        if self.headers.get("dd-api-key") != STATE["key"]:
            return 403, {}, '{"errors": ["Forbidden"]}'
        if len(raw) > STATE["limit"] or len(body) > 5242880:
            return 413, {}, '{"errors": ["Payload too large"]}'
        model = MODELS.get(self.path)
        if model is None:
            return 404, {}, '{"errors": ["Not Found"]}'
        try:
            read = CLIENT.deserialize(body.decode(), (model,), True)
            known(read, json.loads(body))
        except Exception as error:  # noqa: BLE001 - whatever the client finds wrong
            return 400, {}, json.dumps({"errors": [f"{type(error).__name__}: {error}"]})
        if STATE["refuse"] and STATE["refuse"] in body.decode():
            return 400, {}, '{"errors": ["a name that is refused"]}'
        return 202, {}, '{"errors": []}'

    def answer(self, status, headers, words):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(words.encode())))
        self.end_headers()
        self.wfile.write(words.encode())

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Intake).serve_forever()
