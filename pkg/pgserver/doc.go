// Package pgserver runs a private Postgres server in a data directory.
//
// The server belongs to one galley process: it listens on a Unix socket only, in a directory that only its own user can
// enter, and local connections are trusted for that reason. Nothing has to be installed but the Postgres server binaries.
//
// # What is in the directory
//
//	data/            the cluster, made by initdb
//	postgresql.conf  written at every start; to change a setting for good use ALTER SYSTEM, which wins over this file
//	pg_hba.conf      written at every start
//	postgres.log     what the server said; the file of before it grew too long is postgres.log.1
//	socket/          the Unix socket, unless the path is too long for one
//	lock             held while a process manages the cluster
//	relocated        a symbolic link to where all of the above is instead, see below
//
// # Root
//
// Postgres refuses to run as root. Started by root, the server runs as the owner of its data, at first the user postgres or,
// failing that, nobody. That user has to reach the directory: when a parent directory keeps it out (root's home often does),
// the cluster is made in /var/lib/galley and the link named relocated leads there. Whoever deletes the directory to start
// afresh then also deletes what the link points to.
//
// # Crashes
//
// The server is not tied to the life of the process that started it. When that process is killed, the server goes on, and
// the next [Start] on the same directory takes it over without interruption. When the server itself is killed, [Server.Done]
// is closed and a new Start recovers the cluster.
//
// A service manager should send its signal to the main process only (KillMode=mixed in systemd): the SIGTERM that systemd sends
// to all processes makes Postgres turn new connections away while galley still drains.
package pgserver
