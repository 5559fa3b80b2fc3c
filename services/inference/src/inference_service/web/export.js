/** All that is kept of an account, as a file. */

import { Part } from "./part.js";

const FILE_NAME = "pinhole-account.json";

export class Export extends Part {
  #session;

  constructor(session) {
    super("export");
    this.#session = session;
    document.getElementById("export-start").addEventListener("click", () => this.#download());
  }

  /** A link alone would carry no token. */
  #download() {
    return this.attempt(async () => {
      const content = await this.#session.send("/users/me/export", { read: "blob", signal: this.signal });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(content);
      link.download = FILE_NAME;
      link.click();
      this.signal.addEventListener("abort", () => URL.revokeObjectURL(link.href));
      this.say(`Your data is in the file ${FILE_NAME}.`);
    });
  }
}
