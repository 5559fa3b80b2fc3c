/** The page: the entry for those who are not signed in, the camera for those who are. */

import { Camera } from "./camera.js";
import { Entry } from "./entry.js";
import { Refusal } from "./http.js";
import { explain } from "./notices.js";
import { Session, SignedOut } from "./session.js";

const ENDED = { title: "Your session has ended", reason: "Sign in again to go on." };

const session = new Session();
const entry = new Entry(session);
const camera = new Camera(session);
const account = document.getElementById("account");
const accountName = document.getElementById("account-name");

let stay = new AbortController();

/** Show the camera to the one who is signed in; who that is may take a moment. */
async function enter() {
  account.hidden = false;
  entry.close();
  camera.open();
  const { signal } = stay;
  try {
    const user = await session.send("/users/me", { signal });
    accountName.textContent = user.full_name || user.username;
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
  account.hidden = true;
  accountName.textContent = "";
  camera.close();
  entry.open(notice, action).focus();
}

entry.addEventListener("entered", enter);
session.addEventListener("ended", () => leave(ENDED));
document.getElementById("sign-out").addEventListener("click", () => {
  session.signOut();
  leave(null);
  document.getElementById("status").textContent = "You are signed out.";
});

if (session.isKept) enter();
else entry.open();
