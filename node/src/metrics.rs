//! The self-metrics that both programs emit through the chassis.

crate::catalogue! {
    Gauge DESTINATION_NUMBER = "discoverer.destination_number", tags: [service], unit: "instances",
        meaning: "Instances that discovery named last.",
        worry: "It is lower than the number of globals (or proxies) you run.";
    Counter DISCOVERY_ERRORS = "discoverer.errors", tags: [service], unit: "look-ups",
        meaning: "Look-ups that failed or named nobody; the last good list stays.",
        worry: "It grows for more than a few minutes: changes of the fleet are no longer seen.";
    Histogram DISCOVERY_DURATION = "discoverer.update_duration_ns", tags: [service], unit: "nanoseconds",
        meaning: "How long it took to take an answer of discovery over, without the wait for a change.",
        worry: "Seconds: the discovery service is overloaded.";
    Gauge REGISTERED = "registration.registered", tags: [service], unit: "1",
        meaning: "1 while this program is registered in Consul, 0 while Consul has forgotten it or it has taken itself out.",
        worry: "0 for longer than a minute while the program runs: nobody finds it.";
    Counter REGISTRATION_LOST = "registration.lost_total", tags: [service], unit: "times",
        meaning: "Times that Consul had forgotten this program, which then registered again.",
        worry: "It grows by itself: Consul's agent loses its memory, or two programs share an id.";
    Counter REGISTRATION_ERRORS = "registration.errors_total", tags: [service], unit: "requests",
        meaning: "Requests by which Consul was to be told of this program and that failed.",
        worry: "It grows for more than a minute: Consul will take the program for dead.";
    Counter TLS_HANDSHAKE_ERRORS = "tls.handshake_errors_total", tags: [hop, cause], unit: "connections",
        meaning: "Connections that came to nothing because their TLS handshake failed.",
        worry: "It grows: the log says with whom and why.";
    Counter TLS_RELOADS = "tls.reloads_total", tags: [hop], unit: "reloads",
        meaning: "Changed TLS files that were taken over.",
        worry: "";
    Counter TLS_RELOAD_ERRORS = "tls.reload_errors_total", tags: [hop], unit: "reloads",
        meaning: "Changed TLS files that could not be used; the old ones go on.",
        worry: "Any increase: the new certificate is wrong, and the old one will expire.";
    Gauge TLS_CERTIFICATE_EXPIRY = "tls.certificate_expiry_seconds", tags: [hop, file], unit: "seconds",
        meaning: "How long the program's own certificate is still good for; below 0 it has expired.",
        worry: "Less than a week (604,800).";
    Counter GRPC_CONNECTIONS = "grpc.connections_total", tags: [], unit: "connections",
        meaning: "gRPC connections taken.",
        worry: "Its rate is far above the number of clients: they reconnect all the time.";
    Counter GRPC_ACCEPT_ERRORS = "grpc.accept_errors_total", tags: [], unit: "connections",
        meaning: "gRPC connections that could not be taken.",
        worry: "It grows: the process has too few file descriptors.";
    Counter GRPC_CONNECTIONS_AGED = "grpc.connections_aged_total", tags: [], unit: "connections",
        meaning: "gRPC connections that were asked to end because of grpc_max_connection_age.",
        worry: "";
    Counter GRPC_CONNECTIONS_CUT = "grpc.connections_cut_total", tags: [], unit: "connections",
        meaning: "Of those, the ones cut off because calls were still under way after grpc_max_connection_age_grace.",
        worry: "It grows: streams without an end (Veneur's agents) lose what they were sending; raise the grace or the age.";
    Counter RELOADS = "config.reloads_total", tags: [outcome], unit: "reloads",
        meaning: "Configurations read again on SIGHUP, by outcome: applied, unchanged, refused or failed.",
        worry: "Any refused or failed: the program goes on with the old settings; its log says why.";
    Gauge INFO = "build.info", tags: [version], unit: "1",
        meaning: "Always 1: the version is the tag.",
        worry: "";
    Gauge UPTIME = "process.uptime_seconds", tags: [], unit: "seconds",
        meaning: "How long the process has been running.",
        worry: "It starts anew while nobody deploys.";
    Gauge RESIDENT_BYTES = "process.resident_bytes", tags: [], unit: "bytes",
        meaning: "Memory that the process takes.",
        worry: "It nears the limit of the container or the host, or grows for days.";
    Counter CPU_MILLISECONDS = "process.cpu_ms_total", tags: [], unit: "milliseconds",
        meaning: "CPU time used, by all threads.",
        worry: "Its rate, divided by 1,000, nears the number of cores that the process may use.";
    Gauge OPEN_FILES = "process.open_files", tags: [], unit: "files",
        meaning: "Open file descriptors, connections among them.",
        worry: "It nears the limit (ulimit -n), or grows for days.";
    Counter SENTRY_ERRORS = "sentry.errors_total", tags: [fate], unit: "events",
        meaning: "Panics and error-level log lines, by whether they were sent to Sentry or suppressed by the limit of 30 a minute.",
        worry: "It grows: something logs errors.";
    Counter STATS_DROPPED = "stats.packets_dropped_total", tags: [], unit: "packets",
        meaning: "Packets of self-metrics that could not be handed to the network for stats_address.",
        worry: "It grows: stats_address cannot be resolved or reached, and what you see there has gaps.";
}
