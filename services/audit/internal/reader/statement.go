package reader

import (
	"fmt"
	"strings"
	"time"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
)

// PoolSettings are those of the connections that answer questions. All of them are answered by walking an index in its order. Left to its
// statistics, which are those of some time ago, Postgres at times reads and sorts the whole table instead, for seconds.
func PoolSettings() map[string]string {
	return map[string]string{
		"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off", "jit": "off", "max_parallel_workers_per_gather": "0",
	}
}

// scope is whose rows are asked for.
type scope struct {
	// everyone is for the operator.
	everyone bool
	// customer is empty for nobody's rows.
	customer string
	// setting is what row-level security goes by.
	setting string
}

func scopeOf(customer string) scope {
	switch customer {
	case audit.Everyone:
		return scope{everyone: true, setting: postgres.EveryCustomer}
	case query.AuditNobody:
		return scope{}
	}
	return scope{customer: customer, setting: customer}
}

// statement is SQL with its arguments.
type statement struct {
	text      string
	arguments []any
}

// arg adds an argument and gives its place.
func (s *statement) arg(value any) string {
	s.arguments = append(s.arguments, value)
	return fmt.Sprintf("$%d", len(s.arguments))
}

// filter is a column that must have a value.
type filter struct{ column, value string }

// filtersOf are those that rows are looked at for, one after the other.
func filtersOf(request *query.AuditEventsRequest) []filter {
	var filters []filter
	for _, f := range []filter{
		{"action_type", request.ActionType},
		{"resource_type", request.ResourceType},
		{"actor_type", request.ActorType},
		{"actor_id", request.ActorID},
		{"outcome", request.Outcome},
	} {
		if f.value != "" {
			filters = append(filters, f)
		}
	}
	return filters
}

// where gives the filters as a condition that begins with AND, after other ones.
func (s *statement) where(filters []filter) string {
	var condition strings.Builder
	for _, f := range filters {
		condition.WriteString(" AND " + f.column + " = " + s.arg(f.value))
	}
	return condition.String()
}

// Kinds of rows that have indexes of their own. The texts must be those of the indexes.
const (
	milestones = `('execution.accepted', 'execution.debited', 'execution.completed')`

	anyRow    = ``
	acts      = ` AND action_type NOT IN ` + milestones
	milestone = ` AND action_type IN ` + milestones
	unsuccess = ` AND outcome <> 'success'`
	columns   = `sequence, event_id, customer_id, customer_sequence, action_type, resource_type, resource_id, actor_type, actor_id,
		outcome, trace_id, occurred_at, recorded_at, leaf`
)

// kindOf chooses among which rows the wanted ones are few.
func kindOf(request *query.AuditEventsRequest) string {
	switch request.ActionType {
	case leaf.ActionAccepted, leaf.ActionDebited, leaf.ActionCompleted:
	case "":
		if request.ResourceType != "" && request.ResourceType != leaf.ResourceExecution {
			return acts
		}
	default:
		return acts
	}
	if request.Outcome != "" && request.Outcome != string(event.StatusSuccess) {
		return unsuccess
	}
	return anyRow
}

// within says "of these, in the span" as a range of an index: (customer_id, sequence) or, for everyone, sequence. Said with customer_id = …,
// Postgres may walk the primary key through everybody's rows, or sort all rows of the customer: it cannot tell how few the policy leaves
// out. With half a million rows of one customer that took 2.4 s instead of 0.1 ms.
func (s *statement) within(of scope, part span) (condition, newestFirst string) {
	if of.everyone {
		return fmt.Sprintf(`sequence > %s AND sequence < %s`, s.arg(part.after), s.arg(part.before)), `sequence DESC`
	}
	customer := s.arg(of.customer)
	return fmt.Sprintf(`(customer_id, sequence) > (%[1]s, %[2]s) AND (customer_id, sequence) < (%[1]s, %[3]s)`,
		customer, s.arg(part.after), s.arg(part.before)), `customer_id DESC, sequence DESC`
}

// rows is the newest ones of a kind.
func rows(of scope, part span, kind string, limit int) statement {
	var s statement
	condition, order := s.within(of, part)
	s.text = `SELECT ` + columns + ` FROM audit.events WHERE ` + condition + kind + ` ORDER BY ` + order + ` LIMIT ` + s.arg(limit)
	return s
}

// filteredRows is what the filters leave of the newest rows of a kind, of which it looks at no more than walk, and at no more than it needs:
// the rows come in the order in which they are wanted.
func filteredRows(of scope, part span, kind string, filters []filter, walk, limit int) statement {
	s := rows(of, part, kind, walk)
	order := `customer_id DESC, sequence DESC`
	if of.everyone {
		order = `sequence DESC`
	}
	s.text = `SELECT ` + columns + ` FROM (` + s.text + `) AS walked WHERE true` + s.where(filters) + ` ORDER BY ` + order + ` LIMIT ` + s.arg(limit)
	return s
}

// lastWalked is the last row that filteredRows may look at, when there are so many.
func lastWalked(of scope, part span, kind string, walk int) statement {
	var s statement
	condition, order := s.within(of, part)
	s.text = `SELECT sequence FROM audit.events WHERE ` + condition + kind + ` ORDER BY ` + order + ` OFFSET ` + s.arg(walk-1) + ` LIMIT 1`
	return s
}

// resourceRows asks two indexes: the event ids of an execution's own rows all start with its id and "/", and "0" is the character after
// "/"; everything else is in the index of resources. OFFSET 0 keeps Postgres from reading the rows in the order of another index because the
// result is wanted in it.
func resourceRows(of scope, part span, resource string, filters []filter, limit int) statement {
	var s statement
	id := s.arg(resource)
	condition := fmt.Sprintf(`sequence > %s AND sequence < %s`, s.arg(part.after), s.arg(part.before))
	among := `resource_id = ` + id
	if !of.everyone {
		customer := s.arg(of.customer)
		condition += ` AND customer_id = ` + customer
		among = fmt.Sprintf(`(resource_id, customer_id) >= (%[1]s, %[2]s) AND (resource_id, customer_id) <= (%[1]s, %[2]s)`, id, customer)
	}
	condition += s.where(filters)
	s.text = `SELECT ` + columns + ` FROM (
			SELECT ` + columns + ` FROM audit.events WHERE event_id >= ` + id + ` || '/' AND event_id < ` + id + ` || '0' OFFSET 0
		) AS executed WHERE ` + condition + milestone + `
		UNION ALL
		SELECT ` + columns + ` FROM (
			SELECT ` + columns + ` FROM audit.events WHERE ` + among + acts + ` OFFSET 0
		) AS done WHERE ` + condition + `
		ORDER BY sequence DESC LIMIT ` + s.arg(limit)
	return s
}

// recordedBefore finds the sequence up to which rows were recorded before a time, by halving the log: times and sequences rise together.
func recordedBefore(of scope, at time.Time) statement {
	var s statement
	moment := s.arg(at)
	next := `SELECT sequence, recorded_at FROM audit.events WHERE sequence > (low + high) / 2 ORDER BY sequence LIMIT 1`
	if !of.everyone {
		customer := s.arg(of.customer)
		next = `SELECT sequence, recorded_at FROM audit.events WHERE (customer_id, sequence) > (` + customer + `, (low + high) / 2)
			AND customer_id <= ` + customer + ` ORDER BY customer_id, sequence LIMIT 1`
	}
	s.text = `
		WITH RECURSIVE search (low, high) AS (
			SELECT 0::bigint, sequence FROM audit.head
			UNION ALL
			SELECT least(coalesce(early.sequence, low), high), CASE WHEN early.sequence IS NULL THEN (low + high) / 2 ELSE high END
			FROM search LEFT JOIN LATERAL (
				SELECT sequence FROM (` + next + `) AS next WHERE recorded_at < ` + moment + `
			) AS early ON true
			WHERE low < high
		)
		SELECT max(low) FROM search`
	return s
}
