// Drives Pinhole with the clients that JavaScript programs use. pytest starts the product and these tests.
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import test from "node:test";

// Node 18 keeps these to itself; the libraries expect them where browsers have them.
globalThis.crypto ??= webcrypto;
globalThis.CryptoKey ??= webcrypto.CryptoKey;

const { createRemoteJWKSet, jwtVerify } = await import("jose");
const oauth = await import("oauth4webapi");
const openid = await import("openid-client");

const setting = (name) => process.env[`PINHOLE_${name}`] ?? assert.fail(`PINHOLE_${name} is not set`);
const ORIGIN = setting("URL");
const PERSON = { username: setting("USERNAME"), password: setting("PASSWORD") };
const AUDIENCE = "pinhole";

// The product of the tests has no TLS; both libraries insist on it unless told.
const PLAIN = { [oauth.allowInsecureRequests]: true };

const discover = (clientId = "pinhole-web", auth = openid.None(), options = {}) =>
  openid.discovery(new URL(ORIGIN), clientId, {}, auth, { execute: [openid.allowInsecureRequests], ...options });

const signIn = (config, parameters = {}) => openid.genericGrantRequest(config, "password", { ...PERSON, ...parameters });

const refusal = (status, code) => (error) => {
  assert.equal(error.status, status, String(error));
  assert.equal(error.error, code);
  assert.ok(error.error_description);
  return true;
};

for (const algorithm of ["oidc", "oauth2"]) {
  test(`openid-client: metadata are found by the rules of ${algorithm}`, async () => {
    const config = await discover("pinhole-web", openid.None(), { algorithm });
    assert.equal(config.serverMetadata().token_endpoint, `${ORIGIN}/token`);
  });
}

test("openid-client: a password opens the account", async () => {
  const config = await discover();
  const tokens = await signIn(config, { scope: "profile" });
  assert.equal(tokens.scope, "profile");
  assert.equal(tokens.token_type, "bearer");
  assert.ok(tokens.expiresIn() > 0);
  const url = new URL("/users/me", ORIGIN);
  const answer = await openid.fetchProtectedResource(config, tokens.access_token, url, "GET");
  assert.equal((await answer.json()).username, PERSON.username);
});

test("openid-client: a wrong password is invalid_grant", async () => {
  await assert.rejects(signIn(await discover(), { password: "not the password" }), refusal(400, "invalid_grant"));
});

test("openid-client: an unknown scope is invalid_scope", async () => {
  await assert.rejects(signIn(await discover(), { scope: "nothing:at-all" }), refusal(400, "invalid_scope"));
});

test("openid-client: an unknown client is told so by a challenge", async () => {
  for (const auth of [openid.ClientSecretBasic("nothing"), openid.ClientSecretPost("nothing")]) {
    await assert.rejects(signIn(await discover("nobody", auth)), (error) => {
      assert.equal(error.status, 401);
      assert.equal(error.cause[0].scheme, "basic");
      return true;
    });
  }
});

test("openid-client: each refresh gives other tokens, and one that was used twice over is invalid_grant", async () => {
  const config = await discover();
  const first = await signIn(config);
  const second = await openid.refreshTokenGrant(config, first.refresh_token);
  const third = await openid.refreshTokenGrant(config, second.refresh_token, { scope: "profile" });
  assert.equal(third.scope, "profile");
  assert.equal(new Set([first, second, third].map((tokens) => tokens.refresh_token)).size, 3);
  await assert.rejects(openid.refreshTokenGrant(config, first.refresh_token), refusal(400, "invalid_grant"));
});

test("openid-client: a revoked refresh token is invalid_grant", async () => {
  const config = await discover();
  const tokens = await signIn(config);
  await openid.tokenRevocation(config, tokens.refresh_token);
  await openid.tokenRevocation(config, tokens.refresh_token);
  await assert.rejects(openid.refreshTokenGrant(config, tokens.refresh_token), refusal(400, "invalid_grant"));
});

test("openid-client: a missing scope is told by a challenge", async () => {
  const config = await discover();
  const tokens = await signIn(config);
  await assert.rejects(
    openid.fetchProtectedResource(config, tokens.access_token, new URL("/users", ORIGIN), "GET"),
    (error) => {
      assert.equal(error.status, 403);
      assert.equal(error.cause[0].parameters.error, "insufficient_scope");
      return true;
    },
  );
});

const services = [
  ["basic", setting("BASIC_ID"), setting("BASIC_SECRET"), openid.ClientSecretBasic],
  ["post", setting("POST_ID"), setting("POST_SECRET"), openid.ClientSecretPost],
];

for (const [way, id, secret, proof] of services) {
  test(`openid-client: a service that authenticates by ${way} gets tokens of its own`, async () => {
    const config = await discover(id, proof(secret));
    const tokens = await openid.clientCredentialsGrant(config, { scope: "users:read" });
    assert.equal(tokens.scope, "users:read");
    assert.equal(tokens.refresh_token, undefined);
    const answer = await openid.fetchProtectedResource(config, tokens.access_token, new URL("/users", ORIGIN), "GET");
    assert.equal(answer.status, 200);
  });

  test(`openid-client: a service that authenticates by ${way} introspects a token, and sees it revoked`, async () => {
    const config = await discover(id, proof(secret));
    const tokens = await signIn(await discover(), { scope: "profile" });
    const seen = await openid.tokenIntrospection(config, tokens.access_token);
    assert.deepEqual([seen.active, seen.scope, seen.client_id], [true, "profile", "pinhole-web"]);
    await openid.tokenRevocation(await discover(), tokens.access_token);
    assert.deepEqual(await openid.tokenIntrospection(config, tokens.access_token), { active: false });
  });

  test(`openid-client: a wrong secret by ${way} is refused`, async () => {
    const config = await discover(id, proof("not the secret"));
    await assert.rejects(openid.clientCredentialsGrant(config), (error) => error.status === 401);
  });

  test(`openid-client: a service that authenticates by ${way} gets no scope beyond its own`, async () => {
    const config = await discover(id, proof(secret));
    await assert.rejects(openid.clientCredentialsGrant(config, { scope: "users:write" }), refusal(400, "invalid_scope"));
  });
}

test("oauth4webapi: a refresh token grant by the steps of RFC 6749", async () => {
  const issuer = new URL(ORIGIN);
  const server = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...PLAIN }),
  );
  const client = { client_id: "pinhole-web" };
  const { refresh_token } = await signIn(await discover());
  const ask = (token) => oauth.refreshTokenGrantRequest(server, client, oauth.None(), token, PLAIN);
  const tokens = await oauth.processRefreshTokenResponse(server, client, await ask(refresh_token));
  assert.ok(tokens.access_token);
  await assert.rejects(
    oauth.processRefreshTokenResponse(server, client, await ask("made up")),
    refusal(400, "invalid_grant"),
  );
});

test("oauth4webapi: the access token is one of RFC 9068", async () => {
  const issuer = new URL(ORIGIN);
  const server = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...PLAIN }),
  );
  const { access_token } = await signIn(await discover());
  const request = new Request(ORIGIN, { headers: { Authorization: `Bearer ${access_token}` } });
  const claims = await oauth.validateJwtAccessToken(server, request, AUDIENCE, PLAIN);
  assert.equal(claims.client_id, "pinhole-web");
});

test("jose: the published keys verify the access token, and no other audience or changed token", async () => {
  const keys = createRemoteJWKSet(new URL("/.well-known/jwks.json", ORIGIN));
  const { access_token } = await signIn(await discover());
  const expected = { issuer: ORIGIN, audience: AUDIENCE, typ: "at+jwt", algorithms: ["RS256"] };
  const { payload, protectedHeader } = await jwtVerify(access_token, keys, expected);
  assert.equal(payload.client_id, "pinhole-web");
  assert.equal(protectedHeader.typ, "at+jwt");
  await assert.rejects(jwtVerify(access_token, keys, { ...expected, audience: "other" }), { code: "ERR_JWT_CLAIM_VALIDATION_FAILED" });
  const [header, , signature] = access_token.split(".");
  const changed = Buffer.from(JSON.stringify({ ...payload, sub: "somebody else" })).toString("base64url");
  await assert.rejects(jwtVerify(`${header}.${changed}.${signature}`, keys, expected), {
    code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
  });
});
