/** The button that shows which part of the picture speaks for the likeliest name. */

import { Refusal } from "./http.js";
import { explain, mayPass } from "./notices.js";
import { SignedOut } from "./session.js";

const WORDS = {
  503: ["Pinhole has no time for this now", "Predictions go first."],
  504: ["This took too long", "Predictions go first."],
};

export class Heat {
  #session;
  #preview;
  #refuse;
  #button = document.getElementById("heat");
  #status = document.getElementById("status");
  #ask = null;
  #request = new AbortController();

  /** `refuse` shows a notice with an optional action; null takes it away. */
  constructor(session, preview, refuse) {
    this.#session = session;
    this.#preview = preview;
    this.#refuse = refuse;
    this.#button.addEventListener("click", () => {
      if (this.#button.ariaBusy === "true") return;
      if (this.#button.ariaPressed === "true") this.#hide();
      else this.#show();
    });
  }

  /** Offer the map of `file` for the best of the predictions in `answer`. */
  offer(file, answer) {
    const { name, version } = answer.model;
    const query = new URLSearchParams({ model: name, version, class: answer.predicted_class });
    this.#ask = { file, query, label: answer.label };
    this.#setBusy(false);
    this.#button.hidden = false;
  }

  /** Forget the picture. */
  clear() {
    this.#request.abort();
    this.#hide();
    this.#ask = null;
    this.#button.hidden = true;
  }

  /** The map takes seconds: predictions go first. */
  #setBusy(isBusy) {
    this.#button.ariaBusy = isBusy ? "true" : null;
    this.#button.textContent = isBusy ? "Looking for it…" : `Show what speaks for ${this.#ask.label}`;
  }

  #hide() {
    this.#button.ariaPressed = "false";
    this.#preview.cover(null);
  }

  async #show() {
    this.#request.abort();
    this.#request = new AbortController();
    const { signal } = this.#request;
    const { file, query, label } = this.#ask;
    const body = new FormData();
    body.set("file", file);
    this.#refuse(null);
    this.#setBusy(true);
    this.#status.textContent = `Looking for what speaks for ${label}`;
    try {
      const headers = { Accept: "image/png" };
      const init = { method: "POST", body, headers, read: "blob", signal };
      const picture = await this.#session.send(`/explain?${query}`, init);
      if (signal.aborted) return;
      this.#setBusy(false);
      this.#preview.cover(picture);
      this.#button.ariaPressed = "true";
      this.#status.textContent = `The picture shows what speaks for ${label}: the warmer, the more.`;
    } catch (error) {
      if (signal.aborted || error instanceof SignedOut) return;
      this.#setBusy(false);
      this.#status.textContent = "";
      if (!(error instanceof Refusal)) throw error;
      this.#refuse(explain(error, WORDS), mayPass(error) ? { name: "Try again", run: () => this.#retry() } : null);
    }
  }

  #retry() {
    this.#button.focus(); // the button in the notice is about to go
    this.#show();
  }
}
