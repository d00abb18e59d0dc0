#!/bin/sh
# Says in one sentence what to do when Go is missing or too old.
set -eu

needed="galley needs Go 1.26 or newer: install it from https://go.dev/dl/"
if ! command -v go >/dev/null 2>&1; then
	echo "$needed (there is no go in PATH)" >&2
	exit 1
fi
# From Go 1.21 on, go fetches the version that go.work names by itself, unless GOTOOLCHAIN forbids it.
version=$(go env GOVERSION 2>/dev/null) || version="an older one"
case $version in
go1.2[6-9]* | go1.[3-9][0-9]* | go[2-9]* | devel*) ;;
*)
	echo "$needed (this is $version)" >&2
	exit 1
	;;
esac
