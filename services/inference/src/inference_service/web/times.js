/** Moments as people say them. */

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const EXACT = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "short" });

/** Seconds of each unit, the longest first. */
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const LONG_AGO_SECONDS = 30 * 86400;

/** Return an element that says how long ago `timestamp` was, or when, and exactly so under the pointer. */
export function timeElement(timestamp) {
  const element = document.createElement("time");
  element.dateTime = timestamp;
  element.textContent = when(new Date(timestamp));
  element.title = EXACT.format(new Date(timestamp));
  return element;
}

function when(moment) {
  const seconds = (Date.now() - moment) / 1000;
  if (seconds > LONG_AGO_SECONDS) return EXACT.format(moment);
  const unit = UNITS.find(([, length]) => seconds >= length);
  // A clock that is a little behind the server's makes no future of it.
  return unit === undefined ? "just now" : RELATIVE.format(-Math.floor(seconds / unit[1]), unit[0]);
}
