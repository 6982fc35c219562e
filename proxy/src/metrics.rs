//! The self-metrics of a proxy. Names that Veneur's proxies have are kept, with their meaning.

tributary_node::catalogue! {
    // What comes in.
    Counter METRICS_ROUTED = "proxy.metrics_total", tags: [protocol], unit: "metrics",
        meaning: "Metrics taken in and handed to their destinations' queues.",
        worry: "It stands still while agents run: nobody reaches this proxy.";
    Histogram PROXY_DURATION = "proxy.duration_ns", tags: [], unit: "nanoseconds",
        meaning: "How long the metrics of one request, or one stretch of a stream, took to be scanned, looked up and queued.",
        worry: "Above 100 ms: the proxy has too little CPU.";
    Histogram IMPORT_DURATION = "import.duration_ns", tags: [protocol], unit: "nanoseconds",
        meaning: "From a request's arrival to its answer; for stamped metrics that includes the merge at their globals.",
        worry: "Near the agents' forward_timeout: globals are slow or away, and agents send again.";
    Counter IMPORT_ERRORS = "import.errors_total", tags: [protocol, cause], unit: "metrics",
        meaning: "Metrics that were skipped because they cannot be read or routed, while the rest of their request went on.",
        worry: "It grows: somebody sends what no global could merge; the log has an example.";
    Counter REQUESTS_REFUSED = "import.request_error_total", tags: [protocol, cause], unit: "requests",
        meaning: "Requests refused whole, or streams that broke. Causes: deflate, json, unknown_content_encoding, empty, framing, too_large, no_destination, total_full, stream.",
        worry: "no_destination or total_full: senders are turned away. Others: a sender is broken.";
    Counter ACKNOWLEDGED = "import.acknowledged_total", tags: [], unit: "metrics",
        meaning: "Stamped metrics whose senders were told that they are merged.",
        worry: "";
    Counter UNACKNOWLEDGED = "import.unacknowledged_total", tags: [], unit: "metrics",
        meaning: "Stamped metrics whose senders were told that they are not known to be merged; they send them again.",
        worry: "More than a few percent of import.acknowledged_total for minutes: a destination is away or overloaded.";

    // What goes out.
    Counter METRICS_PROXIED = "proxy.proxied_metrics_total", tags: [destination], unit: "metrics",
        meaning: "Metrics delivered to a destination.",
        worry: "0 for one destination while others grow.";
    Counter METRICS_FAILED = "proxy.proxied_metrics_failed", tags: [cause, destination], unit: "metrics",
        meaning: "Metrics lost here. Causes: queue_full, total_full, no_destination, shutdown, or why forwarding failed.",
        worry: "Any increase: these numbers are missing from what the fleet reports.";
    Counter METRICS_RETURNED = "proxy.returned_metrics_total", tags: [cause, destination], unit: "metrics",
        meaning: "Stamped metrics left to their senders, which send them again. Causes: connect, connection, stalled, busy, queue_full, late, retired, shutdown, or why forwarding failed.",
        worry: "It goes on for longer than the agents' forward_retention: then they are lost there.";
    Histogram FORWARD_DURATION = "forward.duration_ns", tags: [], unit: "nanoseconds",
        meaning: "From sending a batch to its destination's answer.",
        worry: "Above a second: a global or the network is overloaded.";
    Histogram CONTENT_LENGTH = "forward.content_length_bytes", tags: [], unit: "bytes",
        meaning: "The size of a delivered batch.",
        worry: "";
    Counter FORWARD_ERRORS = "forward.error_total", tags: [cause, destination], unit: "attempts",
        meaning: "Attempts to connect or to deliver a batch that failed; what became of the metrics is counted elsewhere.",
        worry: "It grows for minutes for one destination: that global is in trouble. For all: look at this proxy's network.";
    Gauge METRICS_BY_DESTINATION = "metrics_by_destination", tags: [destination], unit: "metrics",
        meaning: "Metrics routed to the destination in the last report interval.",
        worry: "One is far above the others: a series, or a few, dominate; see /api/ring for the shares.";
    Gauge BUFFER_SIZE = "forward.buffer_size", tags: [destination], unit: "metrics",
        meaning: "Metrics queued for, or under way to, the destination.",
        worry: "It grows from report to report: the destination does not keep up.";
    Gauge QUEUE_BYTES = "forward.queue_bytes", tags: [destination], unit: "bytes",
        meaning: "Bytes queued for, or under way to, the destination.",
        worry: "Near queue.per_destination: then the oldest are dropped.";
    Gauge QUEUE_BYTES_TOTAL = "forward.queue_bytes_total", tags: [], unit: "bytes",
        meaning: "Bytes in all queues together.",
        worry: "Near queue.total: then what is oldest is dropped, and at last senders are turned away.";
    Gauge AVAILABLE = "forward.available", tags: [destination], unit: "0 or 1",
        meaning: "1 while the destination takes metrics; 0 while senders are not made to wait for it.",
        worry: "0 for longer than a restart takes.";
    Counter UNAVAILABLE = "forward.unavailable_total", tags: [cause, destination], unit: "times",
        meaning: "Times that the destination was found unavailable. Causes: connect, connection, stalled, busy.",
        worry: "Several in an hour for one destination.";
    Histogram UNAVAILABLE_SECONDS = "forward.unavailable_seconds", tags: [], unit: "seconds",
        meaning: "How long a destination had been unavailable when it answered again.",
        worry: "Longer than a restart takes.";
    Counter CONNECTS = "forward.connect", tags: [status], unit: "attempts",
        meaning: "Connections to destinations: success or failed_connect.",
        worry: "failed_connect grows for minutes.";
    Counter DISCONNECTS = "forward.disconnect", tags: [], unit: "connections",
        meaning: "Connections to destinations that ended.",
        worry: "It grows while no global restarts: something between here and there cuts connections.";

    // The ring.
    Gauge RING_GENERATION = "ring.generation", tags: [], unit: "builds",
        meaning: "How often the ring was built.",
        worry: "";
    Gauge RING_DESTINATIONS = "ring.destinations", tags: [], unit: "destinations",
        meaning: "Destinations that have a place on the ring.",
        worry: "0: nothing can be routed. Different between proxies for more than an interval: series are split.";
    Counter RING_CHANGES = "ring.changes_total", tags: [], unit: "changes",
        meaning: "Times that destinations joined or left the ring.",
        worry: "It grows while nobody deploys: a global, or its health check, flaps, and each change moves series.";
}
