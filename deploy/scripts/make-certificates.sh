#!/usr/bin/env bash
# Makes a certificate authority and one certificate that all services of a small cluster share, for
# mutual TLS where no other authority is at hand. Does nothing where they exist already.
#
#   make-certificates.sh FOLDER NAME...      writes ca.crt, ca.key, tls.crt and tls.key to FOLDER
#
# The names (host names or *.wildcards) and localhost are what clients may call the services by.
set -euo pipefail

folder=$1
shift
days=365

mkdir -p "$folder"
cd "$folder"
[ -s tls.crt ] && [ -s tls.key ] && [ -s ca.crt ] && exit 0
umask 077

names="DNS:localhost,IP:127.0.0.1,IP:::1"
for name in "$@"; do names+=",DNS:$name"; done

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" \
  -subj "/CN=Longshadow CA" -addext "basicConstraints=critical,CA:TRUE" \
  -keyout ca.key -out ca.crt 2>openssl.log
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
  -subj "/CN=longshadow" -keyout tls.key -out tls.csr 2>>openssl.log
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days "$days" \
  -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names") \
  -out tls.crt 2>>openssl.log
rm -f tls.csr ca.srl openssl.log
chmod 0644 ca.crt tls.crt
