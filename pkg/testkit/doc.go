// Package testkit gives tests the real things that galley runs on: NATS servers and clusters in the test's process, and a
// private Postgres server.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
// which stops what the tests shared and then looks for goroutines that they left behind.
//
// # Postgres
//
// [Postgres] hands out empty databases of one server that all tests of a process share; [PostgresServer] starts a server for
// one test, which may stop and kill it. The binaries are found as pgserver.FindBinaries describes.
//
// Databases are separate but roles belong to the whole server: tests that run in parallel and each create the same role, even
// behind an "if not exists", fail now and then with a duplicate key or "tuple concurrently updated". Run such statements under
// a lock that is the same for the whole server; an advisory lock is one per database, so take it in the database postgres,
// or serialise in the process.
//
// # Directories
//
// Under root, Postgres runs as another user, who cannot enter what t.TempDir returns. Give servers a directory from [TempDir].
package testkit
