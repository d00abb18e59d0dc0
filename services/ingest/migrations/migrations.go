// Package migrations holds the Postgres schema of ingest: goose's SQL files, in the order of their numbers.
package migrations

import (
	"embed"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/query"
)

// Roles of the schema.
const (
	// Role does the batch work: the projection of the journal and the relay of the outbox.
	Role = "galley_ingest"
	// Reader serves the API. It sees and writes the rows of the one customer that the setting app.customer names.
	Reader = "galley_ingest_reader"
)

// lockID keeps two processes from migrating the schema at once.
const lockID = 7301

//go:embed *.sql
var files embed.FS

// Schema is ingest's part of the database.
func Schema() postgres.Schema {
	return postgres.Schema{Name: query.ServiceIngest, Roles: []string{Role, Reader}, Migrations: files, LockID: lockID}
}
