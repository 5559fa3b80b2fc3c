// Asks for traces and metrics again and again, and draws them.

const PERIOD_MS = 2000;
const HUES = {
  gateway: "--gateway", auth: "--auth", users: "--users", inference: "--inference",
  receive: "--gateway", decode: "--users", preprocess: "--more-1", queue: "--auth", compute: "--inference",
  postprocess: "--more-2", ok: "--users", rejected: "--auth", error: "--alarm", queued: "--auth",
  "in flight": "--inference",
};

const byId = (id) => document.getElementById(id);
let chosen = null;

function element(name, { text, hue, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (hue) made.style.setProperty("--hue", `var(${HUES[hue] ?? "--more-1"})`);
  made.append(...children);
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function duration(seconds) {
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  return `${(seconds * 1000).toFixed(seconds >= 0.1 ? 0 : seconds >= 0.001 ? 1 : 3)} ms`;
}

const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

// Metrics

function path(values, most) {
  const step = 100 / Math.max(1, values.length - 1);
  let isDrawing = false;
  return values.map((value, index) => {
    if (value === null) {
      isDrawing = false;
      return "";
    }
    const point = `${(index * step).toFixed(2)} ${(40 - (40 * value) / most).toFixed(2)}`;
    const command = isDrawing ? `L${point}` : `M${point} h0.01`;
    isDrawing = true;
    return command;
  }).join("");
}

function chart({ title, unit, lines }) {
  const used = Object.entries(lines).filter(([, values]) => values.some((value) => value));
  const most = Math.max(...used.flatMap(([, values]) => values.map((value) => value ?? 0)), 0);
  const svg = drawn("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", `${title}, at most ${number(most)} ${unit}`);
  svg.append(drawn("line", { x1: 0, x2: 100, y1: 40, y2: 40 }));
  const keys = element("ul");
  for (const [name, values] of used) {
    const line = drawn("path", { d: path(values, most) });
    line.style.setProperty("--hue", `var(${HUES[name] ?? "--more-1"})`);
    svg.append(line);
    const last = values.findLast((value) => value !== null);
    keys.append(element("li", { text: `${name} ${number(last)}`, class: "key", hue: name }));
  }
  if (!used.length) keys.append(element("li", { text: "none in the last minutes" }));
  const caption = element("figcaption", { text: title }, element("span", { text: most ? `${number(most)} ${unit}` : "" }));
  return element("figure", {}, caption, svg, keys);
}

// Traces

function summary(trace) {
  const time = new Date(trace.started_at * 1000).toLocaleTimeString([], { hour12: false });
  const button = element(
    "button",
    { type: "button", "aria-pressed": trace.id === chosen, class: trace.failed ? "failed" : "" },
    element("time", { text: time }),
    element("span", { text: trace.name, class: "key", hue: trace.service }),
    element("small", { text: duration(trace.duration_seconds) }),
  );
  button.addEventListener("click", () => choose(trace));
  return element("li", {}, button);
}

function inOrder(spans) {
  const ids = new Set(spans.map((span) => span.id));
  const below = Map.groupBy(spans, (span) => (ids.has(span.parent_id) ? span.parent_id : ""));
  const rows = [];
  const add = (parent, depth) => {
    for (const span of below.get(parent) ?? []) {
      rows.push({ span, depth });
      add(span.id, depth + 1);
    }
  };
  add("", 0);
  return rows;
}

function showSpans(spans) {
  const start = Math.min(...spans.map((span) => span.started_at));
  const whole = Math.max(...spans.map((span) => span.started_at + span.duration_seconds)) - start || 1e-9;
  byId("spans").replaceChildren(...inOrder(spans).map(({ span, depth }) => {
    const stripe = element("i", { hue: span.service });
    stripe.style.left = `${(100 * (span.started_at - start)) / whole}%`;
    stripe.style.width = `${(100 * span.duration_seconds) / whole}%`;
    const text = span.attributes["db.query.text"] ?? span.name; // a statement says more than where it went
    const name = element("span", { text, class: "name", title: `${span.service}: ${text}` });
    name.style.setProperty("--depth", depth);
    const button = element(
      "button",
      { type: "button", class: span.failed ? "failed" : "" },
      name,
      element("span", { class: "track" }, stripe),
      element("span", { text: duration(span.duration_seconds), class: "length" }),
    );
    button.addEventListener("click", () => {
      for (const other of byId("spans").querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
      showDetails(span);
    });
    return element("li", {}, button);
  }));
  byId("details").replaceChildren();
}

function showDetails(span) {
  const known = { service: span.service, ...span.attributes };
  if (span.links.length) known.links = span.links.join(", ");
  byId("details").replaceChildren(
    ...Object.entries(known).flatMap(([key, value]) => [element("dt", { text: key }), element("dd", { text: value })]),
  );
}

async function choose(trace) {
  chosen = trace.id;
  byId("trace-title").textContent = `${trace.name}, ${duration(trace.duration_seconds)}`;
  byId("trace-id").textContent = trace.id;
  const answer = await fetch(`api/traces/${trace.id}`);
  if (answer.ok) showSpans(await answer.json());
  await refresh();
}

async function refresh() {
  const [traces, metrics] = await Promise.all(
    ["api/traces", "api/metrics"].map(async (path) => (await fetch(path)).json()),
  );
  const wanted = byId("filter").value.trim().toLowerCase();
  const shown = traces.filter((trace) => trace.name.toLowerCase().includes(wanted));
  byId("traces").replaceChildren(...shown.map(summary));
  byId("charts").replaceChildren(...metrics.charts.map(chart));
  byId("services").replaceChildren(
    ...Object.keys(metrics.charts[0].lines).map((name) => element("li", { text: name, class: "key", hue: name })),
  );
  byId("state").textContent = traces.length ? `the last ${traces.length} traces` : "Waiting for the first request…";
}

async function follow() {
  try {
    await refresh();
  } catch {
    byId("state").textContent = "Pinhole does not answer: it was stopped";
  }
  setTimeout(follow, PERIOD_MS);
}

byId("filter").addEventListener("input", refresh);
follow();
