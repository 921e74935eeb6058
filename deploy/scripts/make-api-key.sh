#!/usr/bin/env bash
# Makes an API key for one tenant of a small cluster, where no other is at hand. Does nothing where
# there is one already. `longshadow keys add` makes further ones.
#
#   make-api-key.sh FOLDER TENANT     writes api-keys.txt, for ROUTER_API_KEYS_FILE, and api-key.txt,
#                                     which clients send, to FOLDER
set -euo pipefail

folder=$1
tenant=$2

mkdir -p "$folder"
cd "$folder"
[ -s api-keys.txt ] && [ -s api-key.txt ] && exit 0
umask 077

key=lsk_$(openssl rand -base64 32 | tr '+/' '-_' | tr -d '=\n')
digest=$(printf %s "$key" | sha256sum | cut -d ' ' -f 1)
printf '%s\n' "$key" >api-key.txt
printf '%s %s\n' "$tenant" "$digest" >api-keys.txt
