#!/bin/sh
# Starts Postgres in a container as the public image does: initialised on first use, open to all without a password.
set -e
data=/var/lib/postgresql/data
bin=$(echo /usr/lib/postgresql/*/bin)
if [ ! -s "$data/PG_VERSION" ]; then
    install -d -o postgres -m 700 "$data"
    su postgres -c "$bin/initdb -D $data -A trust -E UTF8 --locale=C.UTF-8 -U postgres"
    echo "host all all all trust" >> "$data/pg_hba.conf"
fi
# The command is `postgres` and its settings.
[ "$#" -eq 0 ] || shift
exec su postgres -c "exec $bin/postgres -D $data -c listen_addresses='*' $*"
