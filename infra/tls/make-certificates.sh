#!/bin/sh
# Makes an authority and certificates for a fleet, for a first installation or a test. Where an
# authority exists already (cert-manager, Vault, SPIRE), use that: Quire asks only for PEM files.
#
#   make-certificates.sh FOLDER COORDINATOR_NAME... -- CLIENT_NAME...
#
# COORDINATOR_NAMEs are host names or IP addresses under which coordinators are reached; each
# CLIENT_NAME becomes one certificate, and is what `[[coordinator.identities]]` speaks of.
set -eu

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

[ $# -ge 4 ] || usage
folder=$1
shift
mkdir -p "$folder"
cd "$folder"
umask 077

new_key() {
    openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"
}

# issue NAME USE ALTERNATIVE_NAMES
issue() {
    new_key "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    cat > "$1.ext" <<END
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=$2
subjectAltName=$3
END
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 \
        -days "${DAYS:-90}" -extfile "$1.ext" -out "$1.pem"
    rm "$1.csr" "$1.ext"
}

if [ ! -e ca.key ]; then
    new_key ca.key
    openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=quire fleet" \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 \
        -addext keyUsage=critical,keyCertSign,cRLSign -out ca.pem
fi

names=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
        *:*) kind=IP ;;
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    names=${names:+$names,}$kind:$1
    shift
done
[ -n "$names" ] && [ $# -gt 1 ] || usage
shift
issue coordinator serverAuth "$names"
for name in "$@"; do
    issue "$name" clientAuth "DNS:$name"
done
chmod 644 ./*.pem
