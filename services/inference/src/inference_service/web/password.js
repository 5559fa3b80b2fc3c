/** Another password, for who knows the current one. */

import { onSubmit } from "./forms.js";
import { Part } from "./part.js";

const WORDS = {
  429: ["Too many attempts", "Passwords can be tried a few times only."],
  503: ["The password cannot be changed now", "The accounts do not answer."],
};
const WRONG = { current_password: "This is not your current password." };

export class Password extends Part {
  #session;
  #onChange;
  #form = document.getElementById("password-form");

  /** `onChange` is called after the change, which has ended all sessions but this one. */
  constructor(session, onChange) {
    super("password");
    this.#session = session;
    this.#onChange = onChange;
    onSubmit(this.#form, (values) => this.#change(values));
  }

  close() {
    this.belongsTo({ username: "" });
    super.close();
  }

  /** Password managers read from the form whose password it is. */
  belongsTo({ username }) {
    this.#form.elements.namedItem("username").defaultValue = username;
  }

  #change({ current_password, new_password }) {
    return this.attempt(async () => {
      await this.#session.send("/users/me/password", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ current_password, new_password }),
        read: "nothing",
        signal: this.signal,
      });
      this.#form.reset();
      this.say("Your password is changed. You stay signed in here; everywhere else it takes the new one.");
      this.#onChange();
    }, { words: WORDS, fieldWords: WRONG });
  }
}
