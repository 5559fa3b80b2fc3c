/** Who is signed in: the tokens, their renewal, and requests that carry them. */

import { Refusal, send } from "./http.js";
import { Siblings } from "./siblings.js";
import * as storage from "./storage.js";

/** An access token this close to its end is renewed before it is used. */
const RENEW_BEFORE_MS = 30_000;

/** Nobody is signed in any more; an `ended` event has told the page. */
export class SignedOut extends Error {}

/** Fires `ended` when the server no longer takes the session, or another tab has signed out of it. */
export class Session extends EventTarget {
  #name = null;
  #tokens = null;
  #siblings = null;
  #renewal = null;

  constructor() {
    super();
    const kept = storage.read();
    if (kept !== null) this.#begin(kept.name, { ...kept.tokens, accessToken: null, expiresAt: 0 });
  }

  /** Whether a session of this tab may go on. */
  get isKept() {
    return this.#tokens !== null;
  }

  /** Start a session. Throws a `Refusal`. */
  async signIn(username, password) {
    const tokens = await requestTokens({ grant_type: "password", username, password });
    this.#forget();
    // `randomUUID` is for pages that came by HTTPS, or from this machine.
    this.#begin(crypto.getRandomValues(new Uint32Array(4)).join("-"), tokens);
  }

  /** Forget the tokens, and have the server end their session; without an answer it ends by itself. */
  signOut() {
    if (this.#tokens === null) return;
    const body = new URLSearchParams({ token: this.#tokens.refreshToken });
    this.#siblings.end();
    this.#forget();
    // `keepalive`: the page may be left at once.
    fetch("/oauth2/revoke", { method: "POST", body, keepalive: true }).catch(() => {});
  }

  #begin(name, tokens) {
    this.#name = name;
    this.#siblings = new Siblings(`pinhole.session.${name}`, {
      current: () => this.#tokens,
      take: (tokens) => this.#take(tokens),
      end: () => this.#leave(),
    });
    this.#keep(tokens);
  }

  /**
   * What survives a reload stands in the tab's own storage, and is gone with the tab: the refresh token,
   * when it came, and the name by which the tabs of one session know each other. The access token is
   * kept in memory alone.
   */
  #keep(tokens) {
    this.#tokens = tokens;
    const { refreshToken, issuedAt } = tokens;
    storage.keep({ name: this.#name, tokens: { refreshToken, issuedAt } });
  }

  /** Keep what another tab has unless it is older, and return whether it was kept. */
  #take(tokens) {
    const isNews = tokens.issuedAt >= this.#tokens.issuedAt && tokens.accessToken !== this.#tokens.accessToken;
    if (isNews) this.#keep(tokens);
    return isNews;
  }

  #forget() {
    this.#siblings?.close();
    this.#siblings = null;
    this.#tokens = null;
    storage.forget();
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
    // Another request, or another tab, may have renewed the token while this one was under way.
    if (this.#tokens?.accessToken === token) await this.#renew();
    if (this.#tokens === null) throw new SignedOut();
    try {
      return await sendWith(this.#tokens.accessToken, path, init);
    } catch (error) {
      if (isUnauthorized(error)) this.#end();
      throw error;
    }
  }

  /** Renewal waits for use, not for a timer: an idle tab does not keep a session alive for ever. */
  async #currentToken() {
    if (this.#remainingMs < RENEW_BEFORE_MS) {
      try {
        await this.#renew();
      } catch (error) {
        // With the token service away, a token that is still good goes on working.
        if (error instanceof SignedOut || this.#remainingMs <= 0) throw error;
      }
    }
    return this.#tokens.accessToken;
  }

  get #remainingMs() {
    return this.#tokens === null ? 0 : this.#tokens.expiresAt - Date.now();
  }

  /** A refresh token works once, so requests that need a new one share one renewal. */
  #renew() {
    this.#renewal ??= this.#exchange().finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  async #exchange() {
    if (this.#tokens === null) this.#end();
    const siblings = this.#siblings;
    const isTold = await siblings.ask();
    this.#checkIsOf(siblings);
    if (isTold && this.#remainingMs >= RENEW_BEFORE_MS) return;
    let tokens;
    try {
      tokens = await requestTokens({ grant_type: "refresh_token", refresh_token: this.#tokens.refreshToken });
    } catch (error) {
      this.#checkIsOf(siblings);
      if (error.status === 400 || error.status === 401) this.#end();
      throw error; // the token may still be good: the service was not there to ask
    }
    this.#checkIsOf(siblings);
    if (this.#take(tokens)) siblings.tell(tokens);
  }

  /** Signed out meanwhile, what has come belongs to nobody. */
  #checkIsOf(siblings) {
    if (this.#siblings !== siblings) throw new SignedOut();
  }

  #leave() {
    this.#forget();
    this.dispatchEvent(new Event("ended"));
  }

  #end() {
    this.#leave();
    throw new SignedOut();
  }
}

async function requestTokens(form) {
  const answer = await send("/token", { method: "POST", body: new URLSearchParams(form) });
  const issuedAt = Date.now();
  return {
    refreshToken: answer.refresh_token,
    accessToken: answer.access_token,
    issuedAt,
    expiresAt: issuedAt + answer.expires_in * 1000,
  };
}

function sendWith(token, path, init) {
  return send(path, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
}

function isUnauthorized(error) {
  return error instanceof Refusal && error.status === 401;
}
