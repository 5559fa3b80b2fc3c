/** Requests to this origin. Whatever is not a good answer becomes a `Refusal`. */

import { upload } from "./upload.js";

/** Why a request was not granted. `status` is 0 where no answer came at all. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {{detail?: string, errors?: {field: string, detail: string}[], retryAfterSeconds?: number}} [about]
   */
  constructor(status, { detail, errors = [], retryAfterSeconds } = {}) {
    super(detail ?? `status ${status}`);
    this.name = "Refusal";
    this.status = status;
    this.detail = detail;
    this.errors = errors;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Ways to read an answer; `tagged` keeps what `If-Match` needs, which a proxy that compresses has made weak. */
const READERS = {
  json: (response) => response.json(),
  blob: (response) => response.blob(),
  nothing: () => null,
  tagged: async (response) => ({
    tag: response.headers.get("ETag")?.replace(/^W\//, ""),
    body: await response.json(),
  }),
};

/**
 * Send one request and return its answer, read in one of the ways above. `onUpload` is told how much of
 * the body was sent; it needs a `signal`.
 * There is no time limit here: the server has its own.
 * Throws a `Refusal`, or the signal's AbortError when the caller gave up.
 */
export async function send(path, { read = "json", onUpload, ...init } = {}) {
  try {
    const response = await (onUpload ? upload(path, init, onUpload) : fetch(path, init));
    if (!response.ok) throw await readRefusal(response);
    return await READERS[read](response);
  } catch (error) {
    if (error instanceof Refusal || init.signal?.aborted) throw error;
    throw new Refusal(0);
  }
}

/** Problem details (RFC 9457) and OAuth errors (RFC 6749 section 5.2) say the same in other words. */
async function readRefusal(response) {
  const isJson = /[/+]json\b/.test(response.headers.get("Content-Type") ?? "");
  const body = isJson ? await response.json().catch(() => null) : null;
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new Refusal(response.status, {
    detail: body?.detail ?? body?.error_description,
    errors: body?.errors,
    retryAfterSeconds: Number.isNaN(retryAfter) ? undefined : retryAfter,
  });
}
