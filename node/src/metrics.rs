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
