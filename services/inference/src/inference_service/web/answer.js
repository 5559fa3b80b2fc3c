/** The answer of the model: names with bars, and where the time went. */

/** Show the predictions, best first, as a list. */
export function showPredictions(list, predictions) {
  list.replaceChildren(
    ...predictions.map(({ label, score }) => {
      const bar = create("meter", "bar");
      bar.value = score;
      bar.setAttribute("aria-hidden", "true"); // the percentage beside it says the same
      const item = create("li", "prediction");
      item.append(create("span", "prediction-label", label), create("span", "prediction-score", percent(score)), bar);
      return item;
    }),
  );
}

/** Show the seconds of each stage, and as `network` what of the round trip they leave. */
export function showTimings(section, timings, roundTripSeconds) {
  const inside = Object.values(timings).reduce((sum, seconds) => sum + seconds, 0);
  const stages = Object.entries({ ...timings, network: Math.max(0, roundTripSeconds - inside) });
  section.querySelector("#timings-total").textContent = milliseconds(roundTripSeconds);
  section.querySelector("#timings-strip").replaceChildren(
    ...stages.map(([, seconds]) => {
      const part = create("span");
      part.style.flexGrow = (100 * seconds) / roundTripSeconds;
      return part;
    }),
  );
  section.querySelector("#timings-list").replaceChildren(
    ...stages.map(([stage, seconds]) => {
      const row = create("div");
      row.append(create("dt", "", stage), create("dd", "", milliseconds(seconds)));
      return row;
    }),
  );
}

/** Return a score in [0, 1] as it is shown. */
export function percent(score) {
  return score < 0.001 ? "<0.1%" : `${(score * 100).toFixed(1)}%`;
}

function milliseconds(seconds) {
  const value = seconds * 1000;
  if (value < 0.1) return "<0.1 ms";
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function create(name, className = "", text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}
