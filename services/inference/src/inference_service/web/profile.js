/** The e-mail address and the full name, which users change themselves. */

import { onSubmit } from "./forms.js";
import { Refusal } from "./http.js";
import { Part } from "./part.js";

const TAKEN = { email: "There is another account with this e-mail address." };

export class Profile extends Part {
  #session;
  #onUser;
  #form = document.getElementById("profile-form");
  #username = document.getElementById("profile-username");
  #tag = null;

  /** `onUser` is told the account whenever it was read or changed. */
  constructor(session, onUser) {
    super("profile");
    this.#session = session;
    this.#onUser = onUser;
    onSubmit(this.#form, (values) => this.#save(values));
  }

  open(signal) {
    super.open(signal);
    this.#form.inert = true; // what comes from the server must not take the place of what is typed
    this.#load();
  }

  close() {
    super.close();
    this.#username.textContent = "";
  }

  #load() {
    const action = { name: "Try again", run: () => this.#load() };
    return this.attempt(async () => {
      const user = await this.#read();
      this.#username.textContent = `Your username is ${user.username}.`;
      this.#form.elements.namedItem("email").value = user.email;
      this.#form.elements.namedItem("full_name").value = user.full_name ?? "";
      this.#form.inert = false;
    }, { action });
  }

  async #read() {
    return this.#take(await this.#session.send("/users/me", { read: "tagged", signal: this.signal }));
  }

  #take({ tag, body: user }) {
    this.#tag = tag;
    this.#onUser(user);
    return user;
  }

  #save({ email, full_name }) {
    return this.attempt(async () => {
      try {
        this.#take(await this.#session.send("/users/me", {
          method: "PATCH",
          headers: { "Content-Type": "application/merge-patch+json", "If-Match": this.#tag },
          body: JSON.stringify({ email, full_name: full_name || null }),
          read: "tagged",
          signal: this.signal,
        }));
      } catch (error) {
        if (!(error instanceof Refusal && error.status === 412)) throw error;
        this.#tellOfChange(await this.#read());
        return;
      }
      this.say("Saved.");
    }, { words: { 409: ["Already taken", undefined] }, fieldWords: TAKEN });
  }

  /** What was typed stays, and the next attempt is for the account as it is now. */
  #tellOfChange({ email, full_name }) {
    const name = full_name ? `the full name ${full_name}` : "no full name";
    this.refuse({
      title: "Your account was changed elsewhere",
      reason: `It now has the e-mail address ${email} and ${name}. Save again to put in their place what stands here.`,
    });
  }
}
