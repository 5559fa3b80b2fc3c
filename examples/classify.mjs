// Classifies pictures for somebody with an account; the token is renewed before it is over. Node 18 or newer, no packages.
//   PINHOLE_USERNAME=ada PINHOLE_PASSWORD=... node examples/classify.mjs cat.jpg dog.jpg
// PINHOLE_URL is where Pinhole is: http://localhost:8000 without it.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";

const EARLY_SECONDS = 60;
const { PINHOLE_URL: url = "http://localhost:8000", PINHOLE_USERNAME: username, PINHOLE_PASSWORD: password } = process.env;

async function tokensFor(form) {
  const answer = await fetch(`${url}/token`, { method: "POST", body: new URLSearchParams(form) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.error}: ${body.error_description}`);
  return { ...body, renewAt: Date.now() + (body.expires_in - EARLY_SECONDS) * 1000 };
}

async function classify(path, token) {
  const form = new FormData();
  form.set("file", new Blob([await readFile(path)]), basename(path));
  const answer = await fetch(`${url}/predict`, { method: "POST", headers: { Authorization: `Bearer ${token}` }, body: form });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${path}: ${body.title}: ${body.detail}`);
  return body;
}

let tokens = await tokensFor({ grant_type: "password", username, password });
for (const path of process.argv.slice(2)) {
  if (Date.now() >= tokens.renewAt) {
    // Each refresh token is good once: the next one comes with the answer.
    tokens = await tokensFor({ grant_type: "refresh_token", refresh_token: tokens.refresh_token });
  }
  const { label, score } = await classify(path, tokens.access_token);
  console.log([path, label, score.toFixed(3)].join("\t"));
}
