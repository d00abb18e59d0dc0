package event_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

func ExampleResponse_Steps() {
	response := event.Response{
		Metadata: event.Metadata{Steps: []event.StepSummary{
			{ID: "find", Status: event.StepSuccess}, {ID: "ask", Status: event.StepSkipped}, {ID: "mail", Status: event.StepFailed},
		}},
		Errors: []problem.Error{{Code: problem.Timeout, Step: "mail"}},
	}
	fmt.Println(response.Steps())
	// Output: find=success,ask=skipped,mail=failed:TIMEOUT
}

var stepsPattern = regexp.MustCompile(
	`^([A-Za-z0-9][A-Za-z0-9_-]{0,63}=(success|partial|failed|skipped)(:[A-Z0-9_]{1,64})?(,|$))*(\+[1-9][0-9]* more)?$`)

func TestStepsOfAnExecutionThatRanNone(t *testing.T) {
	t.Parallel()
	if text := (&event.Response{}).Steps(); text != "" {
		t.Errorf("got %q", text)
	}
}

func TestStepsAreBounded(t *testing.T) {
	t.Parallel()
	for count := range 120 {
		var response event.Response
		for i := range count + 1 {
			id := fmt.Sprintf("%03d%s", i, strings.Repeat("x", i%60))
			response.Metadata.Steps = append(response.Metadata.Steps, event.StepSummary{ID: id, Status: event.StepFailed})
			response.Errors = append(response.Errors, problem.Error{Code: "A_CODE_OF_A_WORKER", Step: id})
		}
		text := response.Steps()
		if len(text) > event.MaxSteps || !stepsPattern.MatchString(text) {
			t.Fatalf("%d steps: %d bytes: %s", count+1, len(text), text)
		}
		shown, more := strings.Count(text, "="), 0
		if at := strings.LastIndex(text, "+"); at >= 0 {
			if _, err := fmt.Sscanf(text[at:], "+%d more", &more); err != nil {
				t.Fatal(err)
			}
		}
		if shown+more != count+1 {
			t.Fatalf("%d steps: %d are shown and %d more", count+1, shown, more)
		}
	}
}

func TestCodesThatDoNotFitAHeaderAreLeftOut(t *testing.T) {
	t.Parallel()
	for _, code := range []problem.Code{"a", "A\r\nB: c", "A,B=success", problem.Code(strings.Repeat("A", 65)), ""} {
		response := event.Response{
			Metadata: event.Metadata{Steps: []event.StepSummary{{ID: "a", Status: event.StepFailed}}},
			Errors:   []problem.Error{{Code: code, Step: "a"}},
		}
		if text := response.Steps(); text != "a=failed" {
			t.Errorf("%q: got %q", code, text)
		}
	}
}
