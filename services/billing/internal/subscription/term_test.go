package subscription_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// spend debits alice.
func (w *world) spend(t *testing.T, amount credit.Micro) ledger.Key {
	t.Helper()
	key := ledger.Key{Customer: "alice", Execution: uuid.New()}
	charges, err := w.ledger.Apply(t.Context(), []ledger.Instruction{{Key: key, Action: ledger.Debit, Amount: amount}})
	require.NoError(t, err)
	require.Equal(t, ledger.StateDebited, charges[0].State)
	return key
}

func TestPeriods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	starter := w.offer(t, "starter", 100*credit.One, none(), nil)
	got := w.subscribe(t, "starter")
	first := query.SubscriptionPeriod{Subscription: 1, Number: 1, Start: start(), End: moment(t, "2027-02-28T00:00:00Z")}
	now := start()
	require.Equal(t, query.SubscriptionReply{
		CustomerID: "alice", Plan: "starter", Status: query.SubscriptionActive, Features: starter.Features, Balance: 100 * credit.One, UpdatedAt: &now,
		SubscriptionTerm: &query.SubscriptionTerm{Version: 1, Period: first, Anchor: 31, TimeZone: "UTC"},
	}, got)
	require.Equal(t, first.End, w.delays.at["galley.due.billing.alice"])
	action, actor, changes := w.told(t)
	require.Equal(t, []any{"subscription.created", "operator:operator", 100.0, 1.0}, []any{action, actor, changes["granted"], changes["version"]})
	require.Equal(t, got, w.subscribe(t, "starter"), "what is so already is no change")
	require.Len(t, w.activities(t), 1)

	w.spend(t, 30*credit.One)
	w.on(t, "2027-02-27T23:59:59.999999Z")
	end, err := w.Advance(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, first.End, end)
	require.Equal(t, map[string]credit.Micro{"subscription/1/1": 70 * credit.One}, w.lots(t))

	w.on(t, "2027-02-28T00:00:00Z")
	for range 2 { // called twice, it happens once
		end, err = w.Advance(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, moment(t, "2027-03-31T00:00:00Z"), end)
		require.Equal(t, map[string]credit.Micro{"subscription/1/2": 100 * credit.One}, w.lots(t))
	}
	action, actor, changes = w.told(t)
	require.Equal(t, []any{"subscription.renewed", "service:billing", 100.0, 70.0, nil},
		[]any{action, actor, changes["granted"], changes["expired"], changes["carried"]})
	require.Len(t, w.activities(t), 2)
	w.reconciled(t)
}

func TestRollover(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rule    query.Rollover
		late    bool
		carried []credit.Micro // into the second, third and fourth period
		left    map[string]credit.Micro
	}{
		"none": {none(), false, []credit.Micro{0, 0, 0}, map[string]credit.Micro{"subscription/1/4": 100}},
		"capped": {capped(150), false, []credit.Micro{60, 150, 150}, map[string]credit.Micro{
			"subscription/1/4": 100, "subscription/1/4/rollover": 150,
		}},
		"all": {all(), false, []credit.Micro{0, 0, 0}, map[string]credit.Micro{
			"subscription/1/1": 60, "subscription/1/2": 100, "subscription/1/3": 100, "subscription/1/4": 100,
		}},
		"none, late":   {none(), true, []credit.Micro{0, 0, 0}, map[string]credit.Micro{"subscription/1/4": 100}},
		"capped, late": {capped(150), true, []credit.Micro{60, 150, 150}, map[string]credit.Micro{"subscription/1/4": 100, "subscription/1/4/rollover": 150}},
		"all, late": {all(), true, []credit.Micro{0, 0, 0}, map[string]credit.Micro{
			"subscription/1/1": 60, "subscription/1/2": 100, "subscription/1/3": 100, "subscription/1/4": 100,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.offer(t, "plan", 100, test.rule, nil)
			w.subscribe(t, "plan")
			w.spend(t, 40)
			if test.late { // the ledger finds the grant over before anybody ends the period, and nobody does for three of them
				w.on(t, "2027-02-28T00:00:01Z")
				require.NoError(t, w.ledger.ExpireDue(t.Context()))
				w.on(t, "2027-04-30T00:00:00Z")
			}
			for _, end := range []string{"2027-02-28T00:00:00Z", "2027-03-31T00:00:00Z", "2027-04-30T00:00:00Z"} {
				if !test.late {
					w.on(t, end)
				}
				_, err := w.Advance(t.Context(), "alice")
				require.NoError(t, err)
			}
			require.Equal(t, test.left, w.lots(t))
			got, err := w.Get(t.Context(), "alice")
			require.NoError(t, err)
			require.Equal(t, query.SubscriptionPeriod{
				Subscription: 1, Number: 4, Start: moment(t, "2027-04-30T00:00:00Z"), End: moment(t, "2027-05-31T00:00:00Z"),
			}, got.Period)
			var carried []credit.Micro
			for _, id := range []string{"subscription/1/2/rollover", "subscription/1/3/rollover", "subscription/1/4/rollover"} {
				var amount credit.Micro
				require.NoError(t, w.work.QueryRow(t.Context(), `SELECT COALESCE(sum(amount), 0)::bigint FROM billing.grants
					WHERE customer_id = 'alice' AND grant_id = $1 AND kind = 'rollover'`, id).Scan(&amount))
				carried = append(carried, amount)
			}
			require.Equal(t, test.carried, carried)
			w.reconciled(t)
		})
	}
}

// What comes back after its period is over expires, unless the period has not been rolled over yet: then it counts as left.
func TestRefundsAfterTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "plan", 100, capped(1000), nil)
	w.subscribe(t, "plan")
	early, late := w.spend(t, 40), w.spend(t, 30)
	settle := func(key ledger.Key) {
		_, err := w.ledger.Apply(t.Context(), []ledger.Instruction{{Key: key, Action: ledger.Settle}})
		require.NoError(t, err)
	}
	w.on(t, "2027-02-28T00:00:01Z")
	settle(early)
	_, err := w.Advance(t.Context(), "alice")
	require.NoError(t, err)
	settle(late)
	require.Equal(t, map[string]credit.Micro{"subscription/1/2": 100, "subscription/1/2/rollover": 70}, w.lots(t))
	w.reconciled(t)
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "starter", 100*credit.One, none(), nil)
	w.offer(t, "pro", 310*credit.One, none(), nil)
	w.offer(t, "team", 310*credit.One, none(), nil)
	w.on(t, "2027-03-01T00:00:00Z")
	w.subscribe(t, "starter")
	w.on(t, "2027-03-11T00:00:00Z") // 21 of 31 days are left
	got := w.subscribe(t, "pro")
	require.Equal(t, []any{"pro", 1, 1, []string{"of-pro"}}, []any{got.Plan, got.Version, got.Period.Number, got.Features})
	require.Nil(t, got.Next)
	want := map[string]credit.Micro{
		"subscription/1/1": 100 * credit.One, "subscription/1/1/pro/1": 142_258_064, // 210 credits × 21 / 31, rounded down
	}
	require.Equal(t, want, w.lots(t))
	action, _, changes := w.told(t)
	require.Equal(t, []any{"subscription.changed", 142.258064}, []any{action, changes["granted"]})

	got = w.subscribe(t, "team")
	require.Equal(t, "team", got.Plan, "as many credits: at once, with nothing to make up for")
	require.Equal(t, want, w.lots(t))
	w.on(t, "2027-04-01T00:00:00Z")
	got, err := w.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, []any{"team", 2, 310 * credit.One}, []any{got.Plan, got.Period.Number, got.Balance})
	w.reconciled(t)
}

func TestDowngrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	overdraft := 5 * credit.One
	w.offer(t, "starter", 100, none(), nil)
	w.offer(t, "pro", 300, capped(50), func(terms *query.PlanTerms) { terms.Limits.Overdraft = &overdraft })
	w.subscribe(t, "pro")
	require.Equal(t, overdraft, w.limit(t))
	got := w.subscribe(t, "starter")
	end := moment(t, "2027-02-28T00:00:00Z")
	later := &query.SubscriptionChange{At: end, Status: query.SubscriptionActive, Plan: "starter", Version: 1}
	require.Equal(t, []any{"pro", later, credit.Micro(300)}, []any{got.Plan, got.Next, got.Balance})
	require.Equal(t, got, w.subscribe(t, "starter"))
	require.Len(t, w.activities(t), 2)
	require.Nil(t, w.subscribe(t, "pro").Next, "the plan that it has withdraws the change")
	require.Equal(t, later, w.subscribe(t, "starter").Next)

	w.clock.Set(end)
	got, err := w.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, []any{"starter", []string{"of-starter"}, credit.Micro(150)}, []any{got.Plan, got.Features, got.Balance})
	require.Nil(t, got.Next)
	require.Equal(t, map[string]credit.Micro{"subscription/1/2": 100, "subscription/1/2/rollover": 50}, w.lots(t))
	require.Zero(t, w.limit(t), "the overdraft was that of the plan")
	w.on(t, "2027-03-31T00:00:00Z")
	got, err = w.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, credit.Micro(100), got.Balance, "what was carried expires with the period that it was carried into")
	w.reconciled(t)
}

// limit is alice's overdraft.
func (w *world) limit(t *testing.T) (limit credit.Micro) {
	t.Helper()
	require.NoError(t, w.work.QueryRow(t.Context(), `SELECT overdraft FROM billing.accounts WHERE customer_id = 'alice'`).Scan(&limit))
	return limit
}

// A grant keeps the expiry that it was given when the plan changes to one with another rule.
func TestChangeOfTheRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "strict", 100, none(), nil)
	w.offer(t, "kind", 300, all(), nil)
	w.on(t, "2027-03-01T00:00:00Z")
	w.subscribe(t, "strict")
	w.on(t, "2027-03-16T12:00:00Z")
	w.subscribe(t, "kind")
	w.on(t, "2027-04-01T00:00:00Z")
	_, err := w.Advance(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, map[string]credit.Micro{
		"subscription/1/1/kind/1": 100, "subscription/1/2/rollover": 100, "subscription/1/2": 300,
	}, w.lots(t), "under the rule all, nothing is lost")
	w.subscribe(t, "strict")
	w.on(t, "2027-05-01T00:00:00Z")
	_, err = w.Advance(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, map[string]credit.Micro{
		"subscription/1/1/kind/1": 100, "subscription/1/2/rollover": 100, "subscription/1/2": 300, "subscription/1/3": 100,
	}, w.lots(t))
	w.reconciled(t)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	overdraft := 7 * credit.One
	w.offer(t, "plan", 100, none(), func(terms *query.PlanTerms) { terms.Limits.Overdraft = &overdraft })
	w.offer(t, "forever", 100, all(), nil)
	_, err := w.Cancel(t.Context(), &query.CancelSubscriptionRequest{CustomerID: "alice", Actor: operator()})
	refused(t, err, problem.NotFound, "no subscription")

	w.subscribe(t, "plan")
	end := moment(t, "2027-02-28T00:00:00Z")
	got := w.cancel(t, false)
	require.Equal(t, &query.SubscriptionChange{At: end, Status: query.SubscriptionCancelled}, got.Next)
	require.Equal(t, []any{query.SubscriptionActive, credit.Micro(100)}, []any{got.Status, got.Balance})
	require.Equal(t, got, w.cancel(t, false))
	require.Nil(t, w.subscribe(t, "plan").Next, "the same plan withdraws the cancellation")
	w.cancel(t, false)
	w.on(t, "2027-05-05T00:00:00Z")
	got, err = w.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, []any{query.SubscriptionCancelled, credit.Micro(0), 1}, []any{got.Status, got.Balance, got.Period.Number})
	require.Zero(t, w.limit(t))
	action, _, _ := w.told(t)
	require.Equal(t, "subscription.cancelled", action)
	require.Equal(t, got, w.cancel(t, true), "it has ended")

	got = w.subscribe(t, "forever")
	require.Equal(t, []int{2, 1}, []int{got.Period.Subscription, got.Period.Number})
	w.on(t, "2027-06-05T00:00:00Z")
	got = w.cancel(t, true)
	require.Equal(t, query.SubscriptionCancelled, got.Status)
	require.Equal(t, map[string]credit.Micro{"subscription/2/1": 100}, w.lots(t), "only the credits of this period expire")
	_, _, changes := w.told(t)
	require.InDelta(t, 0.0001, changes["expired"], 1e-12)
	end, err = w.Advance(t.Context(), "alice")
	require.NoError(t, err)
	require.Zero(t, end)
	w.reconciled(t)
}

func TestStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "plan", 100, none(), nil)
	w.on(t, "2027-06-15T12:00:00Z")
	wanted := request("alice", "plan", query.SubscriptionActive)
	begin := moment(t, "2027-03-27T08:00:00Z")
	wanted.Start, wanted.Anchor, wanted.TimeZone = &begin, 28, "Europe/Berlin"
	got, err := w.Set(t.Context(), wanted)
	require.NoError(t, err)
	require.Equal(t, query.SubscriptionPeriod{
		Subscription: 1, Number: 4, Start: moment(t, "2027-05-27T22:00:00Z"), End: moment(t, "2027-06-27T22:00:00Z"),
	}, got.Period)
	require.Equal(t, credit.Micro(100), got.Balance)
	var given credit.Micro
	require.NoError(t, w.work.QueryRow(t.Context(), `SELECT sum(amount) FROM billing.grants WHERE customer_id = 'alice'`).Scan(&given))
	require.Equal(t, credit.Micro(400), given, "each period had its credits")
	w.reconciled(t)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "plan", 100, none(), nil)
	w.offer(t, "old", 100, none(), nil)
	_, err := w.plans.Retire(t.Context(), &query.RetirePlanRequest{PlanID: "old", Actor: operator()})
	require.NoError(t, err)
	future, past := start().Add(time.Second), start().Add(-367*24*time.Hour)
	set := func(name string, code problem.Code, message string, change func(*query.SubscribeRequest)) {
		wanted := request("alice", name, query.SubscriptionActive)
		if change != nil {
			change(wanted)
		}
		_, err := w.Set(t.Context(), wanted)
		refused(t, err, code, message)
	}
	set("old", problem.Conflict, "retired", nil)
	set("plan", problem.InvalidRequest, "not set to cancelled", func(r *query.SubscribeRequest) { r.Status = query.SubscriptionCancelled })
	set("plan", problem.InvalidRequest, "features are those of the plan", func(r *query.SubscribeRequest) { r.Features = []string{"x"} })
	set("plan", problem.InvalidRequest, "start must not be", func(r *query.SubscribeRequest) { r.Start = &future })
	set("plan", problem.InvalidRequest, "start must not be", func(r *query.SubscribeRequest) { r.Start = &past })
	set("plan", problem.InvalidRequest, "time_zone must be", func(r *query.SubscribeRequest) { r.TimeZone = "Mars/Base" })
	set("plan", problem.InvalidRequest, "anchor_day must be", func(r *query.SubscribeRequest) { r.Anchor = 32 })
	set("plan", problem.NotFound, "no version 2", func(r *query.SubscribeRequest) { r.Version = 2 })
	set("unheard-of", problem.NotFound, "no plan", func(r *query.SubscribeRequest) { r.Anchor = 1 })
	none, err := w.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, query.SubscriptionNone, none.Status, "what is refused changes nothing")

	w.subscribe(t, "plan")
	set("note", problem.Conflict, "cancel that first", nil)
	set("old", problem.Conflict, "nobody can change to it", nil)
	set("plan", problem.Conflict, "stay as they are", func(r *query.SubscribeRequest) { r.Anchor = 1 })
	set("plan", problem.Conflict, "stay as they are", func(r *query.SubscribeRequest) { r.TimeZone = "Asia/Tokyo" })
	_, err = w.ledger.Grant(t.Context(), query.GrantRequest{ID: "rich", CustomerID: "bob", Amount: ledger.MaxBalance})
	require.NoError(t, err)
	_, err = w.Set(t.Context(), request("bob", "plan", query.SubscriptionActive))
	refused(t, err, problem.InvalidRequest, "balance would exceed")
}

// A plan that is published under the name of a note changes nothing about the note, until it is set again.
func TestNoteOfAPlanThatIsPublishedLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	note, err := w.Set(t.Context(), request("alice", "pro", query.SubscriptionActive, "leads"))
	require.NoError(t, err)
	w.offer(t, "pro", 100, none(), nil)
	got, err := w.Get(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, note, got)
	require.Nil(t, got.SubscriptionTerm)
	got = w.subscribe(t, "pro")
	require.Equal(t, []any{1, []string{"of-pro"}, credit.Micro(100)}, []any{got.Version, got.Features, got.Balance})
}

// The renewal of one whose balance is full goes on without the credits.
func TestFullBalance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.offer(t, "plan", 100, all(), nil)
	w.subscribe(t, "plan")
	_, err := w.ledger.Grant(t.Context(), query.GrantRequest{ID: "rich", CustomerID: "alice", Amount: ledger.MaxBalance - 150})
	require.NoError(t, err)
	w.on(t, "2027-02-28T00:00:00Z")
	got, err := w.Get(t.Context(), "alice")
	require.NoError(t, err)
	assert.Equal(t, []any{2, ledger.MaxBalance - 50}, []any{got.Period.Number, got.Balance})
	_, _, changes := w.told(t)
	assert.InDelta(t, 0.0001, changes["not_granted"], 1e-12)
	w.reconciled(t)
}
