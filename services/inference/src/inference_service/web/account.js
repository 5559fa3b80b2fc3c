/** The account of the one who is signed in: its button in the header, and the dialog that it opens. */

import { Deletion } from "./deletion.js";
import { Export } from "./export.js";
import { Password } from "./password.js";
import { Profile } from "./profile.js";
import { SessionsList } from "./sessions-list.js";

/** Fires `left` when somebody has signed out everywhere or deleted the account, with a notice that says so. */
export class Account extends EventTarget {
  #header = document.getElementById("account");
  #name = document.getElementById("account-name");
  #dialog = document.getElementById("account-dialog");
  #title = document.getElementById("account-title");
  #news = document.getElementById("account-news");
  #parts;
  #visit = new AbortController();

  constructor(session) {
    super();
    const leave = (notice) => this.dispatchEvent(new CustomEvent("left", { detail: notice }));
    const sessions = new SessionsList(session, leave);
    const deletion = new Deletion(session, leave);
    const password = new Password(session, () => sessions.keepThisOne());
    const profile = new Profile(session, (user) => {
      this.name(user);
      password.belongsTo(user);
      deletion.belongsTo(user);
    });
    this.#parts = [profile, password, sessions, new Export(session), deletion];
    document.getElementById("account-open").addEventListener("click", () => this.#open());
    document.getElementById("account-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#forget());
  }

  /** Show the button; whose it is may not be known yet. */
  show() {
    this.#header.hidden = false;
  }

  name(user) {
    this.#name.textContent = user.full_name || user.username;
  }

  hide() {
    this.#header.hidden = true;
    this.#name.textContent = "";
    this.#dialog.close();
  }

  /** Say what has happened behind the dialog, where it is open. */
  tell(sentence) {
    if (this.#dialog.open) this.#news.textContent = sentence;
  }

  #open() {
    this.#visit = new AbortController();
    for (const part of this.#parts) part.open(this.#visit.signal);
    this.#dialog.showModal();
    this.#title.focus();
  }

  /** Give up what is under way, and keep nothing that was typed or shown. */
  #forget() {
    this.#visit.abort();
    this.#news.textContent = "";
    for (const part of this.#parts) part.close();
  }
}
