package ledger

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// alert is something that the customer wants to know of the balance.
type alert struct {
	kind event.AlertKind
	data event.Alert
}

// watch looks at a balance that has become smaller.
func (w *walk) watch(account *account) {
	w.watchLow(account)
	if !account.covers(1) {
		w.tellExhausted(account)
	}
}

func (w *walk) watchLow(account *account) {
	if account.balance < account.low && !account.toldLow {
		account.toldLow = true
		w.tell(account, event.AlertLowBalance)
	}
}

// tellExhausted tells that nothing, or not enough, is left. A customer who was never granted anything has no account, and nothing to
// run out of.
func (w *walk) tellExhausted(account *account) {
	if account.locked && !account.toldExhausted {
		account.toldExhausted = true
		w.tell(account, event.AlertExhausted)
	}
}

func (w *walk) tell(account *account, kind event.AlertKind) {
	account.moved = true
	data := event.Alert{CustomerID: account.customer, Balance: account.balance, Overdraft: account.overdraft, OccurredAt: w.now}
	if account.hasLow() {
		threshold := account.low
		data.Threshold = &threshold
	}
	w.alerts = append(w.alerts, alert{kind, data})
}

// rearm lets the account tell again once a grant has brought the balance back.
func (a *account) rearm() {
	if a.balance >= a.low && a.covers(1) {
		a.toldLow, a.toldExhausted = false, false
	}
}

// expiry is what the activity of an expiry tells.
type expiry struct {
	Amount    credit.Micro `json:"amount"`
	ExpiresAt time.Time    `json:"expires_at"`
}

// reports tells whether there is something to be published.
func (w *walk) reports() bool {
	if len(w.alerts) > 0 || w.closes {
		return true
	}
	for i := range w.postings {
		if w.postings[i].charge == nil {
			return true
		}
	}
	return false
}

// queueReports stores what is to be published: the alerts, and an activity for each lot of which something has expired and for each
// execution that was closed.
func (l *Ledger) queueReports(batch *pgx.Batch, w *walk) error {
	for _, told := range w.alerts {
		err := l.outbox.Queue(batch, outbox.Event{
			Subject: subject.Billing(told.data.CustomerID, string(told.kind)), Type: told.kind.Type(), Time: w.now, Data: told.data,
		})
		if err != nil {
			return fmt.Errorf("report %s: %w", told.kind, err)
		}
	}
	for customer, account := range w.accounts {
		for _, lot := range account.lots {
			if lot.lapsed == 0 {
				continue
			}
			if err := l.queueExpiry(batch, w, customer, lot); err != nil {
				return fmt.Errorf("report expiry: %w", err)
			}
		}
	}
	return l.queueClosings(batch, w)
}

func (l *Ledger) queueExpiry(batch *pgx.Batch, w *walk, customer string, lot *lot) error {
	changes, err := event.Changes(nil, expiry{Amount: lot.lapsed, ExpiresAt: lot.expires})
	if err != nil {
		return err
	}
	return l.outbox.QueueActivity(batch, event.Activity{
		CustomerID: customer, ActionType: event.ActionCreditsExpired, ResourceType: "credits", ResourceID: lot.grant,
		Actor: event.Actor{Type: "service", ID: query.ServiceBilling}, Changes: changes, Outcome: "success", OccurredAt: w.now,
	})
}
