// Package migrations holds the Postgres schema of audit: goose's SQL files, in the order of their numbers.
package migrations

import (
	"embed"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/query"
)

// Roles of the schema.
const (
	// Role writes the log. It can add rows and read them, not change or delete them.
	Role = "galley_audit"
	// Reader sees the rows of the one customer that the setting app.customer names.
	Reader = "galley_audit_reader"
	// Eraser deletes payloads of the one customer that the setting app.customer names, and nothing else.
	Eraser = "galley_audit_eraser"
	// Webhook keeps the webhook of the one customer that the setting app.customer names.
	Webhook = "galley_audit_webhook"
)

// lockID keeps two processes from migrating the schema at once.
const lockID = 7303

//go:embed *.sql
var files embed.FS

// Schema is audit's part of the database.
func Schema() postgres.Schema {
	return postgres.Schema{Name: query.ServiceAudit, Roles: []string{Role, Reader, Eraser, Webhook}, Migrations: files, LockID: lockID}
}
