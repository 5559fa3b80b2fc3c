"""What `helm test` does: signs in as the administrator, reads the account, and has the sample picture classified."""

import pathlib
import sys

import httpx

auth, users, inference, username = sys.argv[1:]
password = pathlib.Path("/etc/pinhole/admin-password").read_text().strip()
sample = pathlib.Path(__import__("inference_service").__path__[0], "web", "sample-coffee.jpg").read_bytes()

with httpx.Client(timeout=30) as http:
    form = {"grant_type": "password", "username": username, "password": password}
    token = http.post(f"{auth}/token", data=form).raise_for_status().json()["access_token"]
    http.headers["Authorization"] = f"Bearer {token}"
    account = http.get(f"{users}/users/me").raise_for_status().json()
    if account["username"] != username:
        sys.exit(f"the token of {username} leads to {account['username']}")
    headers = {"Content-Type": "image/jpeg"}
    answer = http.post(f"{inference}/predict", content=sample, headers=headers).raise_for_status().json()
    print(f"{answer['label']}: {answer['score']:.2f}")
