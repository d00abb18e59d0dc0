package report

import (
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/query"
)

// Subscription writes a customer's subscription.
func (r *Report) Subscription(s query.SubscriptionReply) {
	if s.Status == query.SubscriptionNone {
		r.Line("%s has no subscription", printable(s.CustomerID))
		return
	}
	r.Heading(printable(s.CustomerID), string(s.Status))
	facts := [][2]string{{"plan", printable(s.Plan)}}
	if len(s.Features) > 0 {
		facts = append(facts, [2]string{"features", printable(strings.Join(s.Features, ", "))})
	}
	facts = append(facts, [2]string{"balance", s.Balance.String() + " credits"})
	if s.UpdatedAt != nil {
		facts = append(facts, [2]string{"since", s.UpdatedAt.UTC().Format(time.DateTime)})
	}
	r.Facts(facts...)
}
