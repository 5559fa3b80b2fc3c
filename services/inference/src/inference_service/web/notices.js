/** What went wrong, in words that a person can act on. */

/** Reasons that hold for every request; a caller adds those of its own by status. */
const WORDS = {
  0: ["Pinhole cannot be reached", "The connection failed."],
  403: ["Not allowed", "Your account may not do this."],
  408: ["It did not arrive in time", "The line is too slow for what was sent."],
  429: ["Too many requests", "That was more than is allowed at once."],
  500: ["Something broke", "The fault is at our end. It has been recorded."],
  502: ["Pinhole is not ready", "A part of it does not answer."],
  503: ["Pinhole is busy", "Nothing was lost."],
  504: ["It took too long", "No answer came in time."],
};

/** Statuses after which the same request may well succeed. */
const PASSING = new Set([0, 408, 429, 500, 502, 503, 504]);

export function mayPass(refusal) {
  return PASSING.has(refusal.status);
}

/**
 * Return a title and a reason for a `Refusal`. `words` maps a status to `[title, reason]`; where a
 * reason is missing, the server's own is given.
 */
export function explain(refusal, words = {}) {
  const [title, reason] = words[refusal.status] ?? WORDS[refusal.status] ?? ["That was refused"];
  const { retryAfterSeconds: wait } = refusal;
  const advice = mayPass(refusal) ? ` Try again ${wait > 1 ? `in ${duration(wait)}` : "soon"}.` : "";
  return { title, reason: (reason ?? serverReason(refusal)) + advice };
}

function duration(seconds) {
  return seconds < 120 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
}

function serverReason({ detail, status, errors }) {
  return sentence(errors[0]?.detail ?? detail ?? `the server answered with status ${status}`);
}

/** The server writes details without a capital and a full stop, and numbers without commas. */
export function sentence(detail) {
  const text = detail.replace(/\d{5,}(?= pixels)/, (number) => Number(number).toLocaleString("en"));
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** Fill a notice, with a button where there is something to do about it; `null` empties it. */
export function showNotice(element, notice, action = null) {
  element.replaceChildren();
  if (notice === null) return;
  const title = document.createElement("p");
  title.className = "notice-title";
  title.textContent = notice.title;
  const reason = document.createElement("p");
  reason.textContent = notice.reason;
  element.append(title, reason);
  if (action === null) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = action.name;
  button.addEventListener("click", action.run);
  element.append(button);
}
