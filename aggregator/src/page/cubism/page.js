// Horizon charts of the series that a pattern finds. The question is in the URL, so that it can be kept and shared:
//
//   cubism?pattern=api.*.count&step=10&size=720&by=sum&counter=1&total=1
//
// Names come from the network and get into the document as text only.
"use strict";

(() => {
  const MOST = 100;
  const byId = (id) => document.getElementById(id);
  const form = byId("question");
  const question = new URLSearchParams(location.search);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // From the lowest negative band to the highest positive one: near the ground's colour for small values, in both looks.
  const COLOURS = {
    light: ["#7f2704", "#d94801", "#fd8d3c", "#fdd0a2", "#bdd7e7", "#6baed6", "#3182bd", "#08519c"],
    dark: ["#fdd0a2", "#fd8d3c", "#d94801", "#7f2704", "#12425f", "#1f6f9f", "#3fa0d0", "#9bd8f5"],
  };

  /** A path as a pattern that finds this series alone: what means something in a target is quoted. */
  function exactly(path) {
    return path.replace(/[(){},'"\\|=*?[]/g, "\\$&");
  }

  function say(kind, text) {
    const state = byId("state");
    state.className = kind;
    if (state.textContent !== text) state.textContent = text;
  }

  function note(text) {
    byId("note").textContent = text;
  }

  async function ask(path, parameters) {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(20000), ...(parameters && { method: "POST", body: new URLSearchParams(parameters) }) });
    if (!answer.ok) throw new Error(answer.status === 404 || answer.status === 400 ? await answer.text() : `${path} answers ${answer.status}`);
    return answer;
  }

  /** The steps, in seconds, of what these expressions are now; null where there is nothing. */
  async function steps(expressions) {
    const parameters = expressions.map((expression, place) => ["target", `alias(${expression},'${place}')`]);
    const lines = (await (await ask("render", [["format", "raw"], ["from", "-1min"], ...parameters])).text()).split("\n");
    const found = expressions.map(() => null);
    for (const line of lines.filter((one) => one)) {
      const [place, , , step] = line.slice(0, line.lastIndexOf("|")).split(",");
      found[Number(place)] = Number(step);
    }
    return found;
  }

  function find(graphite, pattern) {
    return new Promise((resolve, reject) => graphite.find(pattern, (error, paths) => (error ? reject(error) : resolve(paths))));
  }

  /** What is drawn: an expression and its title for each series, or for all of them. */
  function drawn(pattern, paths) {
    const grown = (expression) => (question.get("counter") ? `nonNegativeDerivative(${expression})` : expression);
    if (question.get("total")) return [{ title: `sum of ${pattern}`, expression: `sumSeries(${grown(pattern)})` }];
    return paths.slice(0, MOST).map((path) => ({ title: path, expression: grown(exactly(path)) }));
  }

  function draw(context, graphite, charts, step, by) {
    const metrics = charts.map(({ title, expression, every }) => {
      // Cubism asks for sums itself unless the step is 10 s, and expects that values are 10 s apart then.
      const own = step === 10 && every !== 10 ? `summarize(${expression},'10sec','${by}')` : expression;
      let metric = graphite.metric(own).summarize(by);
      // The first value that Cubism leaves out of an answer is that of a step before the one it asked for, if finer values were summed up.
      if (every !== null && every < step) metric = metric.shift(step * 1000);
      return metric.alias(every !== null && every > step ? `${title} (every ${every} s)` : title);
    });
    const around = d3.select("#charts");
    around.selectAll("*").remove();
    // More values than the window has room for are scrolled to; the newest are shown first.
    const area = around.append("div").attr("class", "area").style("width", `${context.size()}px`);
    area.append("div").attr("class", "axis").call(context.axis().orient("top").ticks(Math.max(1, Math.floor(context.size() / 160))));
    const horizon = context.horizon().format(d3.format(".3s"));
    horizon.colors(COLOURS[dark.matches ? "dark" : "light"]);
    area.selectAll(".horizon").data(metrics).enter().append("div").attr("class", "horizon").attr("title", String).call(horizon);
    area.append("div").attr("class", "rule").call(context.rule());
    around.node().scrollLeft = context.size();
    context.on("focus", (place) => {
      area.selectAll(".horizon .value").style("right", place === null ? null : `${Math.max(0, context.size() - place)}px`);
    });
    return metrics;
  }

  async function start() {
    const { retention, step: interval, series } = await (await ask("api/history")).json();
    const kept = retention % 3600 ? `${Math.round(retention / 60)} min` : `${retention / 3600} h`;
    byId("about").textContent = `${series} series, ${kept}`;
    const choices = [...form.step.options].map((option) => Number(option.value));
    const step = Number(question.get("step")) || choices.find((choice) => choice >= interval) || 10;
    if (!choices.includes(step)) form.step.append(new Option(`${step} s`, step));
    form.step.value = String(step);
    for (const key of ["pattern", "size"]) form[key].value = question.get(key) || "";
    for (const key of ["counter", "total"]) form[key].checked = Boolean(question.get(key));
    if ([...form.by.options].some((option) => option.value === question.get("by"))) form.by.value = question.get("by");
    const pattern = form.pattern.value.trim();
    if (!pattern) {
      say("", "");
      return note(series ? "Which series? A pattern names them: * and ? stand for parts of a name between dots, {a,b} for one of several." : "The history is empty: nothing has been emitted since the start.");
    }

    const size = Math.min(4000, Math.max(60, Number(form.size.value) || byId("charts").parentElement.clientWidth - 2));
    const context = cubism.context().step(step * 1000).size(size);
    // A flush is told when its interval is over, and a global's after another half.
    context.serverDelay(Math.max(5, 2 * interval) * 1000).clientDelay(1000);
    context.stop();
    const graphite = context.graphite(".");
    const wanted = new RegExp(`^${pattern.split(".").map(() => "[^.]*").join("\\.")}$`);
    let paths = [];
    for (;;) {
      // A completer finds names that only begin so, and what stands above series.
      const found = await find(graphite, pattern);
      const exact = new Set((await (await ask("metrics/expand", { query: pattern, leavesOnly: 1 })).json()).results);
      paths = found.filter((path) => wanted.test(path) && exact.has(path)).sort();
      if (paths.length) break;
      note(series ? `No series matches ${pattern} as yet.` : `The history is empty: nothing matches ${pattern} as yet.`);
      say("live", "waiting");
      await new Promise((resolve) => setTimeout(resolve, Math.max(2000, interval * 1000)));
    }
    const charts = drawn(pattern, paths);
    (await steps(charts.map((chart) => chart.expression))).forEach((every, place) => { charts[place].every = every; });
    const coarse = charts.filter((chart) => chart.every > step).length;
    note([
      paths.length > charts.length && !question.get("total") ? `${paths.length} series match, the first ${charts.length} are drawn: use a narrower pattern, or their sum.` : "",
      coarse ? `${coarse} of them have values less often than every ${step} s: what is between them is left empty.` : "",
    ].filter((text) => text).join(" "));
    const metrics = draw(context, graphite, charts, step, form.by.value);
    // For those who look from outside, as tests do.
    window.tributary = { context, metrics };
    context.on("change.state", () => say("live", `live, ${new Date().toLocaleTimeString()}`));
    context.start();
    say("live", "live");
    dark.addEventListener("change", () => location.reload());
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const asked = [...new FormData(form)].filter(([, value]) => value !== "");
    location.search = new URLSearchParams(asked).toString();
  });
  document.title = question.get("pattern") ? `${question.get("pattern")} · Tributary` : document.title;
  start().catch((error) => { say("gone", "no answer"); note(error.message); });
})();
