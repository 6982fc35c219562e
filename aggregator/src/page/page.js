import { ago, causes, cell, chart, el, figure, fill, follow, head, rows, short, tile } from "./shared.js";

const milliseconds = (value) => `${short(value)} ms`;
// The suffixes of points that are numbers of values, or sums of them: another scale.
const NO_VALUES = [".count", ".sum"];

function tags(keys) {
  const told = keys.filter((key) => key.values > 1).slice(0, 3);
  return told.map((key) => `${key.key || "(words)"} ${short(key.values)}`).join(", ") || "–";
}

function timer({ name, tags: own, flushes }, times) {
  const suffixes = [...new Set(flushes.flatMap((flush) => flush.values.map(([suffix]) => suffix)))].filter((suffix) => !NO_VALUES.includes(suffix));
  const lines = suffixes.map((suffix) => ({
    label: suffix.replace(/^\./, "").replace("percentile", " %"),
    points: flushes.flatMap((flush) => flush.values.filter(([key]) => key === suffix).map(([, value]) => [flush.timestamp, value])),
  }));
  return chart(name, lines, short, own.replaceAll(",", ", "), times);
}

follow(["api/status", "api/top"], (status, top) => {
  const { intervals, totals, interval, sinks, role } = status;
  const name = `${role}${status.hostname ? ` ${status.hostname}` : ""}`;
  document.title = `${name} · Tributary`;
  document.getElementById("title").textContent = name;
  document.getElementById("version").textContent = `${status.program} ${status.version}`;
  const last = intervals[intervals.length - 1];
  const rate = (count) => (last ? `${short(count / interval)}/s` : "–");
  const lost = status.losses.reduce((sum, loss) => sum + loss.count, 0);
  const cap = status.max_series ? `of ${short(status.max_series)}` : "";
  const crowded = status.max_series && last && last.series > 0.9 * status.max_series;
  fill("tiles",
    tile("samples in", rate(last?.samples)), tile("imports in", rate(last?.imported)),
    tile("series", last ? short(last.series) : "–", cap, crowded || last?.folded ? "bad" : ""),
    tile("points out", last ? short(last.points) : "–", "each interval"),
    role === "agent" ? tile("forwarded", last ? short(last.forwarded) : "–", "each interval") : [],
    tile("flush", last ? milliseconds(last.took_us / 1000) : "–"),
    tile("lost or refused", short(lost), "since the start", lost ? "bad" : ""));

  const line = (label, of) => ({ label, points: intervals.map((entry) => [entry.timestamp, of(entry)]) });
  const perSecond = (value) => `${short(value)}/s`;
  fill("charts", intervals.length ? [
    chart("In", [line("samples", (i) => i.samples / interval), line("imports", (i) => i.imported / interval)], perSecond),
    chart("Out, each interval", [line("points", (i) => i.points), line("forwarded", (i) => i.forwarded)]),
    chart("Series", [line("series", (i) => i.series), line("folded samples", (i) => i.folded)]),
    chart("Flush", [line("computing", (i) => i.took_us / 1000)], milliseconds),
  ] : el("p", { class: "soft" }, "the first interval is not over yet"));
  const times = last ? [intervals[0].timestamp, last.timestamp] : [];
  fill("timers", status.timers.length ? status.timers.map((told) => timer(told, times)) : el("p", { class: "soft" }, "none yet"));

  rows("sinks", sinks.map((sink) => {
    const failing = sink.last_error && (!sink.last_success || sink.last_error.at > sink.last_success);
    return [
      head(sink.name, " ", el("span", { class: "soft" }, sink.kind)),
      cell(sink.last_success ? ago(sink.last_success, status.now) : "none yet", failing ? "bad" : ""),
      figure(sink.last_duration_ms === null ? "–" : milliseconds(sink.last_duration_ms)),
      figure(`${short(sink.queued)} of ${short(sink.queue_bound)}`, sink.queued > sink.queue_bound / 2 ? "warn" : ""),
      figure(short(sink.written), "wide"),
      cell(causes(sink.dropped) || "–", Object.keys(sink.dropped).length ? "bad" : ""),
      cell(sink.last_error ? `${ago(sink.last_error.at, status.now)}: ${sink.last_error.message}` : "–", failing ? "bad whole" : "whole"),
    ];
  }), "no sink is configured: points go nowhere");

  const counted = top.counted;
  document.getElementById("top-note").textContent = counted ? `of ${short(counted.names)} names` : "counting from the next flush on";
  const bySeries = counted ? counted.by_series : top.census.map((entry) => ({ ...entry, tags: [] }));
  rows("by-series", bySeries.map((entry) => [head(entry.name), figure(short(entry.series)), cell(tags(entry.tags), "tag")]), "none");
  rows("by-samples", (counted ? counted.by_samples : []).map((entry) => [head(entry.name), figure(short(entry.samples)), figure(short(entry.series))]),
    counted ? "none" : "counting from the next flush on");
  rows("losses", status.losses.map((loss) => [head(loss.stage), cell(loss.cause), figure(`${short(loss.count)} ${loss.unit}`)]), "nothing");

  if (last && status.now / 1000 - last.timestamp > 4 * interval + 5) return `no flush for ${ago(last.timestamp * 1000, status.now).replace(" ago", "")}`;
  return "";
});
