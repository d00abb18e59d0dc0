package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/event"
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

// compareCalls checks what the outside world saw: no step was called again after its outcome was durable, and only an execution
// that was taken over called a step twice that had not failed.
func compareCalls(calls map[string][]time.Time, journal inspect.Journal) []Violation {
	var violations []Violation
	for key, times := range calls {
		id, step, found := strings.Cut(key, "/")
		execution := journal[id]
		if !found || execution == nil {
			violations = append(violations, Violation{Err: fmt.Errorf("%d calls with the idempotency key %q, which names no execution", len(times), key)})
			continue
		}
		done, attempts, err := outcome(execution, step)
		if err != nil {
			violations = append(violations, Violation{err, execution})
			continue
		}
		for n, at := range times[1:] {
			if !done.IsZero() && at.After(done) {
				violations = append(violations, Violation{
					fmt.Errorf("step %s was called for the %d. time at %s, after its outcome was durable at %s",
						step, n+2, at.Format(clockFormat), done.Format(clockFormat)), execution,
				})
			}
		}
		if len(times) > attempts && !execution.TakenOver() {
			violations = append(violations, Violation{
				fmt.Errorf("step %s was called %d times in %d attempts, and nobody took the execution over", step, len(times), attempts), execution,
			})
		}
	}
	return violations
}

const clockFormat = "15:04:05.000000"

// outcome finds when the outcome of a step became durable, zero for never, and after how many attempts.
func outcome(execution *inspect.Execution, step string) (done time.Time, attempts int, err error) {
	for i := range execution.Events {
		each := &execution.Events[i]
		var steps []event.StepSummary
		switch each.Kind {
		case event.Step, event.Started:
			var checkpoint event.Checkpoint
			err = json.Unmarshal(each.Data, &checkpoint)
			for _, outcome := range checkpoint.Steps {
				steps = append(steps, outcome.StepSummary)
			}
		case event.Completed:
			var response event.Response
			err = json.Unmarshal(each.Data, &response)
			steps = response.Metadata.Steps
		case event.Accepted, event.Funded:
		}
		if err != nil {
			return time.Time{}, 0, fmt.Errorf("event %d: %w", each.Sequence, err)
		}
		for _, summary := range steps {
			if summary.ID == step && summary.Status != event.StepSkipped {
				return each.Stored, summary.Attempts, nil
			}
		}
	}
	return time.Time{}, 0, nil
}
