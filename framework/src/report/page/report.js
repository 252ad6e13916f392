"use strict";
// Sorts the tables and draws the charts anew as the reader wants them. Without it the page shows the same, at rest.
(() => {
  document.documentElement.classList.add("scripted");

  // Tables.

  const cellValue = (row, column) => {
    const text = row.cells[column]?.dataset.value;
    return text === undefined ? null : text !== "" && isFinite(text) ? Number(text) : text;
  };

  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  function sort(table, heading) {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [cellValue(row, heading.cellIndex), row]);
    rows.sort(([a], [b]) => {
      // What is missing comes last either way.
      if (a === null || b === null) return (a === null) - (b === null);
      return down ? compare(b, a) : compare(a, b);
    });
    body.append(...rows.map(([, row]) => row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const heading of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      const text = document.createElement("span");
      text.append(...heading.childNodes);
      button.append(text);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading));
    }
  }

  // Charts.

  const source = document.getElementById("curve-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const BOX = { left: 108, right: 1012, top: 16, bottom: 396 };
  const MOST_DOTS = 24;
  const form = document.querySelector(".controls");
  const hidden = new Set();
  const charts = [...document.querySelectorAll("figure[data-chart]")]
    .map((figure) => ({
      ...data.charts[figure.dataset.chart],
      svg: figure.querySelector("svg.plot"),
      scale: figure.querySelector(".scale"),
      caption: figure.querySelector("figcaption"),
      figure,
    }))
    .filter((chart) => chart.svg);

  let grouping = data.groupings[0];
  const entryOf = (line) => grouping.of[line.run];

  const settings = () => ({
    x: form.x.value,
    y: form.y.value,
    decay: Number(form.smoothing.value),
    mean: form.show?.value === "mean",
  });

  // Seconds in the unit that suits the longest run.
  const longest = Math.max(0, ...data.axes.map((axis) => axis.seconds.at(-1) ?? 0));
  const [unit, secondsPerUnit] = longest > 7200 ? ["h", 3600] : longest > 240 ? ["min", 60] : ["s", 1];

  function positions(line, x) {
    const axis = data.axes[line.axis];
    if (x === "epoch") return axis.steps.map((step) => step * data.paces[line.run]);
    if (x === "time") return axis.seconds.map((seconds) => seconds / secondsPerUnit);
    return axis.steps;
  }

  // An exponential moving average, unbiased at the start; over the means of stretches where points were left out.
  function smooth(line, xs, decay) {
    const whole = line.stretch === 1;
    const values = whole ? line.values : line.means;
    const keep = whole ? decay : Math.pow(decay, line.stretch);
    let [average, weight] = [0, 0];
    const ys = values.map((value) => {
      if (value === null) return null;
      average = keep * average + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
      return average / weight;
    });
    return { xs: whole ? xs : values.map((_, i) => (xs[2 * i] + xs[2 * i + 1]) / 2), ys };
  }

  function lines(chart, { x, decay, mean }) {
    const shown = chart.lines
      .filter((line) => !hidden.has(entryOf(line)))
      .map((line) => {
        const raw = { xs: positions(line, x), ys: line.values };
        const averaged = line.smoothed && decay > 0;
        return { entry: entryOf(line), raw: averaged ? raw : null, main: averaged ? smooth(line, raw.xs, decay) : raw };
      });
    if (!mean) return shown;
    return [...Map.groupBy(shown, ({ entry }) => entry).values()].flatMap((members) =>
      members.length > 1 ? [meanOf(members)] : members,
    );
  }

  // The value of a line at a place between its own.
  function valueAt({ xs, ys }, x) {
    if (x < xs[0] || x > xs.at(-1)) return null;
    const after = xs.findIndex((at) => at >= x);
    if (xs[after] === x || after === 0) return ys[after];
    const [low, high] = [ys[after - 1], ys[after]];
    if (low === null || high === null) return null;
    return low + ((high - low) * (x - xs[after - 1])) / (xs[after] - xs[after - 1]);
  }

  // The mean of lines at the places of the first that all of them reach, and a band of the sample deviation to both sides.
  function meanOf(members) {
    const places = members[0].main.xs
      .map((x) => [x, members.map(({ main }) => valueAt(main, x))])
      .filter(([, values]) => values.every((value) => value !== null));
    const stats = places.map(([, values]) => {
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      return [mean, Math.sqrt(squares / (values.length - 1))];
    });
    const main = { xs: places.map(([x]) => x), ys: stats.map(([mean]) => mean) };
    return { entry: members[0].entry, raw: null, main, by: stats.map(([, deviation]) => deviation) };
  }

  // The outline of a band; below the axis of a logarithmic chart it is cut off.
  function outline({ main, by }, px, py, floor) {
    const edge = (sign) => main.ys.map((y, i) => `${rounded(px(main.xs[i]))} ${rounded(py(Math.max(y + sign * by[i], floor)))}`);
    return `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z`;
  }

  function range(values) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low < high) return [low, high];
    const margin = low === 0 ? 0.5 : Math.abs(low) / 2;
    return [low - margin, low + margin];
  }

  function linearTicks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
    return ticks;
  }

  function logTicks(low, high) {
    const decades = Math.log10(high / low);
    const factors = decades < 1 ? [1, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
    const every = Math.ceil(decades / 6);
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      if (power % every !== 0) continue;
      for (const factor of factors) {
        const tick = factor * 10 ** power;
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    }
    return ticks;
  }

  const trimmed = (value, digits) => String(Number(value.toFixed(digits)));

  function tickText(value) {
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size < 1e-3) return value.toExponential(1).replace(".0e", "e");
    if (size < 1e4) return trimmed(value, 4);
    if (size < 1e6) return trimmed(value / 1e3, 1) + "k";
    return trimmed(value / 1e6, 1) + "M";
  }

  function figureText(value) {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(3);
    return Number.isInteger(value) ? String(value) : value.toPrecision(Math.max(4, Math.trunc(size).toString().length));
  }

  const rounded = (value) => Math.round(value * 10) / 10;

  function path(xs, ys, px, py, isDrawable) {
    let [text, pen] = ["", "M"];
    for (let i = 0; i < xs.length; i++) {
      if (!isDrawable(ys[i])) {
        pen = "M";
        continue;
      }
      text += `${pen}${rounded(px(xs[i]))} ${rounded(py(ys[i]))}`;
      pen = "L";
    }
    return text;
  }

  function draw(chart) {
    const now = settings();
    const shown = lines(chart, now);
    const parts = shown.flatMap(({ raw, main }) => (raw ? [raw, main] : [main]));
    const wantsLog = now.y === "log" || (now.y === "auto" && chart.log);
    const log = wantsLog && parts.some(({ ys }) => ys.some((value) => value > 0));
    const isDrawable = (value) => value !== null && (!log || value > 0);
    const edges = shown.flatMap(({ main, by }) => (by ? main.ys.flatMap((y, i) => [y - by[i], y + by[i]]) : []));
    const ys = [...parts.flatMap((part) => part.ys), ...edges].filter(isDrawable);
    chart.dirty = false;
    chart.place = null;
    hideTip(chart);
    if (!ys.length) {
      chart.svg.innerHTML = `<text x="520" y="220" text-anchor="middle">nothing to show</text>`;
      return;
    }
    const [x0, x1] = range(parts.flatMap((part) => part.xs.filter((_, i) => isDrawable(part.ys[i]))));
    let [y0, y1] = range(ys);
    if (log) [y0, y1] = [y0 / 1.1, y1 * 1.1];
    else {
      const margin = 0.04 * (y1 - y0);
      [y0, y1] = [y0 >= 0 ? Math.max(y0 - margin, 0) : y0 - margin, y1 + margin];
    }
    const px = (x) => BOX.left + ((x - x0) / (x1 - x0)) * (BOX.right - BOX.left);
    const share = log ? (y) => Math.log(y / y0) / Math.log(y1 / y0) : (y) => (y - y0) / (y1 - y0);
    const py = (y) => BOX.bottom - share(y) * (BOX.bottom - BOX.top);
    let svg = "";
    for (const tick of log ? logTicks(y0, y1) : linearTicks(y0, y1, 5)) {
      const y = rounded(py(tick));
      svg += `<line class="grid" x1="${BOX.left}" x2="${BOX.right}" y1="${y}" y2="${y}"/>`;
      svg += `<text x="${BOX.left - 12}" y="${y + 9}" text-anchor="end">${tickText(tick)}</text>`;
    }
    const title = now.x === "time" ? unit : now.x;
    for (const tick of linearTicks(x0, x1, 6)) {
      const x = rounded(px(tick));
      // The unit stands at the right end.
      if (x > BOX.right - 60 - 12 * title.length) continue;
      svg += `<text x="${x}" y="${BOX.bottom + 42}" text-anchor="middle">${tickText(tick)}</text>`;
    }
    svg += `<text x="${BOX.right}" y="${BOX.bottom + 42}" text-anchor="end">${title}</text>`;
    for (const line of shown) {
      if (line.by) svg += `<path class="line band entry-${line.entry}" d="${outline(line, px, py, log ? y0 : -Infinity)}"/>`;
    }
    for (const { entry, raw } of shown) {
      if (raw) svg += `<path class="line faint entry-${entry}" d="${path(raw.xs, raw.ys, px, py, isDrawable)}"/>`;
    }
    for (const { entry, main } of shown) {
      svg += `<path class="line entry-${entry}" d="${path(main.xs, main.ys, px, py, isDrawable)}"/>`;
      if (main.xs.length > MOST_DOTS) continue;
      const dots = main.ys.map((y, i) => (isDrawable(y) ? `M${rounded(px(main.xs[i]))} ${rounded(py(y))}h0` : ""));
      svg += `<path class="line dot entry-${entry}" d="${dots.join("")}"/>`;
    }
    chart.svg.innerHTML = svg + `<line class="cross" y1="${BOX.top}" y2="${BOX.bottom}" visibility="hidden"/>`;
    chart.place = { shown, x0, x1, px, title };
    if (chart.scale) chart.scale.hidden = !log;
    else if (log) {
      chart.scale = document.createElement("small");
      chart.scale.className = "scale";
      chart.scale.textContent = "log";
      chart.caption.append(chart.scale);
    }
  }

  // The values at a place.

  function nearest(xs, x) {
    let [low, high] = [0, xs.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
  }

  function hideTip(chart) {
    chart.tip?.remove();
    chart.tip = null;
    chart.at = null;
    chart.svg.querySelector(".cross")?.setAttribute("visibility", "hidden");
  }

  function showTip(chart, x) {
    const { shown, px, x0, x1, title } = chart.place;
    chart.at = Math.min(Math.max(x, x0), x1);
    const cross = chart.svg.querySelector(".cross");
    cross.setAttribute("x1", px(chart.at));
    cross.setAttribute("x2", px(chart.at));
    cross.setAttribute("visibility", "visible");
    const values = shown
      .map(({ entry, main, by }) => {
        const at = nearest(main.xs, chart.at);
        return { entry, value: main.ys[at], by: by?.[at] };
      })
      .filter(({ value }) => value !== null && value !== undefined)
      .sort((a, b) => b.value - a.value);
    if (!chart.tip) {
      chart.tip = document.createElement("div");
      chart.tip.className = "tip";
      chart.tip.setAttribute("role", "status");
      chart.figure.append(chart.tip);
    }
    const place = document.createElement("p");
    place.textContent = `${title} ${figureText(title === "step" ? Math.round(chart.at) : chart.at)}`;
    const list = document.createElement("ul");
    for (const { entry, value, by } of values) {
      const item = document.createElement("li");
      item.innerHTML = `<svg class="sample" viewBox="0 0 56 12" aria-hidden="true"><line class="entry-${entry}" x1="0" y1="6" x2="56" y2="6"/></svg><span></span><b></b>`;
      item.querySelector("span").textContent = grouping.labels[entry];
      item.querySelector("b").textContent = figureText(value) + (by === undefined ? "" : ` ± ${figureText(Number(by.toPrecision(2)))}`);
      list.append(item);
    }
    chart.tip.replaceChildren(place, list);
    const onLeft = px(chart.at) > (BOX.left + BOX.right) / 2;
    chart.tip.style.left = onLeft ? "3.2rem" : "auto";
    chart.tip.style.right = onLeft ? "auto" : ".5rem";
  }

  function watch(chart) {
    const { svg } = chart;
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("pointermove", (event) => {
      if (!chart.place) return;
      const box = svg.getBoundingClientRect();
      const share = (((event.clientX - box.left) / box.width) * 1040 - BOX.left) / (BOX.right - BOX.left);
      showTip(chart, chart.place.x0 + share * (chart.place.x1 - chart.place.x0));
    });
    svg.addEventListener("pointerleave", () => hideTip(chart));
    svg.addEventListener("blur", () => hideTip(chart));
    svg.addEventListener("keydown", (event) => {
      if (!chart.place) return;
      const { x0, x1 } = chart.place;
      const [step, at] = [(x1 - x0) / 40, chart.at ?? x0];
      const to = { ArrowLeft: at - step, ArrowRight: at + step, Home: x0, End: x1 }[event.key];
      if (event.key === "Escape") hideTip(chart);
      if (to === undefined) return;
      event.preventDefault();
      showTip(chart, to);
    });
  }

  // Only charts in sight are drawn at once.

  const inSight = new Set();
  const byFigure = new Map(charts.map((chart) => [chart.figure, chart]));
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const chart = byFigure.get(target);
        if (isIntersecting) inSight.add(chart);
        else inSight.delete(chart);
        if (isIntersecting && chart.dirty) draw(chart);
      }
    },
    { rootMargin: "100px" },
  );
  let waiting = false;
  function redraw() {
    for (const chart of charts) chart.dirty = true;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      for (const chart of inSight) draw(chart);
    });
  }
  addEventListener("beforeprint", () => charts.filter((chart) => chart.dirty).forEach(draw));

  // Controls.

  const emphasis = document.createElement("style");
  document.head.append(emphasis);
  const emphasize = (entry) => {
    emphasis.textContent = entry === null ? "" : `.plot .line:not(.entry-${entry}) { opacity: .08; }`;
  };
  const legend = document.querySelector(".legend");
  function toggle(label, entry) {
    const button = document.createElement("button");
    button.type = "button";
    button.innerHTML = `<svg class="sample" viewBox="0 0 56 12" aria-hidden="true"><line class="entry-${entry}" x1="0" y1="6" x2="56" y2="6"/></svg><span></span>`;
    button.querySelector("span").textContent = label;
    button.addEventListener("click", () => show(entry, hidden.has(entry)));
    for (const on of ["pointerenter", "focus"]) button.addEventListener(on, () => emphasize(hidden.has(entry) ? null : entry));
    for (const off of ["pointerleave", "blur"]) button.addEventListener(off, () => emphasize(null));
    return button;
  }

  let toggles = [];
  function regroup() {
    hidden.clear();
    grouping = data.groupings[Number(form.group?.value ?? 0)];
    toggles = grouping.labels.map(toggle);
    legend.replaceChildren(
      ...toggles.map((button) => {
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
    for (const named of document.querySelectorAll("[data-run]")) {
      named.querySelector(".sample line")?.setAttribute("class", `entry-${grouping.of[named.dataset.run]}`);
    }
    mark();
  }

  function mark() {
    toggles.forEach((button, entry) => button.setAttribute("aria-pressed", String(!hidden.has(entry))));
    for (const row of document.querySelectorAll("tr[data-run]")) {
      row.classList.toggle("off", hidden.has(grouping.of[row.dataset.run]));
    }
    redraw();
  }

  function show(entry, isShown) {
    if (isShown) hidden.delete(entry);
    else hidden.add(entry);
    emphasize(null);
    mark();
  }

  form.all?.addEventListener("click", () => (hidden.clear(), mark()));
  form.none?.addEventListener("click", () => (grouping.labels.forEach((_, entry) => hidden.add(entry)), mark()));
  form.addEventListener("input", ({ target }) => {
    if (target.name === "group") regroup();
    form.querySelector("output").value = form.smoothing.value;
    for (const said of document.querySelectorAll(".note .smoothing")) said.textContent = form.smoothing.value;
    for (const label of document.querySelectorAll("figcaption .smoothed")) label.hidden = Number(form.smoothing.value) === 0;
    redraw();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  charts.forEach(watch);
  regroup();
  charts.forEach((chart) => observer.observe(chart.figure));
})();
