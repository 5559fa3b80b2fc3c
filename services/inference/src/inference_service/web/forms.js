/** Forms that say what is wrong beside the field, and are sent once at a time. */

import { sentence } from "./notices.js";

/**
 * Call `submit` with the form's values when they are all well formed.
 * While it runs the button says so and keeps its focus, and the form is not sent again.
 */
export function onSubmit(form, submit) {
  const button = form.querySelector("button.primary");
  const name = button.textContent;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") return;
    trim(form);
    if (!showFieldErrors(form, findFieldErrors(form))) return;
    form.setAttribute("aria-busy", "true");
    button.textContent = button.dataset.busy;
    try {
      await submit(Object.fromEntries(new FormData(form)));
    } finally {
      form.removeAttribute("aria-busy");
      button.textContent = name;
    }
  });
}

/**
 * Show each `{name: message}` beside its field, take away older ones, and focus the first.
 * Return whether there are none.
 */
export function showFieldErrors(form, errors) {
  let first = null;
  for (const input of form.querySelectorAll("input")) {
    const message = errors[input.name];
    const [errorId, hintId] = [`${input.id}-error`, `${input.id}-hint`];
    document.getElementById(errorId)?.remove();
    if (message !== undefined) {
      const text = document.createElement("p");
      text.id = errorId;
      text.className = "field-error";
      text.textContent = message;
      input.after(text);
      first ??= input;
    }
    input.ariaInvalid = message === undefined ? null : "true";
    const notes = [errorId, hintId].filter((id) => document.getElementById(id) !== null);
    if (notes.length) input.setAttribute("aria-describedby", notes.join(" "));
    else input.removeAttribute("aria-describedby");
  }
  first?.focus();
  return first === null;
}

/**
 * Return those fields of a problem (`body.email`) that `form` has, as `{email: message}`.
 * A message in `words` stands in for the server's.
 */
export function fieldErrorsOf(refusal, form, words = {}) {
  const errors = {};
  for (const { field, detail } of refusal.errors) {
    const name = field.split(".").find((part) => form.elements.namedItem(part));
    if (name !== undefined) errors[name] ??= words[name] ?? sentence(detail);
  }
  return errors;
}

/** Keyboards of phones end a word that they propose with a space. */
function trim(form) {
  for (const input of form.querySelectorAll("input:not([type=password])")) {
    const text = input.value.trim();
    // A value that a script sets is never too short to the browser.
    if (text !== input.value) input.value = text;
  }
}

function findFieldErrors(form) {
  const errors = {};
  for (const input of form.querySelectorAll("input")) {
    if (input.validity.valueMissing) errors[input.name] = input.dataset.missing;
    else if (!input.validity.valid) errors[input.name] = input.dataset.invalid;
  }
  return errors;
}
