package slot

import (
	"cmp"
	"slices"
	"strings"

	"github.com/galley-engine/galley/schemas/event"
)

const (
	// maxWaiting bounds how many executions wait in a table. Those beyond come back by themselves.
	maxWaiting = 256
	// maxHeld keeps a table far inside a NATS message (1 MiB), whatever the limits of a customer's recipes are together.
	maxHeld = 4000

	// unlimited is what a limit is that was lifted: no table holds more. So whoever reads the table need not know of it.
	unlimited = maxHeld

	// ofCustomer is the name of the customer's limit. Those of recipes are "<agent>.<recipe>".
	ofCustomer = "customer"
)

// table says which of a customer's limited executions are under way, and which wait. Both limits of an execution are in one table:
// so it takes both slots or none, and never keeps one from others while it waits for the other.
type table struct {
	Limits map[string]limit `json:"limits,omitempty"`
	// Held are those under way, in the order in which they began.
	Held []entry `json:"held,omitempty"`
	// Waiting are the oldest of those that wait, by their tickets.
	Waiting []entry `json:"waiting,omitempty"`
}

// limit is the newest that is known, from executions that pinned it or from whoever was asked: it holds also for those that wait since before.
type limit struct {
	Max int `json:"max"`
	// Revision tells what is newer: of the customer's limit, the time in microseconds at which it held; of a recipe's, the version.
	Revision int64 `json:"revision"`
}

type entry struct {
	ID     string `json:"id"`
	Ticket uint64 `json:"ticket"`
	// Of names the limits that the execution counts against.
	Of []string `json:"of"`
}

// enter adds an execution to those that wait, unless it is in the table.
func (t *table) enter(claim *Claim) {
	e := entry{ID: claim.Execution.ID, Ticket: claim.Ticket}
	for name, pinned := range map[string]limit{
		ofCustomer:   {Max: claim.MaxCustomer, Revision: claim.Accepted.UnixMicro()},
		claim.Recipe: {Max: claim.MaxRecipe, Revision: int64(claim.Version)},
	} {
		if pinned.Max == 0 {
			continue
		}
		e.Of = append(e.Of, name)
		if known, found := t.Limits[name]; !found || known.Revision <= pinned.Revision {
			if t.Limits == nil {
				t.Limits = make(map[string]limit)
			}
			t.Limits[name] = pinned
		}
	}
	if t.holds(e.ID) || slices.ContainsFunc(t.Waiting, e.is) {
		return
	}
	slices.Sort(e.Of)
	place, _ := slices.BinarySearchFunc(t.Waiting, e, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Ticket, b.Ticket), strings.Compare(a.ID, b.ID))
	})
	t.Waiting = slices.Insert(t.Waiting, place, e)
}

func (e entry) is(other entry) bool { return e.ID == other.ID }

// learn takes in what limits there are now, as far as somebody counts against them, and tells whether that changed one.
func (t *table) learn(limits map[string]limit) (changed bool) {
	for name, now := range limits {
		if known, found := t.Limits[name]; found && known.Max != now.Max && known.Revision <= now.Revision {
			t.Limits[name], changed = now, true
		}
	}
	return changed
}

// wanted names the recipes with a limit whose executions wait.
func (t *table) wanted() (recipes []string) {
	for _, e := range t.Waiting {
		for _, name := range e.Of {
			if name != ofCustomer && !slices.Contains(recipes, name) {
				recipes = append(recipes, name)
			}
		}
	}
	return recipes
}

// release takes an execution out.
func (t *table) release(id string) {
	t.Held = slices.DeleteFunc(t.Held, entry{ID: id}.is)
	t.Waiting = slices.DeleteFunc(t.Waiting, entry{ID: id}.is)
}

// settle gives the slots that are free to those that wait, the oldest first; one whose recipe is at its limit does not hold up others.
// Then it forgets what the table has no room for, and limits that nobody counts against.
func (t *table) settle() (granted []string) {
	counts := t.counts()
	waiting := t.Waiting[:0]
	for _, e := range t.Waiting {
		if len(t.Held) >= maxHeld || t.full(counts, e.Of) != "" {
			waiting = append(waiting, e)
			continue
		}
		for _, name := range e.Of {
			counts[name]++
		}
		t.Held = append(t.Held, e)
		granted = append(granted, e.ID)
	}
	t.Waiting = waiting[:min(len(waiting), maxWaiting)]
	for _, e := range t.Waiting {
		for _, name := range e.Of {
			counts[name]++
		}
	}
	for name := range t.Limits {
		if counts[name] == 0 {
			delete(t.Limits, name)
		}
	}
	return granted
}

func (t *table) counts() map[string]int {
	counts := make(map[string]int, len(t.Limits))
	for _, e := range t.Held {
		for _, name := range e.Of {
			counts[name]++
		}
	}
	return counts
}

// full names a limit among these that is reached, a recipe's rather than the customer's; "" for none.
func (t *table) full(counts map[string]int, of []string) (name string) {
	for _, each := range of {
		if known, found := t.Limits[each]; found && counts[each] >= known.Max && (name == "" || name == ofCustomer) {
			name = each
		}
	}
	return name
}

func (t *table) holds(id string) bool {
	return slices.ContainsFunc(t.Held, entry{ID: id}.is)
}

// standing tells how an execution stands after settle.
func (t *table) standing(claim *Claim) Standing {
	id := claim.Execution.ID
	if t.holds(id) {
		return Standing{Held: true}
	}
	standing := Standing{Full: event.SlotCustomer, Place: slices.IndexFunc(t.Waiting, entry{ID: id}.is)}
	if standing.Place < 0 {
		standing.Place = maxWaiting
	}
	if known, found := t.Limits[claim.Recipe]; claim.MaxRecipe > 0 && found && t.counts()[claim.Recipe] >= known.Max {
		standing.Full = event.SlotRecipe
	}
	return standing
}
