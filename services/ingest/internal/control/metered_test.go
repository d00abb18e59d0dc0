package control_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/control"
)

// metered makes the outcomes of these steps such that their credits are for what was measured.
func metered(steps []event.StepOutcome, ids ...string) []event.StepOutcome {
	for i := range steps {
		for _, id := range ids {
			if steps[i].ID != id {
				continue
			}
			steps[i].Metered, steps[i].Usage = true, &event.Usage{Units: 1}
			for j := range steps[i].Items {
				steps[i].Items[j].Usage = &event.Usage{Units: 1}
			}
		}
	}
	return steps
}

// A failed execution is charged for what was measured, and gives fixed prices back: whoever goes on from it pays only the latter.
func TestSuccessorDoesNotPayAgainForWhatWasMeasured(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.shelf[1] = recipeOf(t, "a b* c d")
	const before = "a=5 b=16 c=3"
	for name, test := range map[string]struct {
		status  event.Status
		failed  string
		came    string
		metered []string
		wish    control.Wish
		kept    string
	}{
		"resume": {
			event.StatusFailed, "d", before, []string{"a", "b"}, control.Wish{Verb: event.VerbResume}, "a b c=3",
		},
		"resume in a foreach": {
			event.StatusFailed, "b", "a=5 b[0=7;1!=4;2=9]", []string{"b"}, control.Wish{Verb: event.VerbResume}, "a=5 b[0;2]",
		},
		"resume what failed for credits": {
			event.StatusFailed, "a", "a!=5", []string{"a"}, control.Wish{Verb: event.VerbResume}, "",
		},
		"rerun of a part": {
			event.StatusFailed, "d", "a=5", []string{"a"}, control.Wish{Verb: event.VerbRerunFrom, Step: "b"}, "a",
		},
		"rerun of a part of a success": {
			event.StatusSuccess, "", before, []string{"a"}, control.Wish{Verb: event.VerbRerunFrom, Step: "d"}, "a b c",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := metered(outcomes(t, test.came), test.metered...)
			s := f.accept(t, event.Request{}).append(t, event.Funded, "", nats.Header{}, "x")
			s.checkpoint(t, event.Step, event.Checkpoint{Steps: steps}).end(t, test.status, test.failed)
			command, err := f.Successor(t.Context(), s.execution, test.wish)
			require.NoError(t, err)
			require.Equal(t, test.kept, written(command.Origin.Steps))
			for _, kept := range command.Origin.Steps {
				require.Equal(t, slices.Contains(test.metered, kept.ID), kept.Metered)
				require.Nil(t, kept.Usage, "it is counted where the work was done")
				for _, item := range kept.Items {
					require.Nil(t, item.Usage)
				}
			}
		})
	}
}
