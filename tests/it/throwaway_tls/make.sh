#!/bin/sh
# Makes the certificates of the TLS tests, good for a hundred years. They protect nothing: the keys are public.
set -eu
cd "$(dirname "$0")"
make_ca() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj "/CN=$2" \
        -keyout "$1-key.pem" -out "$1.pem" -addext "keyUsage=critical,keyCertSign" 2>/dev/null
}
make_leaf() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" \
        -keyout "$1-key.pem" -out "$1.csr" 2>/dev/null
    printf 'basicConstraints=CA:FALSE\nsubjectAltName=%s\nextendedKeyUsage=%s\n' "$2" "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 36500 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
    rm -f "$1.csr" "$1.ext"
}
make_ca ca "frond test authority"
make_ca stranger "another authority"
make_leaf server "DNS:localhost,IP:127.0.0.1" serverAuth
make_leaf client "DNS:press-7" clientAuth
rm -f ca-key.pem stranger-key.pem ca.srl
