#!/bin/bash
# Starts PostgreSQL as the official image does: at first it makes the database and runs /docker-entrypoint-initdb.d.
set -euo pipefail

socket=(-c unix_socket_directories=/var/run/postgresql)
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    mkdir -p "$PGDATA"
    initdb --pgdata="$PGDATA" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses='' ${socket[*]}" --wait start
    for script in /docker-entrypoint-initdb.d/*.sh; do
        PGHOST=/var/run/postgresql bash "$script"
    done
    pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' "${socket[@]}"
