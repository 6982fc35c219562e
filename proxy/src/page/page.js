import { ago, bytes, causes, cell, chart, el, figure, fill, follow, head, percent, rows, short, tile } from "./shared.js";

const CAUSES = {
  discovery: "discovery",
  interval: "boundary of intervals",
  settings: "settings",
  availability: "availability",
};

function named(moved, sign) {
  const more = moved.count > moved.named.length ? [`${sign} ${moved.count - moved.named.length} more`] : [];
  return [...moved.named.map((address) => `${sign} ${address}`), ...more].map((line) => el("div", {}, line));
}

function state(destination) {
  if (destination.unavailable) return cell(`unavailable: ${destination.unavailable}`, "bad");
  return destination.connected ? cell("connected", "good") : cell("connecting", "warn");
}

follow(["api/status"], (status) => {
  const { destinations, intervals, totals, interval } = status;
  document.getElementById("version").textContent = `${status.program} ${status.version}`;
  const last = intervals[intervals.length - 1];
  const rate = (count) => (last ? `${short(count / interval)}/s` : "–");
  const well = destinations.filter((destination) => destination.connected && !destination.unavailable).length;
  const lost = Object.values(totals.lost).reduce((sum, count) => sum + count, 0);
  fill("tiles",
    tile("received", rate(last?.received)), tile("delivered", rate(last?.delivered)),
    tile("queued", short(totals.queued), "metrics"),
    tile("destinations", `${well}`, `of ${destinations.length} connected`, well === destinations.length && well > 0 ? "" : "bad"),
    tile("lost", short(lost), "since the start", lost ? "bad" : ""),
    tile("ring", `${status.generation}`, `since ${ago(status.since, status.now)}`.replace("since ", "")));

  const next = status.next ? `; ${status.next.joining.length} more join in ${Math.max(0, Math.round((status.next.since - status.now) / 1000))} s` : "";
  document.getElementById("ring-note").textContent = `${status.algorithm}, generation ${status.generation}${next}`;
  fill("ring", destinations.map((destination, index) => {
    const part = el("span", { class: `b${index % 8}`, title: `${destination.address} ${percent(destination.share)}` });
    part.style.flexGrow = destination.share;
    return part;
  }));
  document.getElementById("ring").setAttribute("aria-label",
    `shares of the ring: ${destinations.slice(0, 20).map((destination) => `${destination.address} ${percent(destination.share)}`).join(", ")}`);
  rows("destinations", destinations.map((destination, index) => [
    head(el("span", { class: `swatch b${index % 8}` }), destination.address),
    state(destination),
    figure(percent(destination.share)), figure(destination.weight, "wide"),
    figure(`${short(destination.last_interval.delivered / interval)}/s`),
    figure(short(destination.queued_metrics), destination.queued_metrics > destination.last_interval.received * 2 + 1000 ? "warn" : ""),
    figure(bytes(destination.queued_bytes), "wide"),
    cell(causes(destination.fates.lost) || "–", Object.keys(destination.fates.lost).length ? "bad" : ""),
    cell(causes(destination.fates.returned) || "–", "wide"),
  ]), "no destination is known: metrics are refused");

  const line = (label, of) => ({ label, points: intervals.map((entry) => [entry.end, of(entry)]) });
  const perSecond = (value) => `${short(value)}/s`;
  fill("charts", intervals.length ? [
    chart("Metrics", [line("received", (i) => i.received / interval), line("delivered", (i) => i.delivered / interval)], perSecond),
    chart("Not delivered, in metrics", [line("lost", (i) => i.lost), line("left to senders", (i) => i.returned)]),
  ] : el("p", { class: "soft" }, "the first interval is not over yet"));

  rows("changes", status.changes.map((change) => [
    cell(ago(change.at, status.now)), figure(change.generation), cell(CAUSES[change.cause] ?? change.cause),
    cell([named(change.added, "+"), named(change.removed, "−")].flat()),
  ]), "none yet");
  const losses = [["skipped", totals.skipped], ["request refused", totals.refused], ["lost", totals.lost]];
  rows("losses", losses.flatMap(([what, counts]) => Object.entries(counts).map(([cause, count]) => [head(what), cell(cause), figure(short(count))])),
    "nothing");
  if (!destinations.length) return "no destination is known";
  return "";
});
