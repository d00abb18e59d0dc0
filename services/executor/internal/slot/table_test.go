package slot

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

func claimOf(ticket uint64, recipe string, maxCustomer, maxRecipe int) *Claim {
	return &Claim{
		Execution: subject.Execution{Customer: "c", ID: fmt.Sprintf("e%d", ticket)}, Ticket: ticket,
		Accepted: time.UnixMicro(int64(ticket)), Recipe: recipe, Version: 1, //nolint:gosec // small
		MaxCustomer: maxCustomer, MaxRecipe: maxRecipe,
	}
}

func ids(entries []entry) []string {
	names := []string{}
	for _, e := range entries {
		names = append(names, e.ID)
	}
	return names
}

func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	var table table
	for _, ticket := range []uint64{1, 4, 3, 2} {
		table.enter(claimOf(ticket, "a.r", 0, 1))
		table.settle()
	}
	require.Equal(t, []string{"e1"}, ids(table.Held))
	require.Equal(t, Standing{Full: event.SlotRecipe, Place: 2}, table.standing(claimOf(4, "a.r", 0, 1)))
	for _, next := range []string{"e2", "e3", "e4"} {
		table.release(table.Held[0].ID)
		require.Equal(t, []string{next}, table.settle())
	}
	table.release("e4")
	require.Empty(t, table.settle())
	require.Empty(t, table.Limits, "nobody counts")
}

// TestARecipeAtItsLimitHoldsUpNoOther, and those of it that wait hold no slot of the customer.
func TestARecipeAtItsLimitHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	var table table
	for ticket := range uint64(5) {
		table.enter(claimOf(ticket, "a.narrow", 2, 1))
	}
	table.enter(claimOf(10, "a.other", 2, 0))
	table.enter(claimOf(11, "a.other", 2, 0))
	require.Equal(t, []string{"e0", "e10"}, table.settle())
	require.Equal(t, event.SlotRecipe, table.standing(claimOf(1, "a.narrow", 2, 1)).Full)
	require.Equal(t, event.SlotCustomer, table.standing(claimOf(11, "a.other", 2, 0)).Full)
}

func TestTheLatestLimitHolds(t *testing.T) {
	t.Parallel()
	var table table
	for ticket := range uint64(5) {
		table.enter(claimOf(ticket, "a.r", 1, 0))
	}
	require.Len(t, table.settle(), 1)
	table.enter(claimOf(6, "a.r", 3, 0))
	require.Equal(t, []string{"e1", "e2"}, table.settle())
	table.enter(claimOf(2, "a.r", 1, 0))
	table.enter(claimOf(3, "a.r", 1, 0)) // it comes back with what it was accepted with
	table.release("e0")
	require.Equal(t, []string{"e3"}, table.settle())
	late := claimOf(7, "a.r", 1, 0)
	late.Accepted = time.UnixMicro(5) // it has waited for credits
	table.enter(late)
	table.release("e1")
	require.Equal(t, []string{"e4"}, table.settle())
}

// TestTheNewestVersionsLimitHolds, whatever versions come in which order.
func TestTheNewestVersionsLimitHolds(t *testing.T) {
	t.Parallel()
	var table table
	enter := func(ticket uint64, version, most int) {
		claim := claimOf(ticket, "a.r", 0, most)
		claim.Version = version
		table.enter(claim)
	}
	for ticket := range uint64(5) {
		enter(ticket, 1, 1)
	}
	require.Len(t, table.settle(), 1)
	enter(5, 3, 2)
	require.Equal(t, []string{"e1"}, table.settle())
	enter(6, 2, 9)
	require.Empty(t, table.settle())
	enter(7, 3, 2)
	require.Empty(t, table.settle())
}

// TestWhatIsLearnt: limits that were raised, lifted and lowered hold for those that wait. Nothing older than what is known does, nor anything that
// nobody counts against.
func TestWhatIsLearnt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		learnt  map[string]limit
		changed bool
		granted []string
	}{
		"raised":            {map[string]limit{ofCustomer: {Max: 3, Revision: 6}}, true, []string{"e1", "e2"}},
		"lifted":            {map[string]limit{ofCustomer: {Max: unlimited, Revision: 6}}, true, []string{"e1", "e2", "e3", "e4"}},
		"lowered":           {map[string]limit{ofCustomer: {Max: 1, Revision: 6}, "a.r": {Max: 1, Revision: 2}}, true, nil},
		"the same":          {map[string]limit{ofCustomer: {Max: 1, Revision: 6}, "a.r": {Max: 5, Revision: 1}}, false, nil},
		"older":             {map[string]limit{ofCustomer: {Max: 3, Revision: 3}, "a.r": {Max: 9, Revision: 0}}, false, nil},
		"of nobody":         {map[string]limit{"a.s": {Max: 3, Revision: 9}}, false, nil},
		"only the recipe's": {map[string]limit{"a.r": {Max: unlimited, Revision: 2}}, true, nil},
		"both":              {map[string]limit{ofCustomer: {Max: 2, Revision: 6}, "a.r": {Max: 2, Revision: 2}}, true, []string{"e1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var table table
			for ticket := range uint64(5) {
				table.enter(claimOf(ticket, "a.r", 1, 5))
			}
			require.Equal(t, []string{"e0"}, table.settle())
			require.Equal(t, test.changed, table.learn(test.learnt))
			require.Equal(t, test.granted, table.settle())
			require.NotContains(t, table.Limits, "a.s")
		})
	}
}

// TestALimitOfTheVersionBefore: a table that a process of the version before has written is read, and whatever comes is newer.
func TestALimitOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	var table table
	require.NoError(t, json.Unmarshal([]byte(`{"limits":{"customer":{"max":1,"ticket":7}},"held":[{"id":"e0","ticket":1,"of":["customer"]}]}`), &table))
	table.enter(claimOf(2, "a.r", 2, 0))
	require.Equal(t, []string{"e2"}, table.settle())
}

func TestTheOldestHaveThePlaces(t *testing.T) {
	t.Parallel()
	var table table
	for ticket := uint64(1000); ticket > 0; ticket-- {
		table.enter(claimOf(ticket, "a.r", 1, 0))
	}
	require.Equal(t, []string{"e1"}, table.settle())
	require.Len(t, table.Waiting, maxWaiting)
	require.Equal(t, "e2", table.Waiting[0].ID)
	require.Equal(t, maxWaiting, table.standing(claimOf(1000, "a.r", 1, 0)).Place)
	table.enter(claimOf(0, "a.r", 1, 0))
	table.settle()
	require.Equal(t, "e0", table.Waiting[0].ID, "who is older takes the place of the youngest")
	require.Len(t, table.Waiting, maxWaiting)
}

// TestTableFitsIntoAMessage with the longest names.
func TestTableFitsIntoAMessage(t *testing.T) {
	t.Parallel()
	long := make([]byte, 64)
	for i := range long {
		long[i] = 'x'
	}
	var table table
	for ticket := range uint64(maxHeld + 2*maxWaiting) {
		claim := claimOf(1<<40+ticket, string(long)+"."+string(long), 0, 1_000_000)
		claim.Execution.ID = fmt.Sprintf("0190b5a0-0000-7000-8000-%012d", ticket)
		table.enter(claim)
	}
	require.Len(t, table.settle(), maxHeld)
	data, err := json.Marshal(table)
	require.NoError(t, err)
	require.Less(t, len(data), 1_000_000)
}

// TestTable: whatever is entered and released in whatever order, no limit is exceeded, nobody is in the table twice, nobody waits who
// could go, and who is older goes first.
func TestTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var table table
		claims := make([]*Claim, 12)
		for i := range claims {
			recipe := rapid.SampledFrom([]string{"a.r", "a.s"}).Draw(t, "recipe")
			// The limits are the same for all; some executions do not count against the customer's.
			claims[i] = claimOf(uint64(i), recipe, rapid.SampledFrom([]int{0, 3}).Draw(t, "customer"), 2)
		}
		ended := map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			claim := rapid.SampledFrom(claims).Draw(t, "execution")
			before := slices.Clone(table.Held)
			if rapid.Bool().Draw(t, "release") {
				table.release(claim.Execution.ID)
				ended[claim.Execution.ID] = true
			} else if !ended[claim.Execution.ID] {
				table.enter(claim)
			}
			granted := table.settle()

			counts := table.counts()
			require.LessOrEqual(t, counts[ofCustomer], 3)
			require.LessOrEqual(t, counts["a.r"], 2)
			require.LessOrEqual(t, counts["a.s"], 2)
			all := append(ids(table.Held), ids(table.Waiting)...)
			slices.Sort(all)
			require.Len(t, slices.Compact(slices.Clone(all)), len(all))
			for _, id := range all {
				require.False(t, ended[id], "%s has ended", id)
			}
			require.True(t, slices.IsSortedFunc(table.Waiting, func(a, b entry) int { return int(a.Ticket) - int(b.Ticket) })) //nolint:gosec // small
			for _, e := range table.Waiting {
				require.NotEmpty(t, table.full(counts, e.Of), "%s could go", e.ID)
			}
			for _, e := range before { // a slot is kept until it is given back
				require.True(t, table.holds(e.ID) || e.ID == claim.Execution.ID)
			}
			for _, id := range granted {
				require.True(t, table.holds(id))
				place := slices.IndexFunc(table.Held, entry{ID: id}.is)
				for _, e := range table.Waiting { // nobody with the same limits was passed over
					require.False(t, slices.Equal(e.Of, table.Held[place].Of) && e.Ticket < table.Held[place].Ticket)
				}
			}
		}
	})
}
