package crash

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/tests/internal/inspect"
)

// Violation is a promise that was broken, with the journal of the execution where there is one.
type Violation struct {
	Err       error
	Execution *inspect.Execution
}

// compareOrders checks what the callers saw against the journal: each order is one execution, and ended as the caller was told.
func compareOrders(orders []order, journal inspect.Journal) []Violation {
	var violations []Violation
	byMarker := map[string][]*inspect.Execution{}
	for _, execution := range journal {
		marker, err := markerOf(execution)
		if err != nil {
			violations = append(violations, Violation{err, execution})
			continue
		}
		byMarker[marker] = append(byMarker[marker], execution)
	}
	for _, o := range orders {
		executions := byMarker[o.Marker]
		if len(executions) != 1 {
			violations = append(violations, Violation{Err: fmt.Errorf("order %s of %s became %d executions", o.Marker, o.Customer, len(executions))})
			continue
		}
		execution := executions[0]
		if execution.Customer != o.Customer || o.Execution != "" && o.Execution != execution.ID {
			violations = append(violations, Violation{
				fmt.Errorf("order %s of %s was answered as execution %s", o.Marker, o.Customer, o.Execution), execution,
			})
		}
		if completed := execution.Last(event.Completed); completed != nil && o.Response != nil && !bytes.Equal(o.Response, completed.Data) {
			violations = append(violations, Violation{fmt.Errorf("the caller was answered %s", o.Response), execution})
		}
	}
	return violations
}

func markerOf(execution *inspect.Execution) (string, error) {
	accepted := execution.Last(event.Accepted)
	if accepted == nil {
		return "", fmt.Errorf("execution %s has no accepted event", execution.ID)
	}
	var request struct {
		Input struct {
			Marker string `json:"marker"`
		} `json:"input_data"`
	}
	if err := json.Unmarshal(accepted.Data, &request); err != nil {
		return "", fmt.Errorf("execution %s: %w", execution.ID, err)
	}
	return request.Input.Marker, nil
}

// compareCalls checks what the outside world saw: no step or item was called again after its outcome was durable, and only an
// execution that was taken over called one twice that had not failed.
func compareCalls(calls map[string][]time.Time, journal inspect.Journal) []Violation {
	var violations []Violation
	for key, times := range calls {
		id, name, found := strings.Cut(key, "/")
		execution := journal[id]
		if !found || execution == nil {
			violations = append(violations, Violation{Err: fmt.Errorf("%d calls with the idempotency key %q, which names no execution", len(times), key)})
			continue
		}
		known, err := outcome(execution, name)
		if err != nil {
			violations = append(violations, Violation{err, execution})
			continue
		}
		for n, at := range times[1:] {
			if !known.done.IsZero() && at.After(known.done) {
				violations = append(violations, Violation{
					fmt.Errorf("%s was called for the %d. time at %s, after its outcome was durable at %s",
						name, n+2, at.Format(clockFormat), known.done.Format(clockFormat)), execution,
				})
			}
		}
		cutShort := known.done.IsZero() && wasCancelled(execution)
		if len(times) > known.attempts && !execution.TakenOver() && !cutShort {
			violations = append(violations, Violation{
				fmt.Errorf("%s was called %d times in %d attempts, and nobody took the execution over", name, len(times), known.attempts), execution,
			})
		}
	}
	return violations
}

const clockFormat = "15:04:05.000000"

// known is what the journal says of a step or item: when its outcome became durable, zero for never, and after how many attempts.
type known struct {
	done     time.Time
	attempts int
}

// outcome finds the first event that has the outcome of "<step>" or "<step>/<item>".
func outcome(execution *inspect.Execution, name string) (known, error) {
	step, item, isItem := strings.Cut(name, "/")
	for i := range execution.Events {
		each := &execution.Events[i]
		attempts, found := 0, false
		var err error
		switch each.Kind {
		case event.Step, event.Started, event.Waiting:
			var checkpoint event.Checkpoint
			err = json.Unmarshal(each.Data, &checkpoint)
			attempts, found = checkpointed(&checkpoint, step, item, isItem)
		case event.Completed:
			if wasCancelled(execution) {
				continue // it repeats checkpoints
			}
			var response event.Response
			err = json.Unmarshal(each.Data, &response)
			for _, summary := range response.Metadata.Steps {
				if summary.ID == step && summary.Status != event.StepSkipped {
					attempts, found = summary.Attempts, true // of an item no more than of all
				}
			}
		case event.Accepted, event.Funded:
		}
		if err != nil {
			return known{}, fmt.Errorf("event %d: %w", each.Sequence, err)
		}
		if found {
			return known{each.Stored, attempts}, nil
		}
	}
	return known{}, nil
}

func checkpointed(checkpoint *event.Checkpoint, step, item string, isItem bool) (attempts int, found bool) {
	for i := range checkpoint.Steps {
		outcome := &checkpoint.Steps[i]
		if outcome.ID != step {
			continue
		}
		if !isItem {
			return outcome.Attempts, outcome.Status != event.StepSkipped && outcome.Status != event.StepRunning
		}
		for j := range outcome.Items {
			if strconv.Itoa(outcome.Items[j].Index) == item {
				return outcome.Items[j].Attempts, true
			}
		}
	}
	return 0, false
}

func wasCancelled(execution *inspect.Execution) bool {
	completed := execution.Last(event.Completed)
	return completed != nil && completed.Header.Get(event.HeaderCode) == string(problem.Cancelled)
}

// compareCancels checks that a cancellation was answered 200 exactly when it ended the execution, with the response that it has, and
// that nobody cancelled what nobody wanted cancelled: only the end of its parent may have that effect.
func compareCancels(orders []order, journal inspect.Journal) []Violation {
	var violations []Violation
	wanted := map[string]*cancelled{}
	for i := range orders {
		wanted[orders[i].Execution] = orders[i].Cancel
	}
	for id, execution := range journal {
		heard, ended := wanted[id], wasCancelled(execution)
		completed := execution.Last(event.Completed)
		report := func(text string) { violations = append(violations, Violation{errors.New(text), execution}) }
		switch {
		case completed == nil: // reported with the journal
		case heard == nil:
			of, err := parentOf(execution)
			if err != nil {
				violations = append(violations, Violation{err, execution})
			} else if above := journal[of.ExecutionID]; ended && (above == nil || !wasCancelled(above)) {
				report("cancelled, and nobody wanted that")
			}
		case heard.Response != nil && !ended:
			report("the cancellation was answered 200, and the execution ended otherwise")
		case heard.Response != nil && !bytes.Equal(heard.Response, completed.Data):
			report("the cancellation was answered " + string(heard.Response))
		case ended && heard.Response == nil && !heard.Unsure:
			report("cancelled, and the caller was told that it had ended otherwise")
		}
	}
	return violations
}

// compareChildren checks that each step that runs a recipe ran it once, as an execution of its own.
func compareChildren(journal inspect.Journal) (children int, violations []Violation) {
	byStep := map[event.Parent]int{}
	for _, execution := range journal {
		of, err := parentOf(execution)
		if err != nil {
			violations = append(violations, Violation{err, execution})
		}
		if of == (event.Parent{}) {
			continue
		}
		children++
		if byStep[of]++; byStep[of] > 1 || journal[of.ExecutionID] == nil {
			violations = append(violations, Violation{fmt.Errorf("child %d of step %s of %s", byStep[of], of.Step, of.ExecutionID), execution})
		}
	}
	return children, violations
}

// parentOf is the zero Parent for an execution that no other one runs.
func parentOf(execution *inspect.Execution) (event.Parent, error) {
	accepted := execution.Last(event.Accepted)
	if accepted == nil {
		return event.Parent{}, nil // reported with the journal
	}
	var request struct {
		Parent event.Parent `json:"parent"`
	}
	if err := json.Unmarshal(accepted.Data, &request); err != nil {
		return event.Parent{}, fmt.Errorf("execution %s: %w", execution.ID, err)
	}
	return request.Parent, nil
}

// compareCharges checks that a success costs what was quoted, or for what is measured what was measured: here every step of a success has
// succeeded, once.
func compareCharges(journal inspect.Journal) []Violation {
	var violations []Violation
	for _, execution := range journal {
		accepted, completed := execution.Last(event.Accepted), execution.Last(event.Completed)
		if accepted == nil || completed == nil || completed.Header.Get(event.HeaderStatus) != string(event.StatusSuccess) {
			continue
		}
		quoted, err := strconv.ParseInt(accepted.Header.Get(event.HeaderCredits), 10, 64)
		var response event.Response
		if err = errors.Join(err, json.Unmarshal(completed.Data, &response)); err != nil {
			violations = append(violations, Violation{err, execution})
			continue
		}
		expected := credit.Micro(quoted)
		for _, step := range response.Metadata.Steps {
			charge, most := measured(step.ID, step.Usage)
			expected -= most - charge
		}
		if charged := completed.Header.Get(event.HeaderCredits); charged != strconv.FormatInt(int64(expected), 10) {
			violations = append(violations, Violation{fmt.Errorf("quoted %d, charged %s instead of %d", quoted, charged, expected), execution})
		}
	}
	return violations
}

// compareLimits checks that no more executions of a recipe were under way at once, for each customer, than may be: an execution is so
// from its first call until it has ended.
func compareLimits(recipe string, limit int, calls map[string][]time.Time, journal inspect.Journal) []Violation {
	first := map[string]time.Time{}
	for key, times := range calls {
		id, _, _ := strings.Cut(key, "/")
		if earlier, known := first[id]; !known || times[0].Before(earlier) {
			first[id] = times[0]
		}
	}
	type change struct {
		at time.Time
		by int
		of *inspect.Execution
	}
	changes := map[string][]change{}
	for id, execution := range journal {
		completed, began := execution.Last(event.Completed), first[id]
		if completed == nil || began.IsZero() || completed.Header.Get(event.HeaderSubject) != recipe {
			continue
		}
		changes[execution.Customer] = append(changes[execution.Customer], change{began, 1, execution}, change{completed.Stored, -1, execution})
	}
	var violations []Violation
	for _, list := range changes {
		slices.SortFunc(list, func(a, b change) int { return a.at.Compare(b.at) })
		underWay := 0
		for _, each := range list {
			if underWay += each.by; underWay > limit && each.by > 0 {
				violations = append(violations, Violation{
					fmt.Errorf("%d executions of %s are under way at %s, %d may be", underWay, recipe, each.at.Format(clockFormat), limit), each.of,
				})
			}
		}
	}
	return violations
}
