package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Bits of pg_trigger.tgtype.
const (
	triggerBefore   = 1 << 1
	triggerDelete   = 1 << 3
	triggerUpdate   = 1 << 4
	triggerTruncate = 1 << 5
)

// refusal is the body of the trigger's function, by its words.
const refusal = `BEGIN RAISE EXCEPTION 'audit.% is append-only: % refused', TG_TABLE_NAME, TG_OP ` +
	`USING ERRCODE = 'insufficient_privilege'; END`

// guard is how a table is kept from being changed.
type guard struct {
	Exists   bool
	Security bool
	Enabled  string
	Type     int16
	Narrowed bool
	Body     string
}

// catalogue looks whether the tables still refuse what they should. Whoever switched that off may have switched it on again: this says
// how things stand now, not how they stood.
func (d *database) catalogue(ctx context.Context) error {
	tables := []struct {
		name     string
		events   int16
		security bool
	}{
		{"events", triggerBefore | triggerUpdate | triggerDelete | triggerTruncate, true},
		{"tiles", triggerBefore | triggerUpdate | triggerDelete | triggerTruncate, false},
		{"tree_heads", triggerBefore | triggerUpdate | triggerDelete | triggerTruncate, false},
		{"payloads", triggerBefore | triggerUpdate | triggerTruncate, true},
	}
	for _, table := range tables {
		g, err := readGuard(ctx, d.tx, table.name)
		if err != nil {
			return err
		}
		if fault := g.fault(table.events); fault != "" {
			d.found.add(Finding{Code: TriggerDisabled, Message: fmt.Sprintf("the trigger append_only of audit.%s %s", table.name, fault)})
		}
		if table.security && !g.Security {
			d.found.add(Finding{Code: RowSecurityDisabled, Message: fmt.Sprintf("row-level security of audit.%s is off, or not forced", table.name)})
		}
	}
	return nil
}

func readGuard(ctx context.Context, tx pgx.Tx, table string) (guard, error) {
	const statement = `
		SELECT t.oid IS NOT NULL, c.relrowsecurity AND c.relforcerowsecurity, coalesce(t.tgenabled::text, ''), coalesce(t.tgtype, 0),
			coalesce(t.tgqual IS NOT NULL OR t.tgattr::text <> '', false), coalesce(p.prosrc, '')
		FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = 'append_only' AND NOT t.tgisinternal
		LEFT JOIN pg_proc AS p ON p.oid = t.tgfoid
		WHERE n.nspname = 'audit' AND c.relname = $1`
	rows, err := tx.Query(ctx, statement, table)
	if err != nil {
		return guard{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[guard])
}

// fault says what is wrong with the trigger, "" when nothing is.
func (g *guard) fault(events int16) string {
	const always = "A"
	switch {
	case !g.Exists:
		return "was dropped"
	case g.Enabled == "D":
		return "is disabled"
	case g.Enabled != always:
		return "is not ENABLE ALWAYS: session_replication_role = replica passes it by"
	case g.Type != events || g.Narrowed:
		return "does not see every change"
	case strings.Join(strings.Fields(g.Body), " ") != refusal:
		return "does not refuse changes: its function was replaced"
	default:
		return ""
	}
}
