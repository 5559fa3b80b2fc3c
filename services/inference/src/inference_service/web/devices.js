/** What a device calls itself, in words that its owner knows it by. */

/** The first that fits counts: most browsers name others too, for old servers' sake. */
const BROWSERS = [
  ["Edge", /\bEdg(A|iOS)?\//],
  ["Opera", /\bOPR\//],
  ["Samsung Internet", /\bSamsungBrowser\//],
  ["Firefox", /\b(Firefox|FxiOS)\//],
  ["Chrome", /\b((Headless)?Chrome|CriOS)\//],
  ["Safari", /\bSafari\//],
];

const SYSTEMS = [
  ["Android", /\bAndroid\b/],
  ["iPhone", /\biPhone\b/],
  ["iPad", /\biPad\b/],
  ["ChromeOS", /\bCrOS\b/],
  ["Windows", /\bWindows\b/],
  ["macOS", /\bMac OS X\b/],
  ["Linux", /\bLinux\b/],
];

/** Return "Firefox on Linux" for a `User-Agent`, or the name of a program such as `curl`. */
export function describeDevice(userAgent) {
  const [browser, system] = [BROWSERS, SYSTEMS].map((names) => names.find(([, words]) => words.test(userAgent ?? ""))?.[0]);
  if (browser) return system ? `${browser} on ${system}` : browser;
  if (system) return `A program on ${system}`;
  return /^[\w.-]+/.exec(userAgent ?? "")?.[0] ?? "An unknown device";
}
