/** How far a picture is on its way, and a button that gives it up: for the one that takes its time. */

/** Most answers are there before this. */
const PATIENCE_MS = 1000;

export class Progress {
  #section = document.getElementById("progress");
  #bar = document.getElementById("progress-bar");
  #words = document.getElementById("progress-words");
  #timer = null;
  #onAppear;

  /** `onAppear` is called when it takes long, and `cancel` when the button is pressed. */
  constructor(onAppear, cancel) {
    this.#onAppear = onAppear;
    document.getElementById("cancel").addEventListener("click", cancel);
  }

  begin() {
    this.update(0);
    this.#timer = setTimeout(() => {
      this.#section.hidden = false;
      this.#onAppear();
    }, PATIENCE_MS);
  }

  /** Show the part that was sent, in [0, 1]. */
  update(part) {
    this.#bar.value = part;
    this.#words.textContent = part < 1 ? `${Math.floor(100 * part)}% sent` : "Sent. The answer is not here yet.";
  }

  end() {
    clearTimeout(this.#timer);
    this.#section.hidden = true;
  }
}
