package ledger

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

// overdraft stands in an allocation in the place of a lot: the part of a debit that no lot covered.
const overdraft = 0

// part is what a debit took of a lot.
type part struct {
	lot    int64
	amount credit.Micro
}

// lot is a grant that is burnt down.
type lot struct {
	id       int64
	grant    string
	priority int
	// expires is zero for never.
	expires time.Time
	// remaining may be burnt; repaid went into what the customer owed; expired was taken back.
	remaining, repaid, expired credit.Micro
	moved                      bool
	// terms are those of a new lot, nil for one that is stored.
	terms *query.GrantRequest
	// lapsed is what this walk has taken back.
	lapsed credit.Micro
}

func (l *lot) over(now time.Time) bool {
	return !l.expires.IsZero() && !l.expires.After(now)
}

// before is the order in which lots are burnt: by priority, the soonest to expire first, of the rest the oldest.
func (l *lot) before(other *lot) int {
	return cmp.Or(
		cmp.Compare(l.priority, other.priority),
		compareExpiries(l.expires, other.expires),
		cmp.Compare(l.id, other.id),
	)
}

// compareExpiries has never come last.
func compareExpiries(a, b time.Time) int {
	switch {
	case a.Equal(b):
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// account is the running balance of a customer, with the lots that a batch may move. One that was never granted anything has no row to
// lock, and a balance of 0. What remains of the lots is the balance, or nothing while the balance is negative: whatever comes in pays
// back first what is owed.
type account struct {
	customer  string
	balance   credit.Micro
	overdraft credit.Micro
	// low is the balance below which the customer wants to be told, never when it is the smallest number.
	low credit.Micro
	// toldLow and toldExhausted say what was told since a grant last brought the balance back.
	toldLow, toldExhausted bool
	locked, moved          bool
	lots                   []*lot
	// waiting counts the charges that wait. queue holds the first of them, in their order, unless more than a page wait.
	waiting int
	queue   []*charge
	// first is the first lot that may have something left.
	first int
}

// hasLow tells whether the customer wants to be told of a low balance.
func (a *account) hasLow() bool {
	return a.low != math.MinInt64
}

// covers tells whether a debit of the amount is within the balance and the overdraft.
func (a *account) covers(amount credit.Micro) bool {
	return amount <= a.balance+a.overdraft
}

// owed is how much of the overdraft is used.
func (a *account) owed() credit.Micro {
	return max(0, -a.balance)
}

// order puts the lots in the order in which they are burnt.
func (a *account) order() {
	slices.SortFunc(a.lots, (*lot).before)
	a.first = 0
}

func (a *account) lot(id int64) *lot {
	for _, known := range a.lots {
		if known.id == id {
			return known
		}
	}
	return nil
}

// burn takes the amount from the lots and what they do not cover from the overdraft, and appends where it came from.
func (a *account) burn(parts []part, amount credit.Micro) []part {
	for amount > 0 && a.first < len(a.lots) {
		lot := a.lots[a.first]
		if taken := min(amount, lot.remaining); taken > 0 {
			lot.remaining -= taken
			lot.moved = true
			parts = append(parts, part{lot.id, taken})
			amount -= taken
		}
		if lot.remaining > 0 {
			return parts
		}
		a.first++
	}
	if amount > 0 {
		parts = append(parts, part{overdraft, amount})
	}
	return parts
}

// credit puts an amount into a lot, as far as it is not needed to pay back what is owed, and returns what is owed still.
func (a *account) credit(lot *lot, amount, owed credit.Micro) credit.Micro {
	paid := min(amount, owed)
	lot.repaid += paid
	lot.remaining += amount - paid
	lot.moved = true
	a.first = 0
	return owed - paid
}

// repaid takes an amount out of what the lots paid of the overdraft, from the newest grant backwards, and tells of which lots how much.
func (a *account) repaid(amount credit.Micro) (parts []part) {
	newest := slices.SortedFunc(slices.Values(a.lots), func(x, y *lot) int { return cmp.Compare(y.id, x.id) })
	for _, lot := range newest {
		if taken := min(amount, lot.repaid); taken > 0 {
			lot.repaid -= taken
			lot.moved = true
			parts = append(parts, part{lot.id, taken})
			amount -= taken
		}
	}
	return parts
}
