/** What the parts of the account have in common: each says what was done, or why it was not. */

import { fieldErrorsOf, showFieldErrors } from "./forms.js";
import { Refusal } from "./http.js";
import { explain, showNotice } from "./notices.js";
import { SignedOut } from "./session.js";

export class Part {
  #notice;
  #done;
  #form;

  /** Ends what is under way when the account is closed. */
  signal = null;

  constructor(name) {
    const section = document.getElementById(name);
    this.#notice = section.querySelector(".notice");
    this.#done = section.querySelector(".done");
    this.#form = section.querySelector("form");
  }

  open(signal) {
    this.signal = signal;
  }

  /** Keep nothing that was typed or shown. */
  close() {
    this.say("");
    this.refuse(null);
    if (this.#form === null) return;
    this.#form.reset();
    showFieldErrors(this.#form, {});
  }

  say(sentence) {
    this.refuse(null);
    if (this.#done !== null) this.#done.textContent = sentence;
  }

  refuse(notice, action = null) {
    showNotice(this.#notice, notice, action);
  }

  /**
   * Run `act`. A refusal is said beside the fields that it names, or else in the notice: by status in
   * `words`, by field in `fieldWords`. The page itself goes back to the sign-in when the session has ended.
   */
  async attempt(act, { words = {}, fieldWords = {}, action = null } = {}) {
    this.say("");
    try {
      await act();
    } catch (error) {
      if (error instanceof SignedOut || error.name === "AbortError") return;
      if (!(error instanceof Refusal)) throw error;
      const errors = this.#form === null ? {} : fieldErrorsOf(error, this.#form, fieldWords);
      if (Object.keys(errors).length) showFieldErrors(this.#form, errors);
      else this.refuse(explain(error, words), action);
    }
  }
}
