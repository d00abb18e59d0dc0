// Package migrations holds the Postgres schema of billing: goose's SQL files, in the order of their numbers.
package migrations

import (
	"embed"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/query"
)

// Roles of the schema.
const (
	// Role does the batch work. It cannot change or delete what is in the ledger.
	Role = "galley_billing"
	// Reader sees the rows of the one customer that the setting app.customer names.
	Reader = "galley_billing_reader"
)

// lockID keeps two processes from migrating the schema at once.
const lockID = 7302

//go:embed *.sql
var files embed.FS

// Schema is billing's part of the database.
func Schema() postgres.Schema {
	return postgres.Schema{Name: query.ServiceBilling, Roles: []string{Role, Reader}, Migrations: files, LockID: lockID}
}
