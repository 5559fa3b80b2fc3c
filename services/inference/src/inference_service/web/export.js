/** All that is kept of an account, as a file. */

import { Part } from "./part.js";

const FILE_NAME = "pinhole-account.json";

export class Export {
  #session;
  #part = new Part("export");
  #signal = null;

  constructor(session) {
    this.#session = session;
    document.getElementById("export-start").addEventListener("click", () => this.#download());
  }

  open(signal) {
    this.#signal = signal;
  }

  close() {
    this.#part.clear();
  }

  /** A link alone would carry no token. */
  #download() {
    return this.#part.attempt(async () => {
      const content = await this.#session.send("/users/me/export", { read: "blob", signal: this.#signal });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(content);
      link.download = FILE_NAME;
      link.click();
      this.#signal.addEventListener("abort", () => URL.revokeObjectURL(link.href));
      this.#part.say(`Your data is in the file ${FILE_NAME}.`);
    });
  }
}
