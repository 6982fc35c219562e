//! The self-metrics of an aggregator. Names that Veneur's servers have are kept, with their meaning.

tributary_node::catalogue! {
    // Sources.
    Counter RECEIVED = "listen.received_per_protocol_total", tags: [protocol], unit: "lines",
        meaning: "Lines and pickled items read by listeners, good and bad.",
        worry: "It stands still while applications run.";
    Counter PACKET_ERRORS = "packet.error_total", tags: [packet_type, reason], unit: "lines",
        meaning: "Lines, datagrams, pickled items or frames that were not taken, by what is wrong with them.",
        worry: "It grows: an application sends what cannot be read; the log has an example.";
    Counter KERNEL_DROPPED = "listen.kernel_dropped_total", tags: [protocol], unit: "datagrams",
        meaning: "Datagrams for which the kernel had no room.",
        worry: "Any increase: samples are missing. Raise read_buffer_size_bytes or num_readers.";
    Counter RECEIVE_ERRORS = "listen.receive_errors_total", tags: [protocol], unit: "calls",
        meaning: "Calls in which the system could not hand over datagrams.",
        worry: "It grows.";
    Counter CONNECTIONS_REFUSED = "listen.connections_refused_total", tags: [protocol, reason], unit: "connections",
        meaning: "Peers that wanted to connect to a listener and could not.",
        worry: "It grows: too many connections are open, or the process has too few file descriptors.";
    Counter CONNECTED = "tcp.connects", tags: [protocol], unit: "connections",
        meaning: "Connections to stream listeners that were opened.",
        worry: "";
    Counter DISCONNECTED = "tcp.disconnects", tags: [protocol, reason], unit: "connections",
        meaning: "Connections to stream listeners that ended, and why.",
        worry: "";

    Counter CARBON_POINTS = "carbon.points_total", tags: [protocol], unit: "points",
        meaning: "Points that sources of the kind carbon took.",
        worry: "It stands still while something sends to carbon's ports.";
    Counter POINTS_PASSED = "source.points_passed_total", tags: [], unit: "points",
        meaning: "Finished points that sources took and handed to the sinks as they are.",
        worry: "It stands still while a source that passes points through is in use.";

    // History.
    Gauge HISTORY_SERIES = "history.series", tags: [], unit: "series",
        meaning: "Series of which the recent history is kept.",
        worry: "";
    Gauge HISTORY_BYTES = "history.bytes", tags: [], unit: "bytes",
        meaning: "What the recent history takes.",
        worry: "Near history.max_bytes: then series are evicted.";
    Counter HISTORY_POINTS = "history.points_total", tags: [], unit: "points",
        meaning: "Points that went into the recent history.",
        worry: "It stands still while points are emitted and a history is configured.";
    Counter HISTORY_DROPPED = "history.points_dropped_total", tags: [cause], unit: "points",
        meaning: "Points that are not in the recent history: late (older than its retention), future (10 minutes ahead of the clock), path_too_long. The sinks get them all the same.",
        worry: "It grows: clocks are wrong, or points come later than history.retention.";
    Counter HISTORY_EVICTED = "history.series_evicted_total", tags: [cause], unit: "series",
        meaning: "Series that the recent history has forgotten: expired (nothing came for its whole retention), or max_bytes, the least recently written first.",
        worry: "max_bytes grows: raise history.max_bytes, or keep it shorter.";
    Counter HISTORY_QUERIES = "history.queries_total", tags: [outcome], unit: "requests",
        meaning: "Questions to the recent history: answered, refused, too_large, too_long, or busy (there were too many at once).",
        worry: "busy grows: dashboards ask more than one aggregator can answer.";
    // Flux.
    Counter FLUX_REQUESTS = "flux.requests_total", tags: [outcome], unit: "requests",
        meaning: "Requests that were answered. Outcomes: taken (2xx), partly (207) or refused.",
        worry: "";
    Counter FLUX_REFUSED = "flux.requests_refused_total", tags: [cause], unit: "requests",
        meaning: "Requests of which nothing was taken, by what is wrong with them. Causes: invalid_key, no_key, invalid_json, no_data, invalid_parameters, invalid_timestamp, invalid_value, metric_name, over_quota, too_large, too_many_metrics, unknown_content_encoding, slow, cut_off, method, not_found, unknown_question, invalid_upload, invalid_populate, busy, leaving, internal.",
        worry: "It grows: a sender has to be set right; its answers say how.";
    Counter FLUX_POINTS = "flux.points_total", tags: [fate], unit: "points",
        meaning: "Points of requests, by what became of them: passed to the sinks, or aggregated, filled (of our own making, into gaps), already_received, or dropped because they are over_quota, non_numeric, late, of an invalid_timestamp, with no_host or have no good metric_name.",
        worry: "What is dropped grows: a sender has to be set right; its answers name the metrics.";
    Gauge FLUX_MARKS = "flux.marks", tags: [], unit: "metrics",
        meaning: "Metrics whose last timestamp is known.",
        worry: "Near 1,000,000: points of further metrics are not de-duplicated.";
    Counter FLUX_UNMARKED = "flux.unmarked_total", tags: [], unit: "points",
        meaning: "Points that were passed on unchecked, because too many metrics are known.",
        worry: "Any increase: a sender makes up new names all the time.";
    Counter FLUX_KEEP_ERRORS = "flux.keep_errors_total", tags: [cause], unit: "calls",
        meaning: "Calls in which marks could not be written or read. Causes: state_dir, redis. What could not be written is tried again.",
        worry: "It grows: the disk is full or Redis is away; repeats may be stored twice after a restart, or at another instance.";

    // Source kafka.
    Counter KAFKA_MESSAGES = "kafka.messages_total", tags: [source_name, topic], unit: "messages",
        meaning: "Messages that were read, by the key of `topics` that asked for them. What is read again counts again.",
        worry: "It stands still while kafka.lag is not 0: look at kafka.brokers_up, and at kafka.partitions for paused ones.";
    Counter KAFKA_BYTES = "kafka.bytes_total", tags: [source_name, topic], unit: "bytes",
        meaning: "What was in those messages, without their keys and headers.",
        worry: "";
    Gauge KAFKA_LAG = "kafka.lag", tags: [source_name, topic], unit: "messages",
        meaning: "Messages in the partitions of this member that are not committed yet, as of the last seconds.",
        worry: "It grows for minutes: a sink, or the proxies that metric-list goes to, are away or slow, or the group needs more members.";
    Counter KAFKA_POISON = "kafka.poison_total", tags: [source_name, topic, cause], unit: "messages or lines",
        meaning: "Messages, or lines of them, that cannot be read, by what is wrong. They count as done.",
        worry: "It grows: somebody writes what is not of the topic's format; the log and the dead letters have it.";
    Counter KAFKA_DEAD_LETTERS = "kafka.dead_letters_total", tags: [source_name, outcome], unit: "letters",
        meaning: "Unreadable messages or lines written to the dead letters, or failed, which is tried again.",
        worry: "failed grows: reading stands still until they can be written.";
    Counter KAFKA_REFUSED = "kafka.points_refused_total", tags: [source_name], unit: "points",
        meaning: "Points of messages that a sink's service refused for good, at most: where it does not say which, all those written together; and forwarded metrics that were. They count as done.",
        worry: "It grows: the sink's log, or the forwarder's, has the service's words.";
    Counter KAFKA_READ_AGAIN = "kafka.messages_read_again_total", tags: [source_name], unit: "messages",
        meaning: "Messages of which a sink lost points for want of room, at least, or whose metrics no proxy took within forward_retention; they are read again.",
        worry: "Any increase: a sink's queue_points is below max_in_flight of the source, or proxies are away.";
    Counter KAFKA_COMMITS = "kafka.commits_total", tags: [source_name, outcome], unit: "commits",
        meaning: "Commits of offsets, ok or failed; what failed is tried again.",
        worry: "failed grows, or ok stands still while messages are read: after a restart much is read again.";
    Counter KAFKA_REBALANCES = "kafka.rebalances_total", tags: [source_name, event], unit: "times",
        meaning: "Times that partitions were assigned, revoked in order, or lost because the group thought us dead.",
        worry: "lost: this member was silent for session_timeout. All of it grows steadily: members come and go.";
    Gauge KAFKA_PARTITIONS = "kafka.partitions", tags: [source_name, state], unit: "partitions",
        meaning: "Partitions that are assigned to this member, and those of them that are paused because max_in_flight is reached.",
        worry: "paused for minutes: a sink, or the proxies, do not take what is read. assigned is 0 everywhere: the topics do not exist.";
    Gauge KAFKA_IN_FLIGHT = "kafka.in_flight", tags: [source_name, unit], unit: "messages or points",
        meaning: "Messages, and points or forwarded metrics in them, that are not written by every sink, or merged by globals, yet.",
        worry: "Near max_in_flight for minutes.";
    Gauge KAFKA_BROKERS_UP = "kafka.brokers_up", tags: [source_name], unit: "brokers",
        meaning: "Brokers that there is a connection to.",
        worry: "0: no broker answers.";
    Counter KAFKA_ERRORS = "kafka.errors_total", tags: [source_name, cause], unit: "errors",
        meaning: "What librdkafka complains of: all_brokers_down, transport, name, tls, not_allowed, unknown_topic, poll_interval, fetch, seek, pause, rebalance, consumer (it failed for good, and is made anew), leave, unexpected_topic, other.",
        worry: "It grows: the log has the words.";
    // OTLP.
    Counter OTLP_REQUESTS = "otlp.requests_total", tags: [protocol, outcome], unit: "requests",
        meaning: "Requests to sources of the kind otlp by how they ended: taken, partly (some data points were refused), malformed, too_large, content_type, content_encoding, slow, cut_off, busy, broken.",
        worry: "Another outcome than taken grows: a sender has to be set right; its answers and the log say how.";
    Counter OTLP_TAKEN = "otlp.data_points_total", tags: [type], unit: "data points",
        meaning: "Data points that were taken, by type: gauge, sum, histogram, exponential_histogram, summary.",
        worry: "It stands still while applications run.";
    Counter OTLP_SKIPPED = "otlp.data_points_skipped_total", tags: [cause], unit: "data points",
        meaning: "Data points that bring nothing: no_recorded_value, first (of a cumulative series that had begun before this source; the next has something to be compared with), late (older than the last of its series, or sent again).",
        worry: "late grows all the time: two senders write one series, or clocks are wrong.";
    Counter OTLP_REFUSED = "otlp.data_points_refused_total", tags: [cause], unit: "data points",
        meaning: "Data points that were refused: not_finite, no_value, no_data, temporality (it is not told), buckets (counts and bounds that disagree), max_series, or why the table does not take them.",
        worry: "It grows: a sender has to be set right; its answers say how. max_series: raise it, or fewer series.";
    Gauge OTLP_STREAMS = "otlp.cumulative_series", tags: [], unit: "series",
        meaning: "Cumulative series whose last value is remembered.",
        worry: "Near max_series of the source.";

    // Table.
    Counter PROCESSED = "worker.metrics_processed_total", tags: [], unit: "samples",
        meaning: "Samples that were aggregated, without those imported.",
        worry: "It stands still while applications run.";
    Gauge SERIES = "table.series", tags: [], unit: "series",
        meaning: "Series in the last interval.",
        worry: "Near max_series: beyond it new series lose their tags.";
    Counter FOLDED = "table.folded_total", tags: [], unit: "samples",
        meaning: "Samples and imported metrics that lost their tags because max_series was reached.",
        worry: "Any increase: a tag explodes. The log names the metrics with the most series.";
    Counter SERIES_FOLDED = "table.series_folded_total", tags: [], unit: "series",
        meaning: "Series that lost their tags because max_series was reached.",
        worry: "Any increase: a tag explodes. The log names the metrics with the most series.";
    Counter EVENTS_DROPPED = "worker.events_dropped_total", tags: [cause], unit: "events",
        meaning: "Events that were dropped because an interval holds no more.",
        worry: "Any increase: an application floods the tier with events.";

    // Import.
    Counter IMPORTED = "worker.metrics_imported_total", tags: [], unit: "metrics",
        meaning: "Forwarded metrics that were merged.",
        worry: "At a global it stands still: it gets nothing from the proxies.";
    Counter REPEATED = "import.repeated_total", tags: [], unit: "metrics",
        meaning: "Metrics that were sent again and had been merged before; they were merged once.",
        worry: "More than a few percent of worker.metrics_imported_total: answers get lost or come too late.";
    Counter IMPORT_ERRORS = "import.errors_total", tags: [cause], unit: "metrics",
        meaning: "Metrics that were skipped at import, while the rest of their request went on.",
        worry: "It grows: somebody forwards what cannot be merged; the log has the causes.";
    Counter REQUESTS_REFUSED = "import.request_error_total", tags: [protocol, cause], unit: "requests",
        meaning: "Import requests refused whole, or streams that broke. Causes: deflate, json, unknown_content_encoding, empty, too_large, leaving, broken, or why it is no frame.",
        worry: "It grows while nothing restarts.";
    Gauge DEDUP_BYTES = "import.dedup_bytes", tags: [], unit: "bytes",
        meaning: "Memory that remembers what was merged, roughly.",
        worry: "It grows for hours: agents restart all the time, or there are more of them than memory was planned for.";
    Gauge DEDUP_ORIGINS = "import.dedup_origins", tags: [], unit: "senders",
        meaning: "Senders whose merged metrics are remembered.",
        worry: "Far above the number of agents: they restart all the time.";

    // Flush.
    Histogram FLUSH_DURATION = "flush.total_duration_ns", tags: [], unit: "nanoseconds",
        meaning: "How long a flush took until its points were with the sinks' queues.",
        worry: "Near the interval.";
    Gauge FLUSH_TIMESTAMP = "flush.flush_timestamp_ns", tags: [], unit: "nanoseconds",
        meaning: "When the last flush was, in Unix time.",
        worry: "Several intervals ago: nothing comes out.";
    Counter METRICS_FLUSHED = "worker.metrics_flushed_total", tags: [metric_type], unit: "series",
        meaning: "Series flushed, by type.",
        worry: "";
    Counter OTHER_SAMPLES_FLUSHED = "worker.other_samples_flushed_total", tags: [], unit: "events",
        meaning: "Events flushed.",
        worry: "";
    Counter UNIQUE_TIMESERIES = "flush.unique_timeseries_total", tags: [global_veneur], unit: "series",
        meaning: "Series that end here; only with count_unique_timeseries.",
        worry: "";
    Counter POINTS_DROPPED = "flush.points_dropped_total", tags: [cause], unit: "points",
        meaning: "Points that were made no point of because their value is NaN or infinite.",
        worry: "It grows: an application sends such values.";

    // Forwarding.
    Gauge FORWARD_METRICS = "forward.metrics_total", tags: [], unit: "metrics",
        meaning: "Metrics that the last flush forwards.",
        worry: "0 at an agent that takes histograms or sets.";
    Counter FORWARDED = "forward.post_metrics_total", tags: [], unit: "metrics",
        meaning: "Metrics that were forwarded and are merged, or accepted where nobody says more.",
        worry: "It stands still while forward.metrics_total is not 0.";
    Histogram FORWARD_DURATION = "forward.duration_ns", tags: [part], unit: "nanoseconds",
        meaning: "From sending a batch to its answer.",
        worry: "Near forward_timeout.";
    Counter FORWARD_ERRORS = "forward.error_total", tags: [cause], unit: "attempts",
        meaning: "Attempts to forward a batch that failed; whether its metrics are lost is another counter's.",
        worry: "It grows for minutes: proxies, or the globals behind them, are away.";
    Counter RETRIED = "forward.retried_metrics_total", tags: [], unit: "metrics",
        meaning: "Metrics of failed attempts that are sent again.",
        worry: "It grows for minutes, together with forward.backlog_bytes.";
    Counter LOST = "forward.lost_metrics_total", tags: [cause], unit: "metrics",
        meaning: "Metrics that were not forwarded and never will be. Causes: retention_time, retention_bytes, too_large, busy, shutdown, unknown_outcome, refused.",
        worry: "Any increase: these are missing from what the fleet reports.";
    Counter ACKS_UNREADABLE = "forward.unreadable_acknowledgements_total", tags: [], unit: "answers",
        meaning: "Answers whose word on what was merged cannot be read; all of the batch is sent again.",
        worry: "Any increase: a proxy or a load balancer changes answers.";
    Gauge BACKLOG_METRICS = "forward.backlog_metrics", tags: [], unit: "metrics",
        meaning: "Metrics that wait to be forwarded or are under way.",
        worry: "It grows from flush to flush.";
    Gauge BACKLOG_BYTES = "forward.backlog_bytes", tags: [], unit: "bytes",
        meaning: "What those take.",
        worry: "Near forward_retention.bytes: then the oldest are lost.";
    Gauge DESTINATIONS = "forward.destinations", tags: [], unit: "destinations",
        meaning: "Proxies (or globals) that discovery has named to forward to.",
        worry: "It is lower than the number of proxies you run.";
    Gauge DESTINATION_UP = "forward.destination_up", tags: [destination], unit: "0 or 1",
        meaning: "1 while a forward address answers.",
        worry: "0 for longer than a restart takes; all of them 0: nothing is forwarded.";
    Counter HANDED_OFF = "handoff.metrics_total", tags: [outcome], unit: "metrics",
        meaning: "Metrics of the open interval that a leaving global handed to their new owners: taken, emitted here because nobody took them, or lost.",
        worry: "lost; emitted means that some series have two points for that interval.";

    // Sinks.
    Counter FLUSHED_METRICS = "flushed_metrics", tags: [sink_name, sink_kind, status], unit: "points",
        meaning: "Points of each flush by what was decided for the sink: flushed, skipped by routing, max_name_length, max_tag_length, max_tags, not_finite.",
        worry: "A status other than flushed and skipped grows: points are held back by the sink's limits.";
    Counter SINK_METRICS_FLUSHED = "sink.metrics_flushed_total", tags: [sink_name, sink_kind], unit: "points",
        meaning: "Points that the sink has written.",
        worry: "It stands still while flushed_metrics grows.";
    Counter SINK_METRICS_SKIPPED = "sink.metrics_skipped_total", tags: [sink_name, sink_kind], unit: "points",
        meaning: "Points that the sink has no way to carry.",
        worry: "";
    Counter SINK_METRICS_DROPPED = "sink.metrics_dropped_total", tags: [sink_name, sink_kind, reason], unit: "points",
        meaning: "Points that were meant for the sink and are lost: queue_full, write_error, shutdown.",
        worry: "Any increase: the sink's service misses points.";
    Gauge SINK_QUEUE_FILL = "sink.queue_fill_ratio", tags: [sink_name, sink_kind], unit: "ratio",
        meaning: "What still waits for the sink when the next points come, as a share of its queue_points.",
        worry: "It grows: the sink's service is slower than the points come, or away. At 1 the oldest are lost.";
    Counter SINK_EVENTS_FLUSHED = "sink.events_flushed_total", tags: [sink_name, sink_kind], unit: "events",
        meaning: "Events that the sink has written.",
        worry: "";
    Counter SINK_EVENTS_SKIPPED = "sink.events_skipped_total", tags: [sink_name, sink_kind], unit: "events",
        meaning: "Events that the sink does not carry.",
        worry: "";
    Counter SINK_EVENTS_DROPPED = "sink.events_dropped_total", tags: [sink_name, sink_kind, reason], unit: "events",
        meaning: "Events that were meant for the sink and are lost: queue_full, write_error, shutdown.",
        worry: "Any increase.";
    Histogram SINK_DURATION = "sink.metric_flush_total_duration_ms", tags: [sink_name, sink_kind], unit: "milliseconds",
        meaning: "How long one write took.",
        worry: "Near the interval: points gather in the sink's queue.";
    Counter SINK_ERRORS = "sink.write_errors_total", tags: [sink_name, sink_kind, retriable], unit: "writes",
        meaning: "Writes that failed, by whether the batch is kept and written again.",
        worry: "It grows for minutes: the sink's service is away or refuses us; the log has its answer.";
    Counter FILE_REOPENED = "sink.file_reopened_total", tags: [sink_name, sink_kind], unit: "times",
        meaning: "Times that a file was found rotated away and opened anew.",
        worry: "";

    // Sink blueflood.
    Counter BLUEFLOOD_REQUESTS = "sink.blueflood.requests_total", tags: [sink_name, outcome], unit: "requests",
        meaning: "Ingest requests to Blueflood by how they ended: stored, accepted (202, storing goes on), partial (207), refused (400), too_large (413), unauthorized (401, 403), throttled (429), unavailable (5xx), unexpected, timeout, unreachable, invalid.",
        worry: "Another outcome than stored grows for minutes: the log has Blueflood's words.";
    Counter BLUEFLOOD_REFUSED = "sink.blueflood.points_refused_total", tags: [sink_name, cause], unit: "points",
        meaning: "Points that Blueflood refused for good: metric_name, collection_time, ttl, metric_value, other (it could not store them), unnamed (a request with them is refused), too_large.",
        worry: "It grows: these points are lost; the log has an example and Blueflood's words.";
    Counter BLUEFLOOD_REPEATED = "sink.blueflood.points_repeated_total", tags: [sink_name], unit: "points",
        meaning: "Points that are sent again because Blueflood said that it could not store them.",
        worry: "It grows for minutes.";
    Counter BLUEFLOOD_LOGINS = "sink.blueflood.logins_total", tags: [sink_name, outcome], unit: "logins",
        meaning: "Logins at Keystone by how they ended: ok, file (the key cannot be read), refused, throttled, unavailable, unreadable, timeout, unreachable.",
        worry: "Another outcome than ok grows: once the token has ended, points wait. ok every few seconds: Blueflood refuses the tokens.";

    // Sink kafka.
    Counter SINK_KAFKA_MESSAGES = "sink.kafka.messages_total", tags: [sink_name, outcome], unit: "messages",
        meaning: "Messages to Kafka by how they ended: delivered (all replicas in sync have it), failed (it is written again), refused for good.",
        worry: "failed grows for minutes: the cluster is away or too slow. refused grows: those points are lost; the log has the broker's words.";
    Gauge SINK_KAFKA_BROKERS_UP = "sink.kafka.brokers_up", tags: [sink_name], unit: "brokers",
        meaning: "Brokers that there is a connection to.",
        worry: "0: no broker answers.";
    Counter SINK_KAFKA_ERRORS = "sink.kafka.errors_total", tags: [sink_name, cause], unit: "errors",
        meaning: "What librdkafka complains of: all_brokers_down, transport, name, tls, not_allowed, unknown_topic, other.",
        worry: "It grows: the log has the words.";
    // Sink influxdb.
    Counter INFLUXDB_REQUESTS = "sink.influxdb.requests_total", tags: [sink_name, outcome], unit: "requests",
        meaning: "Writes to InfluxDB by how they ended: stored, partial (stored but for some lines), refused (400, 422), too_large (413), denied (401, 403, 404), throttled (429), unavailable (5xx), unexpected, timeout, unreachable, invalid, no_secret (the file with it cannot be read).",
        worry: "Another outcome than stored grows for minutes: the log has InfluxDB's words.";
    Counter INFLUXDB_REFUSED = "sink.influxdb.points_refused_total", tags: [sink_name, cause], unit: "points",
        meaning: "Points and events that InfluxDB refused for good: partial (the rest of the request is stored), refused (each request with them is), too_large.",
        worry: "It grows: these points are lost; the log has an example and InfluxDB's words.";
    Counter INFLUXDB_CHANGED = "sink.influxdb.texts_changed_total", tags: [sink_name, cause], unit: "texts",
        meaning: "Names and tags that line protocol cannot carry as they are: character (one became _), reserved (a key got a _ at its end), no_key (a tag without a key was left out), repeated (a tag was left out whose key another has).",
        worry: "It grows, and series look alike that should not.";
    // Sink otlp.
    Counter OTLP_SENT = "sink.otlp.requests_total", tags: [sink_name, outcome], unit: "requests",
        meaning: "Requests to an OTLP receiver by how they ended: taken, partly (some data points were rejected), later (no answer, or one to try again), refused.",
        worry: "Another outcome than taken grows for minutes: the log has the receiver's words.";
    Counter OTLP_REJECTED = "sink.otlp.data_points_rejected_total", tags: [sink_name], unit: "data points",
        meaning: "Data points that an OTLP receiver rejected for good.",
        worry: "It grows: these points are lost; the log has the receiver's words.";
    // Sink datadog.
    Counter DATADOG_REQUESTS = "sink.datadog.requests_total", tags: [sink_name, endpoint, outcome], unit: "requests",
        meaning: "Requests to Datadog (series, check_run, events) by how they ended: taken, partial (taken, with errors), refused (400), too_large (413), unauthorized (401, 403), throttled (429), unavailable (408, 5xx), unexpected, timeout, unreachable, invalid (the key has characters that no header takes).",
        worry: "Another outcome than taken grows for minutes: the log has Datadog's words. unauthorized: nothing is sent until the key is right.";
    Counter DATADOG_REFUSED = "sink.datadog.refused_total", tags: [sink_name, endpoint, cause], unit: "points or events",
        meaning: "Points, service checks and events that Datadog refused for good: refused, too_large.",
        worry: "It grows: these are lost; the log has an example and Datadog's words.";
    Counter DATADOG_COMPLAINTS = "sink.datadog.accepted_errors_total", tags: [sink_name, endpoint], unit: "errors",
        meaning: "Errors that Datadog named in answers to bodies that it took.",
        worry: "It grows: Datadog leaves something out; the log has an example.";

    // Sink graphite.
    Gauge SINK_DESTINATION_UP = "sink.destination_up", tags: [sink_name, destination], unit: "0 or 1",
        meaning: "1 while a sink is connected to one of its destinations.",
        worry: "0 for longer than a restart takes.";
    Counter SINK_DESTINATION_CONNECTS = "sink.destination_connects_total", tags: [sink_name, destination], unit: "connections",
        meaning: "Connections that a sink made to a destination.",
        worry: "It grows all the time: the destination closes connections.";
    Counter SINK_DESTINATION_ERRORS = "sink.destination_errors_total", tags: [sink_name, destination, cause], unit: "connections",
        meaning: "Connections to a destination that failed or ended. Causes: name (it has no address), refused, connect, timeout, tls, closed (by the destination), broken, stalled (it took nothing for too long).",
        worry: "It grows for minutes: the destination is away.";
    Counter SINK_DESTINATION_WRITTEN = "sink.destination_points_written_total", tags: [sink_name, destination], unit: "points",
        meaning: "Points written to a destination, with those written again.",
        worry: "It stands still while points are flushed.";
    Counter SINK_DESTINATION_RESENT = "sink.destination_points_resent_total", tags: [sink_name, destination], unit: "points",
        meaning: "Points written to a destination again, because the connection ended just after.",
        worry: "";
    Counter SINK_DESTINATION_DROPPED = "sink.destination_points_dropped_total", tags: [sink_name, destination, cause], unit: "points",
        meaning: "Points that one destination of a sink never got. Causes: queue_full, spool_full, shutdown.",
        worry: "Any increase: the destination misses points; others may have them.";
    Gauge SINK_DESTINATION_QUEUED = "sink.destination_queued_points", tags: [sink_name, destination], unit: "points",
        meaning: "Points in memory that a destination has not taken yet.",
        worry: "Near the sink's queue_points: then the oldest are lost.";
    Gauge SINK_DESTINATION_SPOOLED = "sink.destination_spooled_bytes", tags: [sink_name, destination], unit: "bytes",
        meaning: "Points on disk that a destination has not taken yet.",
        worry: "Near spool_max_bytes: then the oldest are lost.";
    Counter SINK_SPOOL_DAMAGED = "sink.spool_damaged_bytes_total", tags: [sink_name, destination], unit: "bytes",
        meaning: "Bytes of a spool that cannot be read any more; the points in them are lost.",
        worry: "Any increase: the disk or its file system loses data.";
    Counter SINK_SPOOL_ERRORS = "sink.spool_errors_total", tags: [sink_name, destination], unit: "calls",
        meaning: "Failures to open, read or write a spool; points stay in memory meanwhile.",
        worry: "It grows: the disk is full or broken; the log has the error.";

    // Enrichment from Cloud Foundry.
    Counter CF_ENRICHED = "enrich.cloudfoundry.enriched_total", tags: [], unit: "events",
        meaning: "Events that got the names of their application, and became points.",
        worry: "It stands still while events come in.";
    Counter CF_PASSED = "enrich.cloudfoundry.passed_total", tags: [cause], unit: "events",
        meaning: "Events that were left out. Causes: not_stored (of a kind, or a log of a source, of which no points are made: nothing is wrong), no_app (the event names none), unknown_app (the Cloud Controller does not know it, or may not show it to us), unavailable (it cannot be asked, and on_unavailable is pass).",
        worry: "unknown_app is a large part of all events: the login may not see all organizations. Any unavailable: these events are lost.";
    Gauge CF_WAITING = "enrich.cloudfoundry.waiting_events", tags: [], unit: "events",
        meaning: "Events that wait because the Cloud Controller cannot be asked for their applications.",
        worry: "Not 0 for more than a minute: nothing behind them is taken in.";
    Counter CF_LOOKUPS = "enrich.cloudfoundry.lookups_total", tags: [outcome], unit: "look-ups",
        meaning: "Applications that were looked up: known and known_missing of events that needed no request, found and missing of applications that the Cloud Controller was asked for.",
        worry: "found is more than a few percent of known: expire is short, or max_apps is low.";
    Counter CF_REQUESTS = "enrich.cloudfoundry.requests_total", tags: [endpoint, status], unit: "requests",
        meaning: "Requests to the Cloud Controller and UAA by how they were answered: 2xx, 3xx, 401, 404, 429, 4xx (any other), 5xx, timeout, unreachable, too_long or invalid.",
        worry: "Other answers than 2xx grow for minutes; the log has the words. 429: raise per_page or refresh.";
    Counter CF_TOKENS = "enrich.cloudfoundry.tokens_total", tags: [outcome], unit: "tokens",
        meaning: "Tokens that UAA was asked for: ok, refused or failed.",
        worry: "refused grows: the login is wrong. ok every few seconds: the Cloud Controller refuses the tokens.";
    Gauge CF_APPS = "enrich.cloudfoundry.apps", tags: [], unit: "applications",
        meaning: "Applications whose names are known.",
        worry: "Near max_apps: those longest unused are forgotten.";
    Gauge CF_UNKNOWN = "enrich.cloudfoundry.unknown_apps", tags: [], unit: "applications",
        meaning: "Applications of which it is remembered that the Cloud Controller does not know them.",
        worry: "It grows and grows: something sends made-up GUIDs.";
    Counter CF_REFRESHES = "enrich.cloudfoundry.refreshes_total", tags: [outcome], unit: "listings",
        meaning: "Listings of all applications: ok or failed.",
        worry: "failed grows for an hour: new names are not seen.";
    Gauge CF_REFRESHED = "enrich.cloudfoundry.refresh_timestamp_ns", tags: [], unit: "nanoseconds",
        meaning: "When all applications were listed last, in Unix time.",
        worry: "Several times refresh ago.";
    // Sink s3.
    Counter S3_REQUESTS = "sink.s3.requests_total", tags: [sink_name, outcome], unit: "objects",
        meaning: "Objects by how storing them ended: stored, credentials (there are none), unauthorized, clock (this host's is wrong), no_bucket, region, throttled, unavailable (5xx), too_large, timeout, unreachable, encoding, unexpected.",
        worry: "Another outcome than stored grows for minutes: the log has the server's words.";
    Counter S3_BYTES = "sink.s3.stored_bytes_total", tags: [sink_name], unit: "bytes",
        meaning: "Length of the objects that were stored.",
        worry: "It stands still while points are flushed.";

    // Sink statsd.
    Counter STATSD_SINK_PACKETS = "sink.statsd.packets_total", tags: [sink_name], unit: "packets",
        meaning: "Packets that the sink statsd sent. Over UDP nobody knows what became of them.",
        worry: "It stands still while points are flushed.";
    Counter STATSD_SINK_ERRORS = "sink.statsd.errors_total", tags: [sink_name, cause], unit: "packets",
        meaning: "Packets that could not be sent at the first try: name (it has no address), refused (nobody listens; over UDP it tells that an earlier packet is lost), connect, timeout (the server takes nothing), broken.",
        worry: "It grows for minutes: the server is away or does not keep up.";
    // Sink prometheus.
    Gauge PROMETHEUS_SERIES = "sink.prometheus.series", tags: [sink_name], unit: "series",
        meaning: "Series on the page that a Prometheus scrapes; a summary counts as one.",
        worry: "Near the sink's max_series: then further ones are refused.";
    Counter PROMETHEUS_REFUSED = "sink.prometheus.points_refused_total", tags: [sink_name, cause], unit: "points",
        meaning: "Points that are not on the page: max_series, collision (another series is written with the same name and labels, or another type with the same name), late (the value that is shown is newer).",
        worry: "max_series or collision grow: series are missing on the page; the log has an example.";
    Counter PROMETHEUS_SCRAPES = "sink.prometheus.scrapes_total", tags: [sink_name, outcome], unit: "requests",
        meaning: "Requests for the page by how they ended: answered, unauthorized, not_found, method, failed.",
        worry: "answered stands still: nobody scrapes. unauthorized grows: a Prometheus has the wrong login.";

    // Sink remote_write.
    Counter REMOTE_WRITE_REQUESTS = "sink.remote_write.requests_total", tags: [sink_name, outcome], unit: "requests",
        meaning: "Remote-write requests by how they ended: written, partial (some samples were refused), refused (4xx), fallback (the server does not speak 2.0, and is spoken to in 1.0 from then on), throttled (429), unavailable (5xx), unexpected, timeout, unreachable, too_large (the answer), login (there is nothing to log in with), invalid.",
        worry: "Another outcome than written grows for minutes: the log has the server's words.";
    Counter REMOTE_WRITE_REFUSED = "sink.remote_write.samples_refused_total", tags: [sink_name, cause], unit: "samples",
        meaning: "Samples that were refused for good: out_of_order, duplicate_timestamp, out_of_bounds, labels, limit, too_large, unauthorized, not_found, other; and by us max_series, collision (another series has the same name and labels).",
        worry: "It grows: these are lost; the log has an example and the server's words.";
    Gauge REMOTE_WRITE_SERIES = "sink.remote_write.counters", tags: [sink_name], unit: "series",
        meaning: "Counters whose totals are kept and sent with each flush.",
        worry: "Near the sink's max_series: then further ones are refused.";

    // Source openmetrics.
    Counter OPENMETRICS_SCRAPES = "openmetrics.scrapes_total", tags: [source_name, outcome], unit: "scrapes",
        meaning: "Scrapes by how they ended: taken, unreachable, timeout, too_large (max_body), login (there is nothing to log in with), status (another than 200), encoding, not_text, truncated (an OpenMetrics page without its end), invalid.",
        worry: "Another outcome than taken grows: a target is down, or its page cannot be read; the log says which.";
    Gauge OPENMETRICS_UP = "openmetrics.targets_up", tags: [source_name], unit: "targets",
        meaning: "Targets whose last scrape was taken.",
        worry: "It is lower than the number of targets in the configuration.";
    Counter OPENMETRICS_SAMPLES = "openmetrics.samples_total", tags: [source_name], unit: "samples",
        meaning: "Samples that were taken from pages.",
        worry: "It stands still.";
    Counter OPENMETRICS_DROPPED = "openmetrics.samples_dropped_total", tags: [source_name, cause], unit: "samples",
        meaning: "Samples of pages that were not taken: malformed (the line cannot be read), max_series, not_finite (NaN or infinite), or why the table refused them.",
        worry: "malformed or max_series grow: a target's page is not what it should be, or too long; the log has an example.";
    Counter OPENMETRICS_RESETS = "openmetrics.resets_total", tags: [source_name], unit: "counters",
        meaning: "Counters that were found lower than at the scrape before: their target began anew.",
        worry: "It grows all the time: a target restarts, or several answer at one address.";
}
