"""Sign-in, tokens and accounts: auth and users together."""

from charts.dashboards.panels import Dashboard, Panel, Query, Row
from charts.dashboards.queries import POD, increase, quantile, rate, total, variables

SIGN_IN = Row(
    "Sign-in",
    [
        Panel(
            "Sign-ins",
            "Sign-ins with a password a second. Refused is a wrong name or password, locked too many attempts; "
            "unavailable and error are our fault.",
            "reqps",
            [Query(rate("auth_logins_total", "outcome"), "{{outcome}}")],
            is_stacked=True,
            colors={"ok": "green", "refused": "blue", "locked": "yellow", "unavailable": "orange", "error": "red"},
        ),
        Panel(
            "Attempts at passwords",
            "Right, wrong, and refused unseen as there were too many.",
            "ops",
            [Query(rate("users_password_attempts_total", "outcome"), "{{outcome}}")],
            is_stacked=True,
            colors={"right": "green", "wrong": "blue", "refused": "yellow"},
        ),
        Panel(
            "Lockouts",
            "Wrong passwords within the interval after which nobody gets through for a while: of a name at an "
            "address (pair), of an address, or of a name.",
            "none",
            [
                Query(
                    increase("users_lockouts_total", "counter"),
                    "{{counter}}",
                )
            ],
        ),
    ],
)

TOKENS = Row(
    "Tokens",
    [
        Panel(
            "Tokens issued",
            "Requests for tokens a second that were granted, by grant.",
            "reqps",
            [Query(rate("auth_token_requests_total", "grant_type", f'{POD}, outcome="ok"'), "{{grant_type}}")],
            is_stacked=True,
        ),
        Panel(
            "Tokens refused",
            "Requests for tokens a second that were not granted, by grant and OAuth error.",
            "reqps",
            [
                Query(
                    rate("auth_token_requests_total", "grant_type, outcome", f'{POD}, outcome!="ok"'),
                    "{{grant_type}}: {{outcome}}",
                )
            ],
        ),
        Panel(
            "Refresh tokens that came twice",
            "Each ended its session: the token was copied, or a client keeps old ones.",
            "none",
            [Query(increase("auth_refresh_reuse_total", "service"), "{{service}}")],
        ),
        Panel(
            "Age of the signing key",
            "It is to change every 90 days.",
            "s",
            [Query(f"max by (service) (time() - auth_signing_key_created_timestamp_seconds{{{POD}}})", "{{service}}")],
            thresholds={8640000.0: "red"},
        ),
        Panel(
            "Age of what auth knows of accounts",
            "Time since their events were read, twice a second, by the replica that is furthest ahead: for so long may "
            "the sessions of a deleted or disabled account go on.",
            "s",
            [
                Query(
                    f"min by (service) (time() - (auth_account_events_read_timestamp_seconds{{{POD}}} > 0))",
                    "{{service}}",
                )
            ],
            thresholds={30.0: "red"},
        ),
        Panel(
            "Failed reads between services",
            "Attempts a second that failed: of the keys, of ended sessions, of the events of accounts.",
            "ops",
            [
                Query(rate("jwks_fetches_total", "service", f'{POD}, outcome="failed"'), "{{service}} keys"),
                Query(
                    rate("revocations_reads_total", "service", f'{POD}, outcome="failed"'),
                    "{{service}} ended sessions",
                ),
                Query(
                    rate("auth_account_events_reads_total", "service", f'{POD}, outcome="failed"'),
                    "{{service}} accounts",
                ),
            ],
        ),
    ],
)

HASHES = Row(
    "Password hashes",
    [
        Panel(
            "Time to compute one",
            "Without the wait for a thread. It is made to be long; it should not grow.",
            "s",
            [
                Query(
                    quantile(part, "users_password_hash_duration_seconds"),
                    name,
                )
                for part, name in ((0.5, "median"), (0.99, "99th percentile"))
            ],
        ),
        Panel(
            "Threads",
            "Hashes that are being computed, and the threads that there are for it.",
            "none",
            [
                Query(total("users_password_hashes_in_progress", "service"), "{{service}} computing"),
                Query(total("users_password_hash_pool_size", "service"), "{{service}} threads"),
            ],
        ),
        Panel(
            "Waiting",
            "Hashes that wait for a thread, and how many may; one more is answered with 503.",
            "none",
            [
                Query(total("users_password_hash_queue_size", "service"), "{{service}} waiting"),
                Query(total("users_password_hash_queue_capacity", "service"), "{{service}} most"),
            ],
        ),
    ],
)

IDENTITY = Dashboard(
    uid="pinhole-identity",
    title="Pinhole: sign-in and tokens",
    description="Who signs in, which tokens are issued, and whether somebody attacks them.",
    variables=variables("auth|users"),
    rows=[SIGN_IN, TOKENS, HASHES],
)
