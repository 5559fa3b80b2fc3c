/**
 * Tabs that share a session. Duplicating a tab copies its storage, and a refresh token works once:
 * whoever renews it tells the others, and whoever has slept asks them first.
 */

/** Tabs that are awake answer within a few milliseconds; one that is alone waits so long for nobody. */
const ANSWER_MS = 100;

export class Siblings {
  #channel;
  #stopWaiting = null;

  /**
   * `name` is known to the tabs of one session alone. `current` returns the tokens of this tab, `take`
   * is told those of another and returns whether they are news, and `end` is told of a sign-out.
   */
  constructor(name, { current, take, end }) {
    this.#channel = openChannel(name);
    this.#channel?.addEventListener("message", ({ data }) => {
      if (data.type === "question") this.tell(current());
      else if (data.type === "end") end();
      else if (take(data.tokens)) this.#stopWaiting?.(true);
    });
  }

  /** Give the others what this tab has: nothing, where a reload has left it no access token. */
  tell(tokens) {
    if (tokens.accessToken !== null) this.#channel?.postMessage({ type: "tokens", tokens });
  }

  /** Return whether the others had news; wait a moment for it at most. */
  ask() {
    if (this.#channel === null) return Promise.resolve(false);
    this.#channel.postMessage({ type: "question" });
    return new Promise((resolve) => {
      this.#stopWaiting = resolve;
      setTimeout(resolve, ANSWER_MS, false);
    });
  }

  end() {
    this.#channel?.postMessage({ type: "end" });
  }

  close() {
    this.#channel?.close();
  }
}

/** Return null where the browser forbids it, as some do with storage: no tab is a copy of another there. */
function openChannel(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}
