package report

import (
	"fmt"
	"strconv"
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
	if s.SubscriptionTerm != nil {
		facts[0][1] += " version " + strconv.Itoa(s.Version)
	}
	if len(s.Features) > 0 {
		facts = append(facts, [2]string{"features", printable(strings.Join(s.Features, ", "))})
	}
	facts = append(facts, [2]string{"balance", s.Balance.String() + " credits"})
	if s.UpdatedAt != nil {
		facts = append(facts, [2]string{"since", s.UpdatedAt.UTC().Format(time.DateTime)})
	}
	if term := s.SubscriptionTerm; term != nil {
		facts = append(facts,
			[2]string{"period", fmt.Sprintf("%d, %s to %s", term.Period.Number, minute(term.Period.Start), minute(term.Period.End))},
			[2]string{"renewed", fmt.Sprintf("on day %d, %s", term.Anchor, printable(term.TimeZone))})
		if term.Next != nil {
			facts = append(facts, [2]string{"then", following(term.Next)})
		}
	}
	r.Facts(facts...)
}

func following(next *query.SubscriptionChange) string {
	if next.Status == query.SubscriptionCancelled {
		return "cancelled"
	}
	return fmt.Sprintf("plan %s version %d", printable(next.Plan), next.Version)
}

func minute(at time.Time) string {
	return at.UTC().Format("2006-01-02 15:04")
}
