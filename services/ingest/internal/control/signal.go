package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// MaxSignal is the most bytes of data that an event for an execution may have.
const MaxSignal = 64 << 10

// Signal gives an execution an event, which it may wait for already or come to wait for later. data is any JSON. The first event of a
// name counts: the same one again changes nothing, other data for the name is a CONFLICT.
func (c *Controller) Signal(ctx context.Context, execution subject.Execution, name string, data []byte, author Author) error {
	switch {
	case !subject.ValidID(name):
		return accept.Malformed("/name", subject.ErrInvalidID.Error())
	case len(data) > MaxSignal:
		return &problem.Error{Code: problem.PayloadTooLarge, Message: "the data of an event is limited to 64 KiB"}
	case !json.Valid(data) || !utf8.Valid(data):
		return accept.Malformed("", "is not valid JSON")
	}
	if _, err := c.underWay(ctx, execution); err != nil {
		return err
	}
	entry := activity.Entry{
		Action: event.ActionExecutionSignalled, Author: author, After: map[string]any{"event": name, "bytes": len(data)},
	}
	earlier, err := c.storeRecorded(ctx, execution, subject.SignalEvent, name, data, entry)
	if err != nil {
		return err
	}
	if earlier != nil && !accept.SameJSON(earlier, data) {
		return conflict("execution %s was given the event %q with other data before", execution.ID, name)
	}
	// Also when it is stored already: whoever stored it may have failed to wake the execution.
	return c.wake(ctx, execution)
}

// Decision is what a person decided about an approval. Value of a signal of that kind.
type Decision struct {
	Approved bool      `json:"approved"`
	By       string    `json:"by"`
	Comment  string    `json:"comment"`
	At       time.Time `json:"at"`
}

// Decide gives an execution a decision about one of its approval steps; for an item of a foreach, step is "<step>.<index>". The first
// decision counts: the same one again changes nothing, another one is a CONFLICT.
func (c *Controller) Decide(
	ctx context.Context, execution subject.Execution, step string, approved bool, comment string, author Author,
) error {
	if err := checkText("/comment", comment); err != nil {
		return err
	}
	if _, err := c.underWay(ctx, execution); err != nil {
		return err
	}
	if err := c.requireApproval(ctx, execution, step); err != nil {
		return err
	}
	decision := Decision{Approved: approved, By: author.Actor.String(), Comment: comment, At: c.Clock()}
	data, err := json.Marshal(decision)
	if err != nil {
		return fmt.Errorf("encode decision: %w", err)
	}
	entry := activity.Entry{
		Action: event.ActionExecutionRejected, Author: author, After: map[string]any{"step": step, "comment": comment},
	}
	if approved {
		entry.Action = event.ActionExecutionApproved
	}
	earlier, err := c.storeRecorded(ctx, execution, subject.SignalApproval, step, data, entry)
	if err != nil {
		return err
	}
	if earlier != nil {
		if err := json.Unmarshal(earlier, &decision); err != nil {
			return fmt.Errorf("decode decision: %w", err)
		}
		if decision.Approved != approved {
			return conflict("step %s of execution %s was decided otherwise by %s", step, execution.ID, decision.By)
		}
	}
	return c.wake(ctx, execution)
}

var errStored = errors.New("stored before")

// requireApproval refuses what nothing in the recipe could ever ask for: a decision about a misspelt step would wait for ever.
func (c *Controller) requireApproval(ctx context.Context, execution subject.Execution, name string) error {
	first, err := c.first(ctx, execution)
	if err != nil {
		return expired(err, ended(execution))
	}
	ran, err := first.Recipe()
	if err != nil {
		return err
	}
	pinned, err := c.Catalogue.Resolve(ctx, execution.Customer, ran.AgentID, ran.RecipeID, ran.Version)
	if err != nil {
		return err
	}
	for _, step := range pinned.Recipe.Steps {
		if step.Kind == recipe.KindApproval && names(step, name) {
			return nil
		}
	}
	return &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf("recipe %s has no approval %q", ran, name)}
}

func names(step *recipe.Step, name string) bool {
	if step.ForEach == nil {
		return step.ID == name
	}
	text, item := strings.CutPrefix(name, step.ID+".")
	index, err := strconv.Atoi(text)
	return item && err == nil && strconv.Itoa(index) == text && index >= 0 && index < step.ForEach.MaxItems
}

// storeRecorded stores a signal and its activity, unless there is one already: that is earlier. No signal is stored that the audit log will
// not have.
func (c *Controller) storeRecorded(
	ctx context.Context, execution subject.Execution, kind subject.SignalKind, name string, data []byte, entry activity.Entry,
) (earlier []byte, err error) {
	err = c.transact(ctx, execution.Customer, func(tx pgx.Tx) error {
		if err := c.record(ctx, tx, execution, entry); err != nil {
			return err
		}
		earlier, err = c.store(ctx, execution, kind, name, data)
		if err == nil && earlier != nil {
			err = errStored
		}
		return err
	})
	if err != nil && !errors.Is(err, errStored) {
		return nil, unavailable(err)
	}
	return earlier, nil
}

// store stores a signal, unless there is one already: that is earlier.
func (c *Controller) store(
	ctx context.Context, execution subject.Execution, kind subject.SignalKind, name string, data []byte,
) (earlier []byte, err error) {
	bucket, err := c.Bus.JS.KeyValue(ctx, subject.BucketSignals)
	if err == nil {
		_, err = bucket.Create(ctx, execution.SignalKey(kind, name), data)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		var found bool
		if earlier, found, err = c.Journal.Signal(ctx, execution, kind, name); found {
			return earlier, nil
		}
		err = errors.Join(err, errUnreadable)
	}
	if err != nil {
		return nil, unavailable(fmt.Errorf("store signal: %w", err))
	}
	return nil, nil
}

var errUnreadable = errors.New("a signal that is there cannot be read")

// wake has the execution look at its signals. It comes after the signal is stored: an execution that stops to wait meanwhile either
// finds the signal or is found waiting here.
func (c *Controller) wake(ctx context.Context, execution subject.Execution) error {
	last, err := c.Journal.Last(ctx, execution)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return nil
	case err != nil:
	case last.WaitsForCredits(): // it finds the signal when it begins
	case last.Kind == event.Waiting:
		err = c.Bus.Due(ctx, execution.Due())
	default:
		err = c.Bus.Conn.Publish(execution.Notify(), nil)
	}
	if err != nil {
		return unavailable(fmt.Errorf("wake the execution: %w", err))
	}
	return nil
}
