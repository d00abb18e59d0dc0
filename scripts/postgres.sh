#!/bin/sh
# Makes sure that the programs of a Postgres server are there: galley runs a private server of its own from them. Looks where
# galley looks (package pgserver); when there are none, installs them with the system's package manager, if that is possible without
# asking anybody; else says in one sentence what to install.
set -eu

oldest=15

usable() {
	[ -x "$1/postgres" ] && [ -x "$1/initdb" ] || return 1
	major=$("$1/postgres" --version | sed -n 's/.*(PostgreSQL) \([0-9][0-9]*\).*/\1/p')
	[ "${major:-0}" -ge $oldest ]
}

installed() {
	if [ -n "${PG_BIN:-}" ]; then
		usable "$PG_BIN"
		return
	fi
	if program=$(command -v postgres); then
		program=$(readlink -f "$program" 2>/dev/null || echo "$program")
		if usable "$(dirname "$program")"; then return 0; fi
	fi
	for dir in /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
		if usable "$dir"; then return 0; fi
	done
	return 1
}

give_up() {
	echo "galley needs the Postgres server, version $oldest or newer: install it ($1) and try again." >&2
	exit 1
}

# quietly shows what a command said only when it failed.
quietly() {
	if ! said=$("$@" 2>&1); then
		printf '%s\n' "$said" >&2
		return 1
	fi
}

# The package of Debian and Ubuntu would also start a server that nobody asked for, on port 5432.
install_debian() {
	quietly $root env DEBIAN_FRONTEND=noninteractive apt-get update &&
		if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
			quietly $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-common &&
				$root sed -i 's/^#\{0,1\}create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
		fi &&
		quietly $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql
}

if installed; then exit 0; fi

has() { command -v "$1" >/dev/null 2>&1; }

if has brew; then
	how="brew install postgresql@17"
elif has apt-get; then
	how="apt-get install postgresql"
elif has dnf; then
	how="dnf install postgresql-server"
elif has apk; then
	how="apk add postgresql"
else
	give_up "see https://www.postgresql.org/download/, and set PG_BIN to the directory of its programs if need be"
fi
if [ -n "${PG_BIN:-}" ]; then
	give_up "PG_BIN is $PG_BIN, where it is not; without PG_BIN galley looks in the usual places"
fi

root=""
if ! has brew && [ "$(id -u)" -ne 0 ]; then
	if has sudo && sudo -n true 2>/dev/null; then
		root="sudo -n"
	else
		give_up "as root: $how"
	fi
fi

echo "installing the Postgres server: $how" >&2
case $how in
brew*) quietly env HOMEBREW_NO_AUTO_UPDATE=1 $how ;;
apt-get*) install_debian ;;
dnf*) quietly $root dnf install -y postgresql-server ;;
apk*) quietly $root apk add postgresql ;;
esac || give_up "$how failed, see above"

installed || give_up "$how gave none that is usable, see https://www.postgresql.org/download/"
