#!/bin/sh
# Makes the secrets that docker-compose.yml mounts. What is there already stays: everything stored is bound to it.
set -eu
cd "$(dirname "$0")/.."

# Containers run as users of their own and must be able to read the files; the folder keeps out everybody else here.
mkdir -p secrets
chmod 700 secrets
umask 022

random() {
	od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

# keep NAME TEXT: at no moment is half a file there to be read.
keep() {
	[ -e "secrets/$1" ] && return
	printf '%s\n' "$2" >"secrets/$1.new"
	mv "secrets/$1.new" "secrets/$1"
	echo "made secrets/$1"
}

keep audit_secret "$(random)"
keep postgres_password "$(random)"
keep database_url "postgres://postgres:$(cat secrets/postgres_password)@postgres:5432/audit"
keep nats_password "$(random)"
keep nats_gateway_password "$(random)"
keep nats_url "nats://auditlog:$(cat secrets/nats_password)@nats:4222"
keep nats_passwords "auditlog_password: \"$(cat secrets/nats_password)\"
gateway_password: \"$(cat secrets/nats_gateway_password)\""

echo "Back up secrets/audit_secret apart from the data: nothing stored can be verified without it."
