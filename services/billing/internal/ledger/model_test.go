package ledger_test

import (
	"cmp"
	"slices"
	"time"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// model is the simplest ledger with lots: it moves one micro-credit after the other, each of which knows the grant that it came from.
type model struct {
	customers map[string]*modelCustomer
	charges   map[ledger.Key]*modelCharge
}

type modelCustomer struct {
	lots            []*modelLot
	owed, overdraft int
	// furthest is how far below 0 the balance was ever allowed to be.
	furthest int
	// low is the threshold, nil for none.
	low                    *int
	toldLow, toldExhausted bool
	lowTold, exhaustedTold int
	// queue is what waits, the one that goes first at the front.
	queue []*modelCharge
}

type modelLot struct {
	id                         string
	seq, priority              int
	expires                    *time.Time
	remaining, repaid, expired int
}

// modelCharge has the origin of each micro-credit that it holds, nil for the overdraft, the one that was burnt last at the end.
type modelCharge struct {
	ledger.Charge
	units  []*modelLot
	wanted credit.Micro
	wait   ledger.Wait
	// waited tells that a transaction left it waiting, untold that another one has decided it.
	waited, untold bool
}

func newModel(customers []string) *model {
	made := &model{customers: map[string]*modelCustomer{}, charges: map[ledger.Key]*modelCharge{}}
	for _, customer := range customers {
		made.customers[customer] = &modelCustomer{}
	}
	return made
}

func (c *modelCustomer) balance() credit.Micro {
	total := -c.owed
	for _, lot := range c.lots {
		total += lot.remaining
	}
	return credit.Micro(total)
}

func (l *modelLot) over(now time.Time) bool { return l.expires != nil && !now.Before(*l.expires) }

// next is the lot to be burnt, nil when there is none.
func (c *modelCustomer) next() *modelLot {
	var best *modelLot
	for _, lot := range c.lots {
		if lot.remaining > 0 && (best == nil || lot.before(best)) {
			best = lot
		}
	}
	return best
}

func (l *modelLot) before(other *modelLot) bool {
	never := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	expiry := func(l *modelLot) time.Time {
		if l.expires == nil {
			return never
		}
		return *l.expires
	}
	return cmp.Or(cmp.Compare(l.priority, other.priority), expiry(l).Compare(expiry(other)), cmp.Compare(l.seq, other.seq)) < 0
}

// back puts one micro-credit back where it came from.
func (c *modelCustomer) back(origin *modelLot, now time.Time) {
	if origin == nil {
		if c.owed > 0 {
			c.owed--
			return
		}
		for _, lot := range slices.Backward(c.lots) {
			if lot.repaid > 0 {
				lot.repaid--
				origin = lot
				break
			}
		}
	}
	switch {
	case origin.over(now):
		origin.expired++
	case c.owed > 0:
		c.owed--
		origin.repaid++
	default:
		origin.remaining++
	}
}

func (c *modelCustomer) expire(now time.Time) {
	for _, lot := range c.lots {
		if lot.over(now) {
			lot.expired, lot.remaining = lot.expired+lot.remaining, 0
		}
	}
	c.watch()
}

func (c *modelCustomer) watch() {
	if c.low != nil && c.balance() < credit.Micro(*c.low) && !c.toldLow {
		c.toldLow = true
		c.lowTold++
	}
	if c.balance() <= -credit.Micro(c.overdraft) {
		c.exhausted()
	}
}

func (c *modelCustomer) exhausted() {
	if !c.toldExhausted {
		c.toldExhausted = true
		c.exhaustedTold++
	}
}

func (m *model) grant(request *query.GrantRequest, now time.Time) {
	c := m.customers[request.CustomerID]
	defer m.commit()
	c.begin(now)
	lot := &modelLot{id: request.ID, seq: len(c.lots), priority: *request.Priority, expires: request.ExpiresAt}
	c.lots = append(c.lots, lot)
	for range request.Amount {
		c.back(lot, now)
	}
	if (c.low == nil || c.balance() >= credit.Micro(*c.low)) && c.balance() > -credit.Micro(c.overdraft) {
		c.toldLow, c.toldExhausted = false, false
	}
	c.serve()
}

func (m *model) setOverdraft(customer string, limit int, now time.Time) {
	c := m.customers[customer]
	defer m.commit()
	c.begin(now)
	if c.overdraft == limit {
		return
	}
	c.overdraft, c.furthest = limit, max(c.furthest, limit)
	c.toldExhausted = c.toldExhausted && !c.covers(1)
	c.serve()
}

// sweep expires what is over, and turns away who waited too long, of the customers of whom something is.
func (m *model) sweep(now time.Time, lots, waits bool) {
	for _, c := range m.customers {
		over := func(lot *modelLot) bool { return lot.remaining > 0 && lot.over(now) }
		late := func(charge *modelCharge) bool { return !charge.wait.Until.After(now) }
		if lots && slices.ContainsFunc(c.lots, over) || waits && slices.ContainsFunc(c.queue, late) {
			c.begin(now)
		}
	}
	m.commit()
}

// begin is what every transaction does first for a customer of whom it does something.
func (c *modelCustomer) begin(now time.Time) {
	c.expireQuietly(now)
	for _, charge := range slices.Clone(c.queue) {
		if !charge.wait.Until.After(now) {
			charge.State, charge.BalanceAfter, charge.untold = ledger.StateRefused, c.balance(), charge.waited
			c.drop(charge)
		}
	}
	c.serve()
}

// commit is the end of a transaction.
func (m *model) commit() {
	for _, charge := range m.charges {
		charge.waited = charge.State == ledger.StateWaiting
	}
}

func (c *modelCustomer) covers(amount credit.Micro) bool {
	return amount <= c.balance()+credit.Micro(c.overdraft)
}

func (c *modelCustomer) drop(charge *modelCharge) {
	c.queue = slices.DeleteFunc(c.queue, func(other *modelCharge) bool { return other == charge })
}

func (c *modelCustomer) serve() {
	for len(c.queue) > 0 && c.covers(c.queue[0].wanted) {
		first := c.queue[0]
		c.queue = c.queue[1:]
		first.untold = first.waited
		c.take(first, first.wanted)
	}
}

func (c *modelCustomer) take(charge *modelCharge, amount credit.Micro) {
	for range amount {
		lot := c.next()
		if lot == nil {
			c.owed++
		} else {
			lot.remaining--
		}
		charge.units = append(charge.units, lot)
	}
	charge.State, charge.Debited, charge.BalanceAfter = ledger.StateDebited, amount, c.balance()
	if amount > 0 {
		c.watch()
	}
}

func (c *modelCustomer) enter(charge *modelCharge, one *ledger.Instruction) {
	charge.State, charge.BalanceAfter, charge.wanted, charge.wait = ledger.StateWaiting, c.balance(), one.Amount, one.Wait
	c.queue = append(c.queue, charge)
	slices.SortFunc(c.queue, func(a, b *modelCharge) int { return cmp.Compare(a.wait.Place, b.wait.Place) })
	c.serve()
	if charge.State == ledger.StateWaiting && !c.covers(charge.wanted) {
		c.exhausted()
	}
}

// expireQuietly tells only when something has expired.
func (c *modelCustomer) expireQuietly(now time.Time) {
	for _, lot := range c.lots {
		if lot.over(now) && lot.remaining > 0 {
			c.expire(now)
		}
	}
}

func (m *model) apply(batch []ledger.Instruction, now time.Time) {
	defer m.commit()
	for _, one := range batch {
		m.customers[one.Customer].begin(now)
	}
	for _, one := range batch {
		m.follow(one, now)
	}
}

func (m *model) follow(one ledger.Instruction, now time.Time) {
	c := m.customers[one.Customer]
	charge := m.charges[one.Key]
	known := charge != nil
	if !known {
		charge = &modelCharge{Charge: ledger.Charge{Key: one.Key}}
		m.charges[one.Key] = charge
	}
	switch {
	case !known && one.Action == ledger.Settle:
		charge.State = ledger.StateSettled
	case !known && (one.Amount == 0 || c.covers(one.Amount) && (len(c.queue) == 0 || one.Wait.Until.IsZero())):
		c.take(charge, one.Amount)
	case !known && one.Wait.Until.After(now):
		c.enter(charge, &one)
	case !known:
		charge.State, charge.BalanceAfter = ledger.StateRefused, c.balance()
		if !c.covers(one.Amount) {
			c.exhausted()
		}
	case charge.State == ledger.StateWaiting && one.Action == ledger.Settle:
		charge.State = ledger.StateSettled
		c.drop(charge)
		c.serve()
	case charge.State == ledger.StateDebited && one.Action == ledger.Settle:
		charge.State, charge.Charged = ledger.StateSettled, min(one.Amount, charge.Debited)
		for range charge.Debited - charge.Charged {
			last := len(charge.units) - 1
			c.back(charge.units[last], now)
			charge.units = charge.units[:last]
		}
		if charge.waited { // the journal had its end before it could be told
			charge.untold = false
		}
		c.serve()
	}
}
