/** Who is signed in: the tokens, their renewal, and requests that carry them. */

import { Refusal, send } from "./http.js";

/**
 * The refresh token stands in the tab's own storage, so that it survives a reload and is gone with
 * the tab. The access token is kept in memory alone.
 */
const STORAGE_KEY = "pinhole.refresh_token";

/** An access token this close to its end is renewed before it is used. */
const RENEW_BEFORE_MS = 30_000;

/** Nobody is signed in any more; an `ended` event has told the page. */
export class SignedOut extends Error {}

/** Fires `ended` when the server no longer takes the session. Signing out by hand does not. */
export class Session extends EventTarget {
  #accessToken = null;
  #expiresAt = 0;
  #renewal = null;

  /** Whether a session of this tab may go on. */
  get isKept() {
    return sessionStorage.getItem(STORAGE_KEY) !== null;
  }

  /** Start a session. Throws a `Refusal`. */
  async signIn(username, password) {
    this.#keep(await requestTokens({ grant_type: "password", username, password }));
  }

  /** Forget the tokens, and have the server end their session; without an answer it ends by itself. */
  signOut() {
    const token = sessionStorage.getItem(STORAGE_KEY);
    this.#forget();
    if (token === null) return;
    // `keepalive`: the page may be left at once.
    fetch("/oauth2/revoke", { method: "POST", body: new URLSearchParams({ token }), keepalive: true }).catch(() => {});
  }

  #forget() {
    this.#accessToken = null;
    sessionStorage.removeItem(STORAGE_KEY);
  }

  /**
   * Send a request as the one who is signed in, and return the body of its answer; a token that
   * the server refuses is renewed once.
   * Throws `SignedOut`, a `Refusal`, or the signal's AbortError.
   */
  async send(path, init = {}) {
    const token = await this.#currentToken();
    try {
      return await sendWith(token, path, init);
    } catch (error) {
      if (!isUnauthorized(error)) throw error;
    }
    // Another request may have renewed the token while this one was under way.
    if (this.#accessToken === token) await this.#renew();
    if (this.#accessToken === null) throw new SignedOut();
    try {
      return await sendWith(this.#accessToken, path, init);
    } catch (error) {
      if (isUnauthorized(error)) this.#end();
      throw error;
    }
  }

  /** Renewal waits for use, not for a timer: an idle tab does not keep a session alive for ever. */
  async #currentToken() {
    const remainingMs = this.#accessToken === null ? 0 : this.#expiresAt - Date.now();
    if (remainingMs < RENEW_BEFORE_MS) {
      try {
        await this.#renew();
      } catch (error) {
        // With the token service away, a token that is still good goes on working.
        if (error instanceof SignedOut || remainingMs <= 0) throw error;
      }
    }
    return this.#accessToken;
  }

  /** A refresh token works once, so requests that need a new one share one renewal. */
  #renew() {
    this.#renewal ??= this.#exchange().finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  async #exchange() {
    const refreshToken = sessionStorage.getItem(STORAGE_KEY);
    if (refreshToken === null) this.#end();
    let tokens;
    try {
      tokens = await requestTokens({ grant_type: "refresh_token", refresh_token: refreshToken });
    } catch (error) {
      if (error.status === 400 || error.status === 401) this.#end();
      throw error; // the token may still be good: the service was not there to ask
    }
    // Signed out meanwhile: what has come belongs to nobody.
    if (sessionStorage.getItem(STORAGE_KEY) !== refreshToken) throw new SignedOut();
    this.#keep(tokens);
  }

  #keep(tokens) {
    this.#accessToken = tokens.access_token;
    this.#expiresAt = Date.now() + tokens.expires_in * 1000;
    sessionStorage.setItem(STORAGE_KEY, tokens.refresh_token);
  }

  #end() {
    this.#forget();
    this.dispatchEvent(new Event("ended"));
    throw new SignedOut();
  }
}

function requestTokens(form) {
  return send("/token", { method: "POST", body: new URLSearchParams(form) });
}

function sendWith(token, path, init) {
  return send(path, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
}

function isUnauthorized(error) {
  return error instanceof Refusal && error.status === 401;
}
