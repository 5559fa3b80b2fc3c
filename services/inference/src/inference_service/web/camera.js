/** The camera: take a picture in, send it, show what the model sees. */

import { percent, showPredictions, showTimings } from "./answer.js";
import { Heat } from "./heat.js";
import { Refusal, send } from "./http.js";
import { Light } from "./light.js";
import { explain, mayPass, showNotice } from "./notices.js";
import { onPicture } from "./pictures.js";
import { Preview, formatSize } from "./preview.js";
import { Progress } from "./progress.js";
import { SignedOut } from "./session.js";

/** The server's own limit. What is larger is not sent at all. */
const MAX_PICTURE_BYTES = 10 * 1024 * 1024;
const TOP_K = 5;

const WORDS = {
  403: ["Your account may not classify pictures", "Ask an administrator for the permission."],
  404: ["That model is not here any more", undefined],
  413: ["The picture is too large", "Pinhole takes pictures up to 10 MiB."],
  415: ["This is not a picture that Pinhole reads", "Send a PNG, JPEG, WebP or GIF file."],
  422: ["The picture cannot be read", undefined],
  503: ["Pinhole cannot answer now", undefined],
};

const CANCELLED = { title: "Cancelled", reason: "There is no answer for this picture." };

/** Fires `taken`, with the name of a picture, when one has come in. */
export class Camera extends EventTarget {
  #session;
  #section = document.getElementById("camera");
  #title = document.getElementById("camera-title");
  #answerTitle = document.getElementById("answer-title");
  #preview = new Preview();
  #notice = document.getElementById("camera-notice");
  #waiting = document.getElementById("waiting");
  #predictions = document.getElementById("predictions");
  #timings = document.getElementById("timings");
  #modelField = document.getElementById("model-field");
  #model = document.getElementById("model");
  #status = document.getElementById("status");
  #progress = new Progress(() => this.#tellOfWait(), () => this.#cancel());
  #heat;
  #light;
  #file = null;
  #answer = null;
  #request = new AbortController();

  constructor(session) {
    super();
    this.#session = session;
    this.#heat = new Heat(session, this.#preview, (notice, action) => showNotice(this.#notice, notice, action));
    this.#light = new Light(this.#section, () => this.#beams());
    onPicture(this.#section, (file, count) => this.#take(file, count));
    for (const button of this.#section.querySelectorAll("[data-sample]")) {
      button.addEventListener("click", () => this.#takeSample(button.dataset.sample));
    }
    this.#model.addEventListener("change", () => this.#file && this.#take(this.#file));
  }

  /** Show the camera, and the choice of models where there is one. */
  open() {
    this.#section.hidden = false;
    this.#title.focus();
    this.#offerModels();
  }

  /** Hide the camera and forget everything that it showed. */
  close() {
    this.#section.hidden = true;
    this.#request.abort();
    this.#file = null;
    this.#clear("empty");
    this.#preview.clear();
    this.#status.textContent = "";
  }

  async #offerModels() {
    this.#modelField.hidden = true;
    let models;
    try {
      models = await this.#session.send("/models");
    } catch (error) {
      if (error instanceof Refusal || error instanceof SignedOut) return; // the server's default model serves
      throw error;
    }
    const names = new Set(models.map((model) => model.name));
    this.#model.replaceChildren(...Array.from(names, (name) => new Option(name)));
    this.#modelField.hidden = names.size < 2;
  }

  /** Give up the picture that is under way, and return the signal of the next. */
  #begin() {
    this.#request.abort();
    this.#request = new AbortController();
    return this.#request.signal;
  }

  async #takeSample(path) {
    const signal = this.#begin();
    try {
      const content = await send(path, { read: "blob", signal });
      this.#take(new File([content], path.split("/").at(-1)));
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refusal)) throw error;
      this.#refuse(explain(error), { name: "Try again", run: () => this.#takeSample(path) });
    }
  }

  async #take(file, count = 1) {
    const signal = this.#begin();
    this.dispatchEvent(new CustomEvent("taken", { detail: file.name }));
    this.#file = file;
    this.#clear("working");
    this.#preview.show(file, count);
    const refusal = await findRefusal(file);
    if (signal.aborted) return;
    if (refusal !== null) {
      this.#refuse(refusal);
      return;
    }
    this.#waiting.textContent = "Looking…";
    this.#waiting.scrollIntoView({ block: "nearest" }); // on a narrow screen it is below the picture
    this.#status.textContent = count > 1 ? `Looking at ${file.name}, the first of ${count}` : `Looking at ${file.name}`;
    this.#progress.begin();
    const startedMs = performance.now();
    try {
      const answer = await this.#classify(file, signal);
      this.#show(answer, (performance.now() - startedMs) / 1000);
    } catch (error) {
      if (signal.aborted || error instanceof SignedOut) return;
      if (!(error instanceof Refusal)) throw error;
      this.#refuse(explain(error, WORDS), mayPass(error) ? { name: "Try again", run: () => this.#take(file) } : null);
    }
  }

  #classify(file, signal) {
    const query = new URLSearchParams({ top_k: TOP_K });
    if (!this.#modelField.hidden) query.set("model", this.#model.value);
    const body = new FormData();
    body.set("file", file);
    const onUpload = (part) => this.#progress.update(part);
    return this.#session.send(`/predict?${query}`, { method: "POST", body, signal, onUpload });
  }

  #tellOfWait() {
    this.#status.textContent = `Sending ${this.#file.name} takes a while. It can be cancelled.`;
    document.getElementById("cancel").scrollIntoView({ block: "nearest" });
  }

  #cancel() {
    const file = this.#file;
    this.#request.abort();
    this.#refuse(CANCELLED, { name: "Send it again", run: () => this.#take(file) });
  }

  #show(answer, roundTripSeconds) {
    this.#clear("done");
    this.#answer = answer;
    showPredictions(this.#predictions, answer.predictions);
    showTimings(this.#timings, answer.timings, roundTripSeconds);
    document.getElementById("model-name").textContent = `${answer.model.name}, version ${answer.model.version}`;
    this.#timings.hidden = false;
    this.#heat.offer(this.#file, answer);
    const [best] = answer.predictions;
    this.#status.textContent = `Most likely ${best.label}, ${percent(best.score)}.`;
    this.#light.draw();
    this.#predictions.scrollIntoView({ block: "nearest" }); // on a narrow screen they are below the picture
  }

  #refuse(notice, action = null) {
    this.#clear("refused");
    this.#status.textContent = ""; // the notice is an alert: it speaks for itself
    showNotice(this.#notice, notice, action && {
      name: action.name,
      run: () => {
        this.#answerTitle.focus(); // the button is about to go
        action.run();
      },
    });
    this.#light.draw();
    this.#notice.scrollIntoView({ block: "nearest" });
  }

  #clear(state) {
    if (document.activeElement?.id === "cancel") this.#answerTitle.focus(); // the button is about to go
    this.#progress.end();
    this.#section.dataset.state = state;
    this.#answerTitle.textContent = state === "refused" ? "No answer" : "Most likely";
    this.#answer = null;
    this.#waiting.textContent = "The five most likely names appear here.";
    this.#predictions.replaceChildren();
    this.#timings.hidden = true;
    this.#heat.clear();
    showNotice(this.#notice, null);
    this.#light.draw();
  }

  #beams() {
    const items = [...this.#predictions.children];
    return items.map((element, index) => ({ element, weight: this.#answer.predictions[index].score }));
  }
}

/** Return why `file` is not worth sending, or null. */
async function findRefusal(file) {
  if (file.size > MAX_PICTURE_BYTES) {
    const reason = `It has ${formatSize(file.size)}; Pinhole takes up to 10 MiB. It was not sent.`;
    return { title: "The picture is too large", reason };
  }
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    return { title: "This cannot be opened", reason: "It is a folder, or the file was moved or changed." };
  }
  return null;
}
