package usage

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
)

// execution is what a report needs of one.
type execution struct {
	accepted time.Time
	version  version
	ended    bool
	charged  credit.Micro
	steps    []step
}

// step is what a report needs of an event.StepSummary: to decode the rest would take half as long again.
type step struct {
	ID       string       `json:"id"`
	Attempts int          `json:"attempts"`
	Credits  credit.Micro `json:"credits"`
	Usage    *event.Usage `json:"usage"`
}

// tally adds up.
type tally struct {
	Request
	rows     map[Key]*Figures
	total    Figures
	underWay int64
}

func newTally(request Request) *tally {
	return &tally{Request: request, rows: make(map[Key]*Figures)}
}

// scan adds executions of a customer.
func (t *tally) scan(rows pgx.Rows, customer string, kinds kindsOf) error {
	var e execution
	var response pgtype.DriverBytes // those of the connection, good for this row
	into := []any{&e.accepted, &e.version.agent, &e.version.recipe, &e.version.number, &e.ended, &e.charged, &response}
	_, err := pgx.ForEachRow(rows, into, func() error {
		e.steps = stepsIn(response)
		t.add(customer, &e, kinds[e.version])
		if len(t.rows) > maxRows {
			return ErrTooLong
		}
		return nil
	})
	return err
}

// stepsIn reads the steps of a response. What cannot be read has none; what was charged for it is known all the same.
func stepsIn(response []byte) []step {
	var decoded struct {
		Metadata struct {
			Steps []step `json:"steps"`
		} `json:"metadata"`
	}
	if json.Unmarshal(response, &decoded) != nil {
		return nil
	}
	return decoded.Metadata.Steps
}

// add counts an execution in the row that it belongs to or, by kind, in those of its steps.
func (t *tally) add(customer string, e *execution, kinds map[string]string) {
	if !e.ended {
		t.underWay++
		return
	}
	key := t.key(customer, e)
	counted := make(map[Key]bool, 1)
	row := func(kind string) *Figures {
		key.Kind = kind
		figures, found := t.rows[key]
		if !found {
			figures = &Figures{}
			t.rows[key] = figures
		}
		if !counted[key] {
			counted[key] = true
			figures.Executions++
		}
		return figures
	}
	t.total.Executions++
	// Steps are paid in their order, so that rows add up to what was charged, also where that was capped.
	left := e.charged
	for i := range e.steps {
		step := &e.steps[i]
		if step.Attempts == 0 {
			continue
		}
		paid := min(step.Credits, left)
		left -= paid
		kind := ""
		if t.By.Kind {
			kind = kinds[step.ID]
		}
		row(kind).add(1, paid, step.Usage)
		t.total.add(1, paid, step.Usage)
	}
	if left > 0 || len(counted) == 0 {
		row("").add(0, left, nil)
		t.total.add(0, left, nil)
	}
}

// key is what the execution's rows are about, but for the kind.
func (t *tally) key(customer string, e *execution) (key Key) {
	if t.By.Customer {
		key.Customer = customer
	}
	if t.By.Day {
		key.Day = e.accepted.In(t.From.Location()).Format(time.DateOnly)
	}
	if t.By.Recipe {
		key.Agent, key.Recipe = e.version.agent, e.version.recipe
	}
	return key
}

func (f *Figures) add(steps int64, credits credit.Micro, usage *event.Usage) {
	f.Steps += steps
	f.Credits += credits
	// The sum of what comes from outside stays at the largest number.
	sum := usage.Plus(&event.Usage{InputTokens: f.InputTokens, OutputTokens: f.OutputTokens, Units: f.Units})
	f.InputTokens, f.OutputTokens, f.Units = sum.InputTokens, sum.OutputTokens, sum.Units
}

func (t *tally) report() Report {
	report := Report{Rows: make([]Row, 0, len(t.rows)), Total: t.total, UnderWay: t.underWay}
	for key, figures := range t.rows {
		report.Rows = append(report.Rows, Row{Key: key, Figures: *figures})
	}
	slices.SortFunc(report.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Customer, b.Customer), cmp.Compare(a.Day, b.Day), cmp.Compare(a.Agent, b.Agent),
			cmp.Compare(a.Recipe, b.Recipe), cmp.Compare(a.Kind, b.Kind))
	})
	return report
}
