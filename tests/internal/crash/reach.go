package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/inspect"
)

// measured is what a step of reach costs for what was measured, and the most that it can cost; most is 0 for every other step.
func measured(step string, usage *event.Usage) (charge, most credit.Micro) {
	if usage == nil {
		usage = &event.Usage{}
	}
	switch step {
	case "ask":
		return credit.Micro(perInput*usage.InputTokens + perOutput*usage.OutputTokens), maxAsk
	case "work":
		return credit.Micro(perUnit * usage.Units), maxWork
	}
	return 0, 0
}

// reached is the end of an execution of reach.
type reached struct {
	*inspect.Execution
	completed *inspect.Event
	marker    string
	response  event.Response
	// kept are the revisions of the values that it keeps, by their keys in the bucket, as it was told; none unless it succeeded.
	kept map[string]uint64
}

// allReached are the executions of reach that have ended.
func allReached(journal inspect.Journal) (all []reached, violations []Violation) {
	for _, execution := range journal {
		completed := execution.Last(event.Completed)
		if completed == nil || completed.Header.Get(event.HeaderSubject) != reachRecipe {
			continue
		}
		r := reached{Execution: execution, completed: completed, kept: map[string]uint64{}}
		var data struct {
			Kept []struct {
				Key      string `json:"key"`
				Revision uint64 `json:"revision"`
			} `json:"kept"`
		}
		var err error
		r.marker, err = markerOf(execution)
		if err == nil {
			err = json.Unmarshal(completed.Data, &r.response)
		}
		if err == nil && r.response.Status == event.StatusSuccess {
			err = json.Unmarshal(r.response.Data, &data)
		}
		if err != nil {
			violations = append(violations, Violation{err, execution})
			continue
		}
		for _, each := range data.Kept {
			r.kept[subject.StoreKey(r.Customer, each.Key)] = each.Revision
		}
		all = append(all, r)
	}
	return all, violations
}

// agrees tells whether what a step leaves behind is there just when the step has succeeded. A cancelled execution may have done more than it
// knows.
func (r *reached) agrees(step string, there bool) bool {
	return there == r.succeeded(step) || there && wasCancelled(r.Execution)
}

func (r *reached) succeeded(step string) bool {
	return slices.ContainsFunc(r.response.Metadata.Steps, func(s event.StepSummary) bool { return s.ID == step && s.Status == event.StepSuccess })
}

// compareReach checks that reach succeeds whatever dies, that all whom it reaches for have heard of it, and that what it pays is what they
// told.
func compareReach(outside seen, journal inspect.Journal) []Violation {
	all, violations := allReached(journal)
	for _, r := range all {
		report := func(format string, args ...any) {
			violations = append(violations, Violation{fmt.Errorf(format, args...), r.Execution})
		}
		switch code := problem.Code(r.completed.Header.Get(event.HeaderCode)); {
		case r.response.Status != event.StatusSuccess && code != problem.Cancelled && code != problem.InsufficientCredits:
			report("it ended as %s, %s", r.response.Status, code)
		case r.response.Status == event.StatusSuccess && len(r.kept) != len(pieces()):
			report("it knows of %v that it keeps", r.kept)
		}
		for _, step := range r.response.Metadata.Steps {
			key := r.ID + "/" + step.ID
			calls, by := len(outside.calls[key]), outside.ways[key]
			if expected := wayOf(step.ID); expected != by && step.Status == event.StepSuccess {
				report("%s succeeded, and the outside world saw nothing of the kind", key)
			}
			charge, most := measured(step.ID, step.Usage)
			if most > 0 && step.Status == event.StepSuccess && (!told(by, step.Usage, calls) || step.Credits != charge) {
				report("%s was charged %s for the usage %+v of %d calls", step.ID, step.Credits, step.Usage, calls)
			}
		}
	}
	return violations
}

// wayOf is how a step of reach calls the outside world, "" when it does not.
func wayOf(step string) way {
	switch step {
	case "ask":
		return byModel
	case "mail":
		return byMail
	case "work":
		return byWorker
	case "tell":
		return byWebhook
	}
	return ""
}

// compareIDs checks that the messages with one idempotency key have one id, and those with another one another.
func compareIDs(ids map[string][]string) []Violation {
	var violations []Violation
	owner := map[string]string{}
	for key, list := range ids {
		for _, id := range list {
			if of, known := owner[id]; id == "" || known && of != key {
				violations = append(violations, Violation{Err: fmt.Errorf("a message of %s has the id %q, which is that of %s", key, id, of)})
			}
			owner[id] = key
		}
		if distinct := slices.Compact(slices.Sorted(slices.Values(list))); len(distinct) != 1 {
			violations = append(violations, Violation{Err: fmt.Errorf("the messages of %s have the ids %v", key, distinct)})
		}
	}
	return violations
}

// store is what is kept in the bucket of the customers' values, and how often something was written there.
type store struct {
	values []value
	writes uint64
}

type value struct {
	key, json string
	revision  uint64
}

func readStore(ctx context.Context, js jetstream.JetStream) (store, error) {
	bucket, err := js.KeyValue(ctx, subject.BucketStore)
	if err != nil {
		return store{}, fmt.Errorf("look up the store: %w", err)
	}
	watcher, err := bucket.WatchAll(ctx)
	if err != nil {
		return store{}, fmt.Errorf("read the store: %w", err)
	}
	defer watcher.Stop() //nolint:errcheck // only read from
	var kept store
	for {
		select {
		case <-ctx.Done():
			return store{}, fmt.Errorf("read the store: %w", ctx.Err())
		case entry, open := <-watcher.Updates():
			if !open {
				return store{}, errors.New("read the store: it stopped in the middle")
			}
			if entry != nil {
				kept.values = append(kept.values, value{entry.Key(), string(entry.Value()), entry.Revision()})
				continue
			}
			stream, err := js.Stream(ctx, "KV_"+subject.BucketStore)
			if err != nil {
				return store{}, fmt.Errorf("read the store: %w", err)
			}
			kept.writes = stream.CachedInfo().State.LastSeq
			return kept, nil
		}
	}
}

// compareStore checks that each execution of reach has written its values, once each, and that nothing else was written.
func compareStore(kept store, journal inspect.Journal) []Violation {
	all, violations := allReached(journal)
	values := map[string]value{}
	for _, v := range kept.values {
		values[v.key] = v
	}
	known := 0
	for _, r := range all {
		for _, piece := range pieces() {
			found, there := values[subject.StoreKey(r.Customer, "crash."+r.ID+"."+piece)]
			if there {
				known++
			}
			revision, wasTold := r.kept[found.key]
			if !r.agrees("keep", there) || there && found.json != strconv.Quote(r.marker) || wasTold && revision != found.revision {
				violations = append(violations, Violation{fmt.Errorf("it keeps %+v, and was told of %v", found, r.kept), r.Execution})
			}
		}
	}
	if n := len(kept.values); known != n || kept.writes != uint64(n) {
		violations = append(violations, Violation{Err: fmt.Errorf("%d values are kept, after %d changes, and %d are known", n, kept.writes, known)})
	}
	return violations
}

// note is an entry in the audit log that a recipe wrote.
type note struct{ customer, resource, execution string }

func readNotes(ctx context.Context, conn *pgx.Conn) ([]note, error) {
	rows, err := conn.Query(ctx, `SELECT customer_id, resource_id, actor_id FROM audit.events WHERE action_type = $1`, reachNote)
	if err != nil {
		return nil, fmt.Errorf("read the notes: %w", err)
	}
	notes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n note, err error) {
		err = row.Scan(&n.customer, &n.resource, &n.execution)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the notes: %w", err)
	}
	return notes, nil
}

// countNotes is how many notes there are at least, once the audit log has them all.
func countNotes(journal inspect.Journal) int {
	all, _ := allReached(journal) // what is wrong is reported with the journal
	count := 0
	for _, r := range all {
		if r.succeeded("note") {
			count += len(pieces())
		}
	}
	return count
}

// compareNotes checks that each execution of reach that has come so far has its notes in the audit log, once each.
func compareNotes(notes []note, journal inspect.Journal) []Violation {
	all, violations := allReached(journal)
	counts := map[note]int{}
	for _, n := range notes {
		counts[n]++
	}
	for _, r := range all {
		for _, piece := range pieces() {
			expected := note{r.Customer, r.marker + "." + piece, r.ID}
			count := counts[expected]
			delete(counts, expected)
			if count > 1 || !r.agrees("note", count > 0) {
				violations = append(violations, Violation{fmt.Errorf("%d notes of %s in the audit log", count, piece), r.Execution})
			}
		}
	}
	for n := range counts {
		violations = append(violations, Violation{Err: fmt.Errorf("the audit log has a note of nobody: %+v", n)})
	}
	return violations
}
