// Package watch finds executions that are stuck: those that have neither ended nor can be expected to go on. Nothing should ever be; what
// is, by a defect or by a loss that the rest of galley does not survive, is reported, and where that is safe, helped.
//
// It costs next to nothing as long as all is well: a query over an index of the executions that are under way, every half a minute in one
// process, and one or two reads for each that is under way since more than a minute.
package watch

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

const (
	lockID = 7325
	// Interval is how often one process looks, unless a test wants another.
	Interval = 30 * time.Second
	// MaxLook is how many executions are looked at in one go. When more are under way, the next look goes on with the others.
	MaxLook = 500
	// grace is how late everything may be: less is normal while processes start, die or have much to do.
	grace = time.Minute
	// maxNamed is how many executions the log names at a time.
	maxNamed = 10
)

// Kind is how an execution is stuck.
type Kind string

const (
	// Overdue: it goes on past its deadline. Run ends it.
	Overdue Kind = "overdue"
	// Asleep: it waits, although what it waits for at the longest is over. Run wakes it.
	Asleep Kind = "asleep"
	// Unfunded: billing works, and has not decided about it.
	Unfunded Kind = "unfunded"
	// Silent: it has been without an event for longer than any of its steps may take.
	Silent Kind = "silent"
	// Lost: the journal does not have it any more, and it never ended.
	Lost Kind = "lost"
)

// Finding is an execution that is stuck.
type Finding struct {
	ExecutionID string `json:"execution_id"`
	CustomerID  string `json:"customer_id"`
	Kind        Kind   `json:"kind" enum:"overdue,asleep,unfunded,silent,lost"`
	// LastEvent is empty when the journal has none.
	LastEvent  event.Kind `json:"last_event,omitempty" doc:"The kind of its last event"`
	AcceptedAt time.Time  `json:"accepted_at"`
	// Since is when the next event should have been there at the latest.
	Since time.Time `json:"since" doc:"When it should have gone on at the latest"`
}

// Recipes finds recipe versions.
type Recipes interface {
	Resolve(ctx context.Context, customer, agent, recipe string, version int) (*catalogue.Pinned, error)
}

// Deps is what a Watch is given.
type Deps struct {
	// Pool acts as the role galley_ingest.
	Pool    *pgxpool.Pool
	Bus     *bus.Bus
	Journal *journal.Journal
	Recipes Recipes
	// Interval is how often Run looks.
	Interval time.Duration
	Clock    clock.Clock
	Log      zerolog.Logger
}

// Watch looks for executions that are stuck. It is safe for concurrent use.
type Watch struct{ Deps }

// New makes a Watch.
func New(deps Deps) *Watch {
	return &Watch{Deps: deps}
}

// Run looks at everything that is under way, a part at a time, and helps where it can, until ctx ends, in one process at a time.
func (w *Watch) Run(ctx context.Context) error {
	report := func(err error) { w.Log.Warn().Err(err).Msg("watch interrupted") }
	return postgres.Lead(ctx, w.Pool, lockID, report, func(ctx context.Context) error {
		var place *Place
		for lifecycle.Sleep(ctx, w.Interval) {
			look := w.begin()
			findings, next, err := look.look(ctx, place, MaxLook)
			if err != nil {
				return err
			}
			if err := look.help(ctx, findings); err != nil {
				return err
			}
			place = next
		}
		return nil
	})
}

// Place is how far a look has come.
type Place struct {
	AcceptedAt  time.Time `json:"t"`
	ExecutionID uuid.UUID `json:"i"`
}

// Look looks at limit executions that are under way since more than a minute, the oldest first, from a place on (nil for the beginning).
// It gives those that are stuck and where to go on, nil at the end.
func (w *Watch) Look(ctx context.Context, from *Place, limit int) (findings []Finding, next *Place, err error) {
	return w.begin().look(ctx, from, limit)
}

func (w *Watch) begin() *look {
	return &look{Watch: w, now: w.Clock(), ready: map[string]bool{}}
}

func (l *look) look(ctx context.Context, from *Place, limit int) (findings []Finding, next *Place, err error) {
	candidates, err := l.underWay(ctx, l.now.Add(-grace), from, limit)
	if err != nil {
		return nil, nil, err
	}
	for i := range candidates {
		finding, err := l.examine(ctx, &candidates[i])
		if err != nil {
			return nil, nil, err
		}
		if finding.Kind != "" {
			findings = append(findings, finding)
		}
	}
	if len(candidates) == limit {
		last := &candidates[limit-1]
		next = &Place{AcceptedAt: last.accepted, ExecutionID: uuid.MustParse(last.ID)}
	}
	return findings, next, nil
}

// candidate is an execution that has not ended, as far as the projection knows.
type candidate struct {
	subject.Execution
	accepted time.Time
}

func (w *Watch) underWay(ctx context.Context, before time.Time, from *Place, limit int) ([]candidate, error) {
	if from == nil {
		from = &Place{}
	}
	rows, err := w.Pool.Query(ctx, `SELECT customer_id, execution_id::text, accepted_at FROM ingest.executions
		 WHERE completed_at IS NULL AND accepted_at < $1 AND (accepted_at, execution_id) > ($2, $3)
		 ORDER BY accepted_at, execution_id LIMIT $4`, before, from.AcceptedAt, from.ExecutionID, limit)
	if err != nil {
		return nil, fmt.Errorf("list executions under way: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c candidate, err error) {
		return c, row.Scan(&c.Customer, &c.ID, &c.accepted)
	})
	if err != nil {
		return nil, fmt.Errorf("list executions under way: %w", err)
	}
	return found, nil
}

// help wakes and ends what is stuck where that cannot make it worse, and logs all of it.
func (l *look) help(ctx context.Context, findings []Finding) error {
	if len(findings) == 0 {
		return nil
	}
	counts, named := zerolog.Dict(), make([]string, 0, maxNamed)
	numbers := map[Kind]int{}
	for i := range findings {
		finding := &findings[i]
		numbers[finding.Kind]++
		if len(named) < maxNamed {
			named = append(named, finding.CustomerID+"/"+finding.ExecutionID)
		}
		if err := l.helpOne(ctx, finding); err != nil {
			return fmt.Errorf("help execution %s, which is %s: %w", finding.ExecutionID, finding.Kind, err)
		}
	}
	for kind, number := range numbers {
		counts.Int(string(kind), number)
	}
	l.Log.Warn().Dict("counts", counts).Strs("executions", named).Msg("executions are stuck")
	return nil
}

func (l *look) helpOne(ctx context.Context, finding *Finding) error {
	execution := subject.Execution{Customer: finding.CustomerID, ID: finding.ExecutionID}
	switch finding.Kind {
	case Overdue:
		return l.end(ctx, execution)
	case Asleep:
		if l.isReady(ctx, query.ServiceExecutor) { // calls that nobody hears would pile up
			return l.Bus.Due(ctx, execution.Due())
		}
	case Unfunded, Silent, Lost: // whoever finds out why has to help
	}
	return nil
}
