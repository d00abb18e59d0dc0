package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
)

func TestSubscription(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	since := at(5)
	r.Subscription(query.SubscriptionReply{CustomerID: "alice", Status: query.SubscriptionNone, Features: []string{}})
	r.Subscription(query.SubscriptionReply{
		CustomerID: "alice", Plan: "pro\x1b", Status: query.SubscriptionActive, Features: []string{"exports", "leads"}, Balance: 1_500_000, UpdatedAt: &since,
	})
	require.Equal(t, `  alice has no subscription

  alice   active
  plan       pro`+" "+`
  features   exports, leads
  balance    1.5 credits
  since      2026-01-02 03:04:05
`, out.String())
}

func TestSubscriptionToAPlan(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	term := &query.SubscriptionTerm{
		Version: 2, Period: query.SubscriptionPeriod{Subscription: 1, Number: 3, Start: at(5), End: at(5).AddDate(0, 1, 0)}, Anchor: 2, TimeZone: "Europe/Berlin",
		Next: &query.SubscriptionChange{Status: query.SubscriptionActive, Plan: "free", Version: 7},
	}
	s := query.SubscriptionReply{CustomerID: "alice", Plan: "pro", Status: query.SubscriptionActive, Balance: 1_500_000, SubscriptionTerm: term}
	r.Subscription(s)
	term.Next = &query.SubscriptionChange{Status: query.SubscriptionCancelled}
	r.Subscription(s)
	const facts = `
  alice   active
  plan      pro version 2
  balance   1.5 credits
  period    3, 2026-01-02 03:04 to 2026-02-02 03:04
  renewed   on day 2, Europe/Berlin
  then      `
	require.Equal(t, facts+"plan free version 7\n"+facts+"cancelled\n", out.String())
}

func TestPlans(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	most, overdraft, retired := 4, credit.Micro(500_000), at(7)
	pro := query.Plan{PlanID: "pro", Version: 2, PublishedAt: at(5), RetiredAt: &retired, PlanTerms: query.PlanTerms{
		Name: "Pro\x1b", MonthlyCredits: 12_500_000, Rollover: query.Rollover{Rule: query.RolloverCapped, Max: 2_000_000}, Features: []string{"exports", "leads"},
		Limits:    query.PlanLimits{MaxConcurrency: &most, Overdraft: &overdraft},
		PriceList: []query.Price{{Item: "month", Amount: "49.00", Currency: "EUR"}}, Priority: 40,
	}}
	r.Plans(nil)
	r.Plans([]query.Plan{pro, {PlanID: "free", Version: 1, PlanTerms: query.PlanTerms{Name: "Free", Rollover: query.Rollover{Rule: query.RolloverNone}}}})
	r.Plan(pro)
	require.Equal(t, `  there are no plans
  plan   version   name   credits a month   left over                 prices            retired (UTC)
  pro          2   Pro               12.5   up to 2 is carried over   month 49.00 EUR   2026-01-02 03:04:07
  free         1   Free                 0   expires

  pro version 2   retired
  name         Pro`+" "+`
  credits      12.5 a month
  left over    up to 2 is carried over
  priority     40
  features     exports, leads
  executions   4 at the same time
  overdraft    0.5 credits
  month        49.00 EUR
  published    2026-01-02 03:04:05
  retired      2026-01-02 03:04:07
`, out.String())
}
