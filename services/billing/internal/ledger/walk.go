package ledger

import (
	"errors"

	"github.com/galley-engine/galley/schemas/credit"
)

// walk decides about a batch of instructions one by one, in their order. A debit that is not covered takes nothing, so a smaller
// one after it may still fit.
type walk struct {
	instructions []Instruction
	// charges are parallel to the instructions: those of the same execution share theirs.
	charges  []*charge
	distinct []*charge
	byKey    map[Key]*charge
	accounts map[string]*account
	// ids are unused numbers for rows of the ledger, in ascending order.
	ids      []int64
	postings []posting
}

// charge is a Charge with what has to be stored of it.
type charge struct {
	Charge
	account *account
	stored  bool
	changed bool
}

// account is the running balance of a customer. One that was never granted anything has no row to lock, and a balance of 0.
type account struct {
	balance credit.Micro
	locked  bool
	moved   bool
}

// posting is a row of the ledger: a debit when the amount is negative, else a refund.
type posting struct {
	Key
	id                   int64
	amount, balanceAfter credit.Micro
}

func newWalk(instructions []Instruction) *walk {
	w := &walk{
		instructions: instructions,
		charges:      make([]*charge, len(instructions)),
		distinct:     make([]*charge, 0, len(instructions)),
		byKey:        make(map[Key]*charge, len(instructions)),
		accounts:     make(map[string]*account),
		postings:     make([]posting, 0, len(instructions)),
	}
	for i := range instructions {
		key := instructions[i].Key
		known := w.byKey[key]
		if known == nil {
			known = &charge{Charge: Charge{Key: key}, account: w.account(key.Customer)}
			w.byKey[key] = known
			w.distinct = append(w.distinct, known)
		}
		w.charges[i] = known
	}
	return w
}

func (w *walk) account(customer string) *account {
	known := w.accounts[customer]
	if known == nil {
		known = &account{}
		w.accounts[customer] = known
	}
	return known
}

// errNewAccount says that a customer was granted the first credits, and debited, by others while this batch waited for the locks of
// its accounts: what it knows of that customer is out of date.
var errNewAccount = errors.New("an account was made in the meantime")

// check makes sure that every balance that decide may move is locked.
func (w *walk) check() error {
	for _, charge := range w.distinct {
		if charge.Debited > 0 && !charge.account.locked {
			return errNewAccount
		}
	}
	return nil
}

// decide follows all instructions, once the stored balances and charges are filled in.
func (w *walk) decide() {
	for i, charge := range w.charges {
		switch w.instructions[i].Action {
		case Debit:
			w.debit(charge, w.instructions[i].Amount)
		case Settle:
			w.settle(charge, w.instructions[i].Amount)
		}
	}
}

// debit decides once: an execution that is known keeps the answer that it got, and one that has ended needs none.
func (w *walk) debit(charge *charge, quoted credit.Micro) {
	if charge.State != "" {
		return
	}
	charge.changed = true
	if quoted > charge.account.balance {
		charge.State, charge.BalanceAfter = StateRefused, charge.account.balance
		return
	}
	charge.State, charge.Debited = StateDebited, quoted
	charge.DebitID = w.post(charge, -quoted)
	charge.BalanceAfter = charge.account.balance
}

// settle refunds what was debited and not used. It never charges more than was debited. An execution that nothing is known of
// was ended before its debit came: the charge that is left behind keeps the debit from being made.
func (w *walk) settle(charge *charge, charged credit.Micro) {
	if charge.State == StateRefused || charge.State == StateSettled {
		return
	}
	charge.changed = true
	charge.State, charge.Charged = StateSettled, min(charged, charge.Debited)
	charge.RefundID = w.post(charge, charge.Debited-charge.Charged)
}

// post moves the balance and returns the number of the ledger's row; 0 when there is nothing to move.
func (w *walk) post(charge *charge, amount credit.Micro) int64 {
	if amount == 0 {
		return 0
	}
	id := w.ids[0]
	w.ids = w.ids[1:]
	charge.account.balance += amount
	charge.account.moved = true
	w.postings = append(w.postings, posting{
		Key: charge.Key, id: id, amount: amount, balanceAfter: charge.account.balance,
	})
	return id
}

// answers tells how the execution of each instruction stands after the whole batch.
func (w *walk) answers() []Charge {
	answers := make([]Charge, len(w.charges))
	for i, charge := range w.charges {
		answers[i] = charge.Charge
	}
	return answers
}
