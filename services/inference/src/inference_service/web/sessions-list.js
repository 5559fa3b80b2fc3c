/** Where somebody is signed in, and how they sign out there. */

import { describeDevice } from "./devices.js";
import { Refusal } from "./http.js";
import { Part } from "./part.js";
import { timeElement } from "./times.js";

const EVERYWHERE = { title: "You are signed out everywhere", reason: "Sign in again to go on." };

export class SessionsList extends Part {
  #session;
  #leave;
  #title = document.getElementById("sessions-title");
  #list = document.getElementById("sessions-list");
  #everywhere = document.getElementById("everywhere");
  #question = document.getElementById("everywhere-question");

  /** `leave` is called with a notice when all sessions have ended. */
  constructor(session, leave) {
    super("sessions");
    this.#session = session;
    this.#leave = leave;
    this.#everywhere.addEventListener("click", () => {
      this.#ask(true);
      document.getElementById("everywhere-words").focus();
    });
    document.getElementById("everywhere-no").addEventListener("click", () => {
      this.#ask(false);
      this.#everywhere.focus();
    });
    document.getElementById("everywhere-yes").addEventListener("click", () => this.#endAll());
  }

  open(signal) {
    super.open(signal);
    this.#load();
  }

  close() {
    super.close();
    this.#list.replaceChildren();
    this.#ask(false);
  }

  /** Take the others away, which a new password has ended. */
  keepThisOne() {
    this.#list.replaceChildren(...this.#list.querySelectorAll("[aria-current]"));
  }

  #ask(isAsking) {
    this.#everywhere.hidden = isAsking;
    this.#question.hidden = !isAsking;
  }

  #load() {
    const action = { name: "Try again", run: () => this.#load() };
    return this.attempt(async () => {
      const { sessions } = await this.#session.send("/sessions", { signal: this.signal });
      sessions.sort((one, other) => other.is_current - one.is_current); // this one first, the others as they come
      this.#list.replaceChildren(...sessions.map((each) => this.#item(each)));
    }, { action });
  }

  #item({ id, device, last_used_at, created_at, is_current }) {
    const name = describeDevice(device);
    const item = create("li", "session");
    const words = create("div");
    const times = create("p", "session-times");
    times.id = `session-${id}`;
    times.append("Last used ", timeElement(last_used_at), ", signed in ", timeElement(created_at));
    words.append(create("p", "session-device", name), times);
    item.append(words);
    if (is_current) {
      item.setAttribute("aria-current", "true");
      item.append(create("span", "session-here", "This one"));
    } else {
      const button = create("button", "quiet", "End");
      button.type = "button";
      button.append(create("span", "visually-hidden", ` ${name}`));
      button.setAttribute("aria-describedby", times.id);
      button.addEventListener("click", () => this.#end(id, name, item));
      item.append(button);
    }
    return item;
  }

  #end(id, name, item) {
    return this.attempt(async () => {
      try {
        await this.#session.send(`/sessions/${id}`, { method: "DELETE", read: "nothing", signal: this.signal });
      } catch (error) {
        if (!(error instanceof Refusal && error.status === 404)) throw error; // it has ended by itself
      }
      item.remove();
      this.#title.focus(); // the button that was pressed has gone
      this.say(`Signed out there: ${name}.`);
    });
  }

  #endAll() {
    return this.attempt(async () => {
      await this.#session.send("/sessions", { method: "DELETE", read: "nothing" });
      this.#leave(EVERYWHERE);
    });
  }
}

function create(name, className = "", text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}
