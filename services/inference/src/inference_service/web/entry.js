/** The way in: sign in, or create an account first. */

import { fieldErrorsOf, onSubmit, showFieldErrors } from "./forms.js";
import { Refusal, send } from "./http.js";
import { Light } from "./light.js";
import { explain, showNotice } from "./notices.js";

/** Addresses of the forms. Others, as of the link that skips to the content, change no form. */
const HASHES = new Set(["", "#sign-in", "#sign-up"]);

const SIGN_IN_WORDS = {
  400: ["That did not match", "The username or the password is wrong. Check both, then try again."],
  401: ["That did not match", "The username or the password is wrong. Check both, then try again."],
  429: ["Too many attempts", "Passwords can be tried a few times only."],
  503: ["Signing in is not possible now", "The accounts do not answer."],
};

const SIGN_UP_WORDS = {
  409: ["Already taken", undefined],
  422: ["Some of this needs another look", undefined],
};

const TAKEN = {
  username: "This username is taken. Choose another.",
  email: "There is an account with this e-mail address already.",
};

const BY_ADMINISTRATORS = {
  title: "Accounts are made by an administrator here",
  reason: "Ask yours for one, then sign in.",
};

/** Fires `entered` when somebody has signed in. */
export class Entry extends EventTarget {
  #session;
  #section = document.getElementById("entry");
  #notice = document.getElementById("entry-notice");
  #signInForm = document.getElementById("sign-in-form");
  #signUpForm = document.getElementById("sign-up-form");

  constructor(session) {
    super();
    this.#session = session;
    new Light(this.#section, () => this.#beams());
    onSubmit(this.#signInForm, (values) => this.#signIn(values));
    onSubmit(this.#signUpForm, (values) => this.#signUp(values));
    addEventListener("hashchange", () => {
      if (this.#section.hidden || !HASHES.has(location.hash)) return;
      showNotice(this.#notice, null);
      this.#turn().focus();
    });
  }

  /** Show the form that the address names, with an optional notice over it. */
  open(notice = null, action = null) {
    this.#section.hidden = false;
    showNotice(this.#notice, notice, action);
    return this.#turn();
  }

  close() {
    this.#section.hidden = true;
    for (const form of [this.#signInForm, this.#signUpForm]) {
      form.reset();
      showFieldErrors(form, {});
    }
  }

  /** Show sign-in or sign-up, as the address says, and return its heading. */
  #turn() {
    const name = location.hash === "#sign-up" ? "sign-up" : "sign-in";
    for (const each of ["sign-in", "sign-up"]) document.getElementById(each).hidden = each !== name;
    return document.getElementById(`${name}-title`);
  }

  /** Light falls on every field that waits for something. */
  #beams() {
    const controls = this.#section.querySelectorAll(".panel > section:not([hidden]) :is(input, button)");
    return Array.from(controls, (element) => ({ element, weight: 0 }));
  }

  #goToSignIn() {
    history.replaceState(null, "", "#sign-in");
    return this.#turn();
  }

  async #signIn({ username, password }) {
    showNotice(this.#notice, null);
    try {
      await this.#session.signIn(username, password);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      showNotice(this.#notice, explain(error, SIGN_IN_WORDS));
      this.#signInForm.elements.namedItem("password").select();
      return;
    }
    this.dispatchEvent(new Event("entered"));
  }

  async #signUp({ username, email, full_name, password }) {
    showNotice(this.#notice, null);
    try {
      await send("/users", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ username, email, full_name: full_name || undefined, password }),
      });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#refuseSignUp(error);
      return;
    }
    // Should signing in fail now, the account is there: its name waits in the other form.
    this.#signInForm.elements.namedItem("username").value = username;
    this.#goToSignIn();
    await this.#signIn({ username, password });
  }

  #refuseSignUp(refusal) {
    if (refusal.status === 401 || refusal.status === 403) {
      this.#goToSignIn().focus();
      showNotice(this.#notice, BY_ADMINISTRATORS);
      return;
    }
    const errors = fieldErrorsOf(refusal, this.#signUpForm, refusal.status === 409 ? TAKEN : {});
    if (showFieldErrors(this.#signUpForm, errors)) showNotice(this.#notice, explain(refusal, SIGN_UP_WORDS));
  }
}
