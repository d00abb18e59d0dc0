package ledger

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

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
	// now decides which lots are over. It is read when the accounts are locked.
	now time.Time
	// ids are unused numbers for rows of the ledger, in ascending order, one for each instruction.
	ids      []int64
	postings []posting
	// parts is where the charges' parts lie, one after the other.
	parts  []part
	alerts []alert
	// closes has what is settled reported: see Close.
	closes bool
	// queued are the charges that wait, as far as they were read, beside those of the instructions.
	queued []*charge
	// tells says that something waits anew or does not wait any more.
	tells bool
}

// charge is a Charge with what has to be stored of it.
type charge struct {
	Charge
	account *account
	// parts are those of the debit, in the order in which they were burnt.
	parts   []part
	stored  bool
	changed bool
	// waited tells that it is stored as one that waits; wanted and wait say for what and how long, where that is known.
	waited bool
	wanted credit.Micro
	wait   Wait
}

// posting is a row of the ledger: a debit or a refund of a charge, or what happens to a lot alone.
type posting struct {
	id                   int64
	amount, balanceAfter credit.Micro
	account              *account
	charge               *charge
	lot                  *lot
}

func newWalk(instructions []Instruction) *walk {
	w := &walk{
		instructions: instructions,
		charges:      make([]*charge, len(instructions)),
		distinct:     make([]*charge, 0, len(instructions)),
		byKey:        make(map[Key]*charge, len(instructions)),
		accounts:     make(map[string]*account),
		postings:     make([]posting, 0, len(instructions)),
		parts:        make([]part, 0, len(instructions)),
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
		known = &account{customer: customer, low: math.MinInt64}
		w.accounts[customer] = known
	}
	return known
}

// errNewAccount says that a customer was granted the first credits, and debited, by others while this batch waited for the locks of
// its accounts: what it knows of that customer is out of date.
var errNewAccount = errors.New("an account was made in the meantime")

// checkLocks makes sure that every balance that decide may move is locked.
func (w *walk) checkLocks() error {
	for _, charge := range w.distinct {
		if charge.Debited > 0 && !charge.account.locked {
			return errNewAccount
		}
	}
	return nil
}

// checkLots makes sure that there is a lot for all that may come back.
func (w *walk) checkLots() error {
	for _, charge := range w.distinct {
		for _, taken := range charge.parts {
			if taken.lot != overdraft && charge.account.lot(taken.lot) == nil {
				return fmt.Errorf("execution %s of %s was debited from grant %d, which is not there", charge.Execution, charge.Customer, taken.lot)
			}
		}
	}
	return nil
}

// decide follows all instructions, once the stored balances, lots and charges are filled in.
func (w *walk) decide() {
	w.expire()
	w.turnAway()
	for i, charge := range w.charges {
		switch w.instructions[i].Action {
		case Debit:
			w.debit(charge, &w.instructions[i])
		case Settle:
			w.settle(charge, w.instructions[i].Amount)
		}
	}
}

// expire takes back what is left of the lots that are over, so that nobody burns them.
func (w *walk) expire() {
	for _, account := range w.accounts {
		for _, lot := range account.lots {
			if lot.over(w.now) {
				w.lapse(account, lot)
			}
		}
	}
}

// lapse takes back what is left of a lot.
func (w *walk) lapse(account *account, lot *lot) {
	amount := lot.remaining
	if amount == 0 {
		return
	}
	lot.remaining = 0
	lot.expired += amount
	lot.lapsed += amount
	lot.moved = true
	w.post(posting{account: account, lot: lot, amount: -amount})
}

// debit decides once: an execution that is known keeps the answer that it got, and one that has ended needs none.
func (w *walk) debit(charge *charge, wanted *Instruction) {
	if charge.State != "" {
		return
	}
	account := charge.account
	covered := account.covers(wanted.Amount)
	queues := account.waiting > 0 && !wanted.Wait.Until.IsZero()
	switch {
	case wanted.Amount == 0 || covered && !queues:
		w.take(charge, wanted.Amount)
	case wanted.Wait.Until.After(w.now):
		w.enter(charge, wanted)
	default:
		w.refuse(charge)
		if !covered {
			w.tellExhausted(account)
		}
	}
}

func (w *walk) refuse(charge *charge) {
	charge.State, charge.BalanceAfter, charge.changed = StateRefused, charge.account.balance, true
}

// take debits what is covered.
func (w *walk) take(charge *charge, quoted credit.Micro) {
	account := charge.account
	charge.State, charge.Debited, charge.changed = StateDebited, quoted, true
	if quoted > 0 {
		begin := len(w.parts)
		w.parts = account.burn(w.parts, quoted)
		charge.parts = w.parts[begin:len(w.parts):len(w.parts)]
		w.post(posting{account: account, charge: charge, amount: -quoted})
	}
	charge.BalanceAfter = account.balance
}

// settle refunds what was debited and not used. It never charges more than was debited. An execution that nothing is known of
// was ended before its debit came: the charge that is left behind keeps the debit from being made.
func (w *walk) settle(charge *charge, charged credit.Micro) {
	if charge.State == StateRefused || charge.State == StateSettled {
		return
	}
	if charge.State == StateWaiting {
		w.leave(charge)
	}
	charge.changed = true
	charge.State, charge.Charged = StateSettled, min(charged, charge.Debited)
	if refund := charge.Debited - charge.Charged; refund > 0 {
		w.refund(charge, refund)
	}
	w.serve(charge.account)
}

// refund gives back to the lots what a debit took of them last. What comes back to a lot that is over expires at once. What comes back
// of an overdraft that grants have paid back meanwhile belongs to them.
func (w *walk) refund(charge *charge, amount credit.Micro) {
	account := charge.account
	owed := account.owed()
	w.post(posting{account: account, charge: charge, amount: amount})
	for _, taken := range slices.Backward(charge.parts) {
		back := min(amount, taken.amount)
		amount -= back
		if taken.lot != overdraft {
			owed = w.giveBack(account, part{taken.lot, back}, owed)
			continue
		}
		paid := min(back, owed)
		owed -= paid
		for _, repaid := range account.repaid(back - paid) {
			owed = w.giveBack(account, repaid, owed)
		}
	}
}

// giveBack puts a part back into its lot and returns what is owed still.
func (w *walk) giveBack(account *account, back part, owed credit.Micro) credit.Micro {
	lot := account.lot(back.lot)
	if back.amount == 0 {
		return owed
	}
	if !lot.over(w.now) {
		return account.credit(lot, back.amount, owed)
	}
	lot.remaining = back.amount
	w.lapse(account, lot)
	return owed
}

// grant puts a new lot into the account. It pays back what is owed first. One that is over expires at once. The number of the posting has
// to be there: it is that of the lot.
func (w *walk) grant(account *account, lot *lot) {
	amount, owed := lot.terms.Amount, account.owed()
	lot.id = w.ids[len(w.postings)]
	account.lots = append(account.lots, lot)
	account.order()
	w.post(posting{account: account, lot: lot, amount: amount})
	if lot.over(w.now) {
		lot.remaining = amount
		w.lapse(account, lot)
		return
	}
	account.credit(lot, amount, owed)
	account.rearm()
	w.serve(account)
}

// post moves the balance.
func (w *walk) post(p posting) {
	account := p.account
	account.balance += p.amount
	account.moved = true
	p.balanceAfter = account.balance
	w.postings = append(w.postings, p)
	if p.amount < 0 {
		w.watch(account)
	}
}

// number gives the postings their numbers, and the charges those of their rows.
func (w *walk) number() {
	for i := range w.postings {
		p := &w.postings[i]
		p.id = w.ids[i]
		switch {
		case p.charge != nil && p.amount < 0:
			p.charge.DebitID = p.id
		case p.charge != nil:
			p.charge.RefundID = p.id
		}
	}
}

// answers tells how the execution of each instruction stands after the whole batch.
func (w *walk) answers() []Charge {
	answers := make([]Charge, len(w.charges))
	for i, charge := range w.charges {
		answers[i] = charge.Charge
	}
	return answers
}
