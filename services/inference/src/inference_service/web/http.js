/** Requests to this origin. Whatever is not a good answer becomes a `Refusal`. */

const TIMEOUT_MS = 60_000;

/** Why a request was not granted. `status` is 0 where no answer came at all. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, detail?: string, errors?: {field: string, detail: string}[], retryAfterSeconds?: number}} [about]
   */
  constructor(status, { code, detail, errors = [], retryAfterSeconds } = {}) {
    super(detail ?? `status ${status}`);
    this.name = "Refusal";
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.errors = errors;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/**
 * Send one request and return its answer when that is a 2xx.
 * Throws a `Refusal`, or the signal's AbortError when the caller gave up.
 */
export async function send(path, { signal, ...init } = {}) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  let response;
  try {
    response = await fetch(path, { ...init, signal: signal ? AbortSignal.any([signal, timeout]) : timeout });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(timeout.aborted ? 504 : 0);
  }
  if (!response.ok) throw await readRefusal(response);
  return response;
}

/** Problem details (RFC 9457) and OAuth errors (RFC 6749 section 5.2) say the same in other words. */
async function readRefusal(response) {
  const isJson = /[/+]json\b/.test(response.headers.get("Content-Type") ?? "");
  const body = isJson ? await response.json().catch(() => null) : null;
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new Refusal(response.status, {
    code: body?.error,
    detail: body?.detail ?? body?.error_description,
    errors: body?.errors,
    retryAfterSeconds: Number.isNaN(retryAfter) ? undefined : retryAfter,
  });
}
