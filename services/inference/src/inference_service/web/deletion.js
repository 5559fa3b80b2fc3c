/** The end of an account. */

import { onSubmit, showFieldErrors } from "./forms.js";
import { Part } from "./part.js";

const WORDS = {
  409: ["The last administrator stays", "Nobody could manage the accounts any more. Give another account that role first."],
  412: ["Your account was just changed elsewhere", "It was not deleted. Look at the profile, then try again."],
};

const DELETED = { title: "Your account is deleted", reason: "An administrator can bring it back." };
const ERASED = { title: "Your account is erased", reason: "Nothing is left that could be brought back." };

export class Deletion extends Part {
  #session;
  #leave;
  #form = document.getElementById("deletion-form");
  #username = document.getElementById("deletion-username");

  /** `leave` is called with a notice when the account is gone. */
  constructor(session, leave) {
    super("deletion");
    this.#session = session;
    this.#leave = leave;
    onSubmit(this.#form, (values) => this.#delete(values));
  }

  close() {
    super.close();
    this.#username.textContent = "";
  }

  belongsTo({ username }) {
    this.#username.textContent = username;
  }

  #delete({ confirmation, erase }) {
    return this.attempt(async () => {
      const { tag, body: user } = await this.#session.send("/users/me", { read: "tagged" });
      if (confirmation !== user.username) {
        showFieldErrors(this.#form, { confirmation: `This is not your username. Type ${user.username}.` });
        return;
      }
      const isErased = erase !== undefined;
      await this.#session.send(`/users/${user.id}${isErased ? "?erase=true" : ""}`, {
        method: "DELETE",
        headers: { "If-Match": tag },
        read: "nothing",
      });
      this.#leave(isErased ? ERASED : DELETED);
    }, { words: WORDS });
  }
}
