// Helpers of both pages. Whatever comes from the network gets into the document as text: there is no innerHTML here, and there must not be.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`class`, `scope` …) and children: elements, or anything else as text. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat().map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Puts children in the place of those of the element with the id. */
export function fill(id, ...children) {
  document.getElementById(id).replaceChildren(...children.flat());
}

/** 1234567 → 1.23M; numbers below 10 keep two digits after the point at most. */
export function short(number) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "–";
  const size = Math.abs(number);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) {
      const scaled = number / (letter === "k" ? 1e3 : unit);
      return scaled.toFixed(Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2) + letter;
    }
  }
  if (size !== 0 && size < 0.01) return number.toExponential(1);
  return String(Number(number.toFixed(size < 10 ? 2 : size < 1000 ? 1 : 0)));
}

/** Bytes, in powers of 1024. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return `${short(number)} ${units[unit]}`;
}

export function percent(part) { return `${(part * 100).toFixed(part < 0.1 ? 2 : 1)} %`; }

/** The time of day of milliseconds since the epoch. */
export function clock(at) { return new Date(at).toLocaleTimeString(); }

/** How long ago, by the clock of the program. */
export function ago(at, now) {
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  if (seconds < 100) return `${seconds} s ago`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

/** Counts by cause, as "a 3, b 1". */
export function causes(counts) {
  return Object.entries(counts).map(([cause, count]) => `${cause} ${short(count)}`).join(", ");
}

/** A figure in big letters; `note` is what stands small beside it. */
export function tile(label, value, note = "", kind = "") {
  return el("div", {}, el("dt", {}, label), el("dd", { class: kind }, value, " ", el("small", {}, note)));
}

/**
 * Fills the body of the table with the id: `list` has a list of cells, made by `head`, `cell` and `figure`, for each row. Roles are said in
 * words, because on a phone the style shows the rows as cards and browsers then forget that this is a table.
 */
export function rows(id, list, none) {
  const body = document.querySelector(`#${id} tbody`);
  const columns = [...document.querySelectorAll(`#${id} thead th`)].map((column) => column.textContent);
  for (const cells of list) cells.forEach((made, place) => { if (made.localName === "td") made.dataset.label = columns[place]; });
  body.replaceChildren(...(list.length ? list.map((cells) => el("tr", { role: "row" }, cells))
    : [el("tr", { role: "row" }, el("td", { class: "empty whole", role: "cell", colspan: columns.length }, none))]));
}
export function head(...children) { return el("th", { scope: "row", role: "rowheader" }, children); }
export function cell(content, kind = "") { return el("td", { class: kind, role: "cell" }, content); }
export function figure(content, kind = "") { return el("td", { class: `n ${kind}`, role: "cell" }, content); }

/**
 * A small chart. `lines` is a list of {label, points: [[time, value]…]}; all share one scale that starts at 0. `show` writes a value, and
 * `times` are the first and last one that the chart has room for, where that is more than the lines have.
 */
export function chart(title, lines, show = short, note = "", times = []) {
  const all = lines.flatMap((line) => line.points);
  times = all.map((point) => point[0]).concat(times);
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const top = Math.max(...all.map((point) => point[1]), 0) || 1;
  const low = Math.min(...all.map((point) => point[1]), 0);
  const x = (time) => (to > from ? (300 * (time - from)) / (to - from) : 300).toFixed(1);
  const y = (value) => (78 - (74 * (value - low)) / (top - low)).toFixed(1);
  const drawn = lines.map((line, index) => {
    const places = line.points.map((point) => `${x(point[0])},${y(point[1])}`);
    // A single value is drawn as a short stroke.
    if (line.points.length === 1) places.push(`${Math.max(x(line.points[0][0]) - 8, 0)},${y(line.points[0][1])}`);
    return svg("polyline", { class: `l${index % 8}`, points: places.join(" ") });
  });
  const last = (line) => (line.points.length ? show(line.points[line.points.length - 1][1]) : "–");
  const said = lines.map((line) => `${line.label} ${last(line)}`).join(", ");
  return el("figure", {},
    el("figcaption", { title: `${title} ${note}`.trim() }, title, " ", el("span", { class: "soft" }, note)),
    svg("svg", { viewBox: "0 0 300 80", preserveAspectRatio: "none", role: "img", "aria-label": `now: ${said}; at most ${show(top)}` },
      svg("line", { class: "axis", x1: 0, x2: 300, y1: y(0), y2: y(0) }),
      svg("line", { class: "axis", x1: 0, x2: 300, y1: 4, y2: 4 }), ...drawn),
    el("ul", {}, lines.map((line, index) => el("li", {}, el("span", { class: `swatch b${index % 8}` }), line.label, " ", el("b", {}, last(line)))),
      el("li", { class: "soft" }, `top of scale ${show(top)}`)));
}

/**
 * Asks `paths` again and again and hands the answers to `render`, which tells what is wrong with them as a text, or nothing.
 * It rests while the page cannot be seen. The first answer names the interval (seconds).
 */
export function follow(paths, render) {
  const state = document.getElementById("state");
  let answered = null;
  let timer = null;
  let asking = false;
  let pause = 1000;

  function say(kind, text) {
    state.className = kind;
    if (state.textContent !== text) state.textContent = text;
    document.body.classList.toggle("gone", kind === "gone");
  }

  async function ask() {
    if (asking) return;
    asking = true;
    try {
      const answers = await Promise.all(paths.map(async (path) => {
        const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(10000) });
        if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
        return answer.json();
      }));
      answered = Date.now();
      pause = Math.min(Math.max(answers[0].interval * 1000, 1000), 5000);
      const wrong = render(...answers);
      if (wrong) say("stale", wrong); else say("live", `live, ${clock(answers[0].now)}`);
    } catch (error) {
      say("gone", answered === null ? "no answer" : `no answer since ${clock(answered)}: what you see is old`);
    } finally {
      asking = false;
      schedule();
    }
  }

  function schedule() {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(ask, pause);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) say("", "paused"); else ask();
  });
  ask();
}
