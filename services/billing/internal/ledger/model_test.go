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
	// low is the threshold, nil for none.
	low                    *int
	toldLow, toldExhausted bool
	lowTold, exhaustedTold int
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
	units []*modelLot
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
	c.expireQuietly(now)
	lot := &modelLot{id: request.ID, seq: len(c.lots), priority: *request.Priority, expires: request.ExpiresAt}
	c.lots = append(c.lots, lot)
	for range request.Amount {
		c.back(lot, now)
	}
	if (c.low == nil || c.balance() >= credit.Micro(*c.low)) && c.balance() > -credit.Micro(c.overdraft) {
		c.toldLow, c.toldExhausted = false, false
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
	for _, one := range batch {
		m.customers[one.Customer].expireQuietly(now)
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
	case !known && one.Amount > 0 && one.Amount > c.balance()+credit.Micro(c.overdraft):
		charge.State, charge.BalanceAfter = ledger.StateRefused, c.balance()
		c.exhausted()
	case !known:
		for range one.Amount {
			lot := c.next()
			if lot == nil {
				c.owed++
			} else {
				lot.remaining--
			}
			charge.units = append(charge.units, lot)
		}
		charge.State, charge.Debited, charge.BalanceAfter = ledger.StateDebited, one.Amount, c.balance()
		if one.Amount > 0 {
			c.watch()
		}
	case charge.State == ledger.StateDebited && one.Action == ledger.Settle:
		charge.State, charge.Charged = ledger.StateSettled, min(one.Amount, charge.Debited)
		for range charge.Debited - charge.Charged {
			last := len(charge.units) - 1
			c.back(charge.units[last], now)
			charge.units = charge.units[:last]
		}
	}
}
