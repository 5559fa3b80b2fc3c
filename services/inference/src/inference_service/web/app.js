/** The page: the entry for those who are not signed in, the camera for those who are. */

import { Account } from "./account.js";
import { Camera } from "./camera.js";
import { Entry } from "./entry.js";
import { Refusal } from "./http.js";
import { explain } from "./notices.js";
import { Session, SignedOut } from "./session.js";

const ENDED = { title: "Your session has ended", reason: "Sign in again to go on." };

const session = new Session();
const entry = new Entry(session);
const camera = new Camera(session);
const account = new Account(session);

let stay = new AbortController();

/** Show the camera to the one who is signed in; who that is may take a moment. */
async function enter() {
  account.show();
  entry.close();
  camera.open();
  const { signal } = stay;
  try {
    account.name(await session.send("/users/me", { signal }));
  } catch (error) {
    if (signal.aborted || error instanceof SignedOut) return;
    if (!(error instanceof Refusal)) throw error;
    const { title, reason } = explain(error);
    leave({ title, reason: `You are still signed in. ${reason}` }, { name: "Try again", run: enter });
  }
}

/** Show the entry, and say why. */
function leave(notice, action = null) {
  stay.abort();
  stay = new AbortController();
  account.hide();
  camera.close();
  entry.open(notice, action).focus();
}

entry.addEventListener("entered", enter);
session.addEventListener("ended", () => leave(ENDED));
camera.addEventListener("taken", ({ detail: name }) => account.tell(`${name} was taken. Close this to see it.`));
account.addEventListener("left", ({ detail }) => {
  session.signOut();
  leave(detail);
});
document.getElementById("sign-out").addEventListener("click", () => {
  session.signOut();
  leave(null);
  document.getElementById("status").textContent = "You are signed out.";
});

if (session.isKept) enter();
else entry.open();
