/** The picture as the person sees it, and its faint projection, upside down, in the chamber. */

/** A plate may be this wide or narrow for its height; other pictures stand within it. */
const [NARROWEST, WIDEST] = [1, 16 / 9];

export class Preview {
  #plate = document.getElementById("plate");
  #image = document.getElementById("preview");
  #projection = document.getElementById("projection");
  #caption = document.getElementById("caption");
  #url = null;
  #cover = null;

  constructor() {
    this.#image.addEventListener("load", () => this.#frame());
    this.#image.addEventListener("error", () => this.#hide()); // not a picture: its name stays
  }

  /** Show `file`, the first of `count` that came together. */
  show(file, count) {
    this.#hide();
    this.#url = URL.createObjectURL(file);
    for (const image of [this.#image, this.#projection]) {
      image.src = this.#url;
      image.hidden = false;
    }
    this.#image.alt = `Preview of ${file.name}`;
    const others = count > 1 ? `. One picture at a time: this is the first of ${count}.` : "";
    this.#caption.textContent = `${file.name}, ${formatSize(file.size)}${others}`;
  }

  /** Show another rendering of the picture in its place; null brings the picture back. */
  cover(blob) {
    if (this.#cover !== null) URL.revokeObjectURL(this.#cover);
    this.#cover = blob && URL.createObjectURL(blob);
    if (this.#url !== null) this.#image.src = this.#cover ?? this.#url;
    if (blob) this.#plate.scrollIntoView({ block: "nearest" }); // on a narrow screen it is far above the button
  }

  clear() {
    this.#hide();
    this.#caption.textContent = "";
  }

  #hide() {
    if (this.#url === null) return;
    this.cover(null);
    URL.revokeObjectURL(this.#url);
    this.#url = null;
    for (const image of [this.#image, this.#projection]) {
      image.hidden = true;
      image.removeAttribute("src");
    }
    this.#plate.style.aspectRatio = "";
  }

  /** Give the plate the picture's shape. */
  #frame() {
    const ratio = this.#image.naturalWidth / this.#image.naturalHeight;
    this.#plate.style.aspectRatio = Math.min(Math.max(ratio, NARROWEST), WIDEST);
  }
}

export function formatSize(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}
