package ending_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/ending"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func units(n int64) *event.Usage { return &event.Usage{Units: n} }

// progress has steps with fixed prices and metered ones, and a foreach of each under way.
func progress() event.Checkpoint {
	return event.Checkpoint{Steps: []event.StepOutcome{
		{StepSummary: event.StepSummary{ID: "fixed", Status: event.StepSuccess, Attempts: 1, Credits: 100}},
		{StepSummary: event.StepSummary{ID: "measured", Status: event.StepSuccess, Attempts: 2, Credits: 30, Usage: units(3), Metered: true}},
		{
			StepSummary: event.StepSummary{ID: "items", Status: event.StepRunning},
			Items:       []event.ItemOutcome{{Index: 0, Status: event.StepSuccess, Attempts: 1, Credits: 50}},
		},
		{
			StepSummary: event.StepSummary{ID: "measured-items", Status: event.StepRunning, Metered: true},
			Items: []event.ItemOutcome{
				{Index: 0, Status: event.StepSuccess, Attempts: 1, Credits: 7, Usage: units(7)},
				{Index: 2, Status: event.StepFailed, Attempts: 2, Credits: 4, Usage: units(4)},
			},
		},
	}}
}

func end(t *testing.T, quoted string, kind event.Kind, last any) (*ending.End, event.Response) {
	t.Helper()
	execution := subject.Execution{Customer: "alice", ID: "e1"}
	data, err := json.Marshal(last)
	require.NoError(t, err)
	made, err := ending.Failed(
		&journal.Record{
			Execution: execution, Kind: event.Accepted, Sequence: 1,
			Header: nats.Header{event.HeaderSubject: {"cook/soup/1"}, event.HeaderCredits: {quoted}},
		},
		&journal.Record{Execution: execution, Kind: kind, Sequence: 9, Data: data},
		problem.Error{Code: problem.Cancelled, Message: "enough"}, event.Actor{Type: "operator", ID: "operator"}, time.Unix(0, 0).UTC())
	require.NoError(t, err)
	var response event.Response
	require.NoError(t, json.Unmarshal(made.Data, &response))
	require.Equal(t, strconv.FormatInt(int64(response.Metadata.CreditsConsumed), 10), made.Header.Get(event.HeaderCredits))
	return made, response
}

// What was measured is spent, whoever ends the execution; fixed prices are given back.
func TestWhatWasMeasuredIsCharged(t *testing.T) {
	t.Parallel()
	made, response := end(t, "900", event.Step, progress())
	assert.EqualValues(t, 9, made.Expect)
	assert.EqualValues(t, 41, response.Metadata.CreditsConsumed)
	assert.Equal(t, event.Receipt{Quoted: 900, Debited: 900, Refunded: 859}, response.Metadata.Receipt)
	assert.Equal(t, []event.StepSummary{
		{ID: "fixed", Status: event.StepSuccess, Attempts: 1},
		{ID: "measured", Status: event.StepSuccess, Attempts: 2, Credits: 30, Usage: units(3), Metered: true},
		{ID: "items", Status: event.StepFailed, Attempts: 1, Items: &event.ItemCount{Total: 1, Succeeded: 1}},
		{
			ID: "measured-items", Status: event.StepFailed, Attempts: 3, Credits: 11, Usage: units(11), Metered: true,
			Items: &event.ItemCount{Total: 2, Succeeded: 1, Failed: 1},
		},
	}, response.Metadata.Steps)
}

func TestNeverMoreThanWasQuoted(t *testing.T) {
	t.Parallel()
	_, response := end(t, "40", event.Waiting, progress())
	assert.EqualValues(t, 40, response.Metadata.CreditsConsumed)
}

func TestNothingIsChargedBeforeACheckpoint(t *testing.T) {
	t.Parallel()
	for kind, receipt := range map[event.Kind]event.Receipt{
		event.Accepted: {Quoted: 900}, event.Funded: {Quoted: 900, Debited: 900, Refunded: 900},
	} {
		_, response := end(t, "900", kind, "x")
		assert.Equal(t, receipt, response.Metadata.Receipt, kind)
		assert.Zero(t, response.Metadata.CreditsConsumed)
		assert.Empty(t, response.Metadata.Steps)
	}
}
