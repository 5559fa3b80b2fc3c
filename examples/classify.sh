#!/bin/sh
# Classifies pictures with curl; each answer is a line of JSON.
#   PINHOLE_USERNAME=ada PINHOLE_PASSWORD=... examples/classify.sh cat.jpg dog.jpg
# PINHOLE_URL is where Pinhole is: http://localhost:8000 without it.
set -eu
url=${PINHOLE_URL:-http://localhost:8000}

# By standard input, as the token below: the arguments of a program can be read by all users of a machine.
answer=$(printf %s "$PINHOLE_PASSWORD" | curl --silent --show-error --fail-with-body "$url/token" \
    --data grant_type=password --data-urlencode "username=$PINHOLE_USERNAME" --data-urlencode password@-) ||
    { echo "$answer" >&2; exit 1; }
token=$(printf %s "$answer" | sed 's/.*"access_token": *"\([^"]*\)".*/\1/')

for picture in "$@"; do
    printf 'Authorization: Bearer %s' "$token" |
        curl --silent --show-error --fail-with-body "$url/predict" --header @- --form "file=@$picture"
    echo
done
