package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/period"
)

// lot is a grant as the model knows it. until is zero for one that never expires.
type lot struct {
	id      string
	until   time.Time
	amount  credit.Micro
	left    credit.Micro
	current bool // of the period that goes on
}

// model is the simplest subscription: everything happens on time.
type model struct {
	calendar period.Calendar
	location *time.Location
	active   bool
	plan     *query.Plan
	next     *query.Plan
	leaving  bool
	number   int
	period   int
	from, to time.Time
	lots     []lot
	// queue is what executions wait for, the one that goes first at the front. now is when the model looks.
	queue []credit.Micro
	now   time.Time
}

func (m *model) give(suffix string, amount credit.Micro, by *query.Plan) {
	if amount == 0 {
		return
	}
	made := lot{id: fmt.Sprintf("subscription/%d/%d%s", m.number, m.period, suffix), amount: amount, left: amount, current: true}
	if by.Rollover.Rule != query.RolloverAll {
		made.until = m.to
	}
	m.lots = append(m.lots, made)
	m.serve()
}

// serve pays for what waits. What is over already is carried, perhaps, but nobody can spend it.
func (m *model) serve() {
	for len(m.queue) > 0 && m.spend(m.queue[0]) {
		m.queue = m.queue[1:]
	}
}

// expire empties lots of the period and tells what was left of them.
func (m *model) expire(every bool) (left credit.Micro) {
	for i := range m.lots {
		one := &m.lots[i]
		if one.current && (every || !one.until.IsZero()) {
			left += one.left
			one.left = 0
		}
		one.current = false
	}
	return left
}

func (m *model) advance(now time.Time) {
	m.now = now
	for m.active && !now.Before(m.to) {
		left, ended := m.expire(false), m.plan
		if m.leaving {
			m.active, m.leaving = false, false
			return
		}
		if m.next != nil {
			m.plan, m.next = m.next, nil
		}
		m.period++
		m.from, m.to = m.to, m.calendar.Next(m.to)
		switch ended.Rollover.Rule {
		case query.RolloverNone:
			left = 0
		case query.RolloverCapped:
			left = min(left, ended.Rollover.Max)
		case query.RolloverAll:
		}
		m.give("/rollover", left, ended)
		m.give("", m.plan.MonthlyCredits, m.plan)
	}
}

func (m *model) subscribe(now time.Time, wanted *query.Plan, calendar period.Calendar) {
	switch {
	case !m.active:
		m.calendar, m.active, m.plan, m.next, m.leaving = calendar, true, wanted, nil, false
		m.number, m.period, m.from, m.to = m.number+1, 1, now, calendar.Next(now)
		m.give("", wanted.MonthlyCredits, wanted)
	case wanted == m.plan:
		m.next, m.leaving = nil, false
	case wanted.MonthlyCredits < m.plan.MonthlyCredits:
		m.next, m.leaving = wanted, false
	default:
		part := big.NewInt(int64(wanted.MonthlyCredits - m.plan.MonthlyCredits))
		part.Mul(part, big.NewInt(m.to.Sub(now).Microseconds()))
		part.Div(part, big.NewInt(m.to.Sub(m.from).Microseconds()))
		m.plan, m.next, m.leaving = wanted, nil, false
		m.give(fmt.Sprintf("/%s/%d", wanted.PlanID, wanted.Version), credit.Micro(part.Int64()), wanted)
	}
}

func (m *model) cancel(atOnce bool) {
	switch {
	case !m.active:
	case atOnce:
		m.expire(true)
		m.active, m.next, m.leaving = false, nil, false
	default:
		m.next, m.leaving = nil, true
	}
}

// debit spends, now or later if it waits.
func (m *model) debit(amount credit.Micro, waits bool) {
	for i := range m.lots {
		if one := &m.lots[i]; m.over(one) {
			one.left = 0 // of a subscription that has ended
		}
	}
	if waits {
		m.queue = append(m.queue, amount)
		m.serve()
		return
	}
	m.spend(amount)
}

func (m *model) over(one *lot) bool { return !one.until.IsZero() && !m.now.Before(one.until) }

// spend burns lots, those first that expire first; nothing when they do not cover it.
func (m *model) spend(amount credit.Micro) bool {
	order := make([]*lot, 0, len(m.lots))
	var total credit.Micro
	for i := range m.lots {
		if one := &m.lots[i]; !m.over(one) {
			total += one.left
			order = append(order, one)
		}
	}
	if total < amount {
		return false
	}
	slices.SortStableFunc(order, func(a, b *lot) int {
		switch {
		case a.until.IsZero() == b.until.IsZero():
			return a.until.Compare(b.until)
		case a.until.IsZero():
			return 1
		}
		return -1
	})
	for _, one := range order {
		taken := min(amount, one.left)
		one.left -= taken
		amount -= taken
	}
	return true
}

// check compares the model with what is stored.
func (m *model) check(rt *rapid.T, w *world, customer string, now time.Time) {
	got, err := w.Get(rt.Context(), customer)
	require.NoError(rt, err)
	if m.number == 0 {
		require.Equal(rt, query.SubscriptionNone, got.Status)
		return
	}
	want := query.SubscriptionTerm{
		Version: m.plan.Version, Period: query.SubscriptionPeriod{Subscription: m.number, Number: m.period, Start: m.from, End: m.to},
		Anchor: got.Anchor, TimeZone: got.TimeZone,
	}
	switch {
	case m.leaving:
		want.Next = &query.SubscriptionChange{At: m.to, Status: query.SubscriptionCancelled}
	case m.next != nil:
		want.Next = &query.SubscriptionChange{At: m.to, Status: query.SubscriptionActive, Plan: m.next.PlanID, Version: m.next.Version}
	}
	require.Equal(rt, []any{m.plan.PlanID, m.active}, []any{got.Plan, got.Status == query.SubscriptionActive})
	require.Equal(rt, &want, got.SubscriptionTerm)
	require.NoError(rt, w.ledger.ExpireDue(rt.Context()))
	expected, balance := []string{}, credit.Micro(0)
	for _, one := range m.lots {
		if !one.until.IsZero() && !now.Before(one.until) {
			one.left = 0
		}
		balance += one.left
		expected = append(expected, fmt.Sprint(one.id, " ", one.amount, " ", one.left))
	}
	rows, err := w.work.Query(rt.Context(), `SELECT grant_id, amount, remaining FROM billing.grants WHERE customer_id = $1`, customer)
	require.NoError(rt, err)
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var one lot
		err := row.Scan(&one.id, &one.amount, &one.left)
		return fmt.Sprint(one.id, " ", one.amount, " ", one.left), err
	})
	require.NoError(rt, err)
	require.ElementsMatch(rt, expected, found)
	got, err = w.Get(rt.Context(), customer)
	require.NoError(rt, err)
	require.Equal(rt, balance, got.Balance)
	var waiting int
	err = w.work.QueryRow(rt.Context(), `SELECT COALESCE((SELECT waiting FROM billing.accounts WHERE customer_id = $1), 0)`,
		customer).Scan(&waiting)
	require.NoError(rt, err)
	require.Len(rt, m.queue, waiting)
	m.checkLimits(rt, w, customer)
}

// checkLimits compares what was told of limits: each time something else, in the order of its revisions, and at last what holds.
func (m *model) checkLimits(rt *rapid.T, w *world, customer string) {
	last, holds := &event.Limits{}, (*int)(nil)
	if m.active {
		holds = m.plan.Limits.MaxConcurrency
	}
	for _, told := range w.limits(rt, customer) {
		require.NotEqual(rt, last.MaxConcurrency, told.MaxConcurrency)
		require.Greater(rt, told.Revision, last.Revision)
		last = &told
	}
	require.Equal(rt, holds, last.MaxConcurrency)
}

// atOnce calls do in several workers at the same time, as a message does that is delivered again, while others are called to look. Some of them
// die on the way, before their commit or after it.
func (w *world) atOnce(rt *rapid.T, customer string, do func(ctx context.Context) error) {
	workers := rapid.IntRange(1, 3).Draw(rt, "workers")
	errs := make([]error, 2*workers)
	var group sync.WaitGroup
	for range rapid.IntRange(0, 2).Draw(rt, "crashes") {
		dying, die := context.WithTimeout(rt.Context(), time.Duration(rapid.IntRange(0, 8000).Draw(rt, "dies after"))*time.Microsecond)
		defer die()
		group.Go(func() { _ = do(dying) })
	}
	for i := range workers {
		group.Go(func() { errs[2*i] = do(rt.Context()) })
		group.Go(func() { _, errs[2*i+1] = w.Advance(rt.Context(), customer) })
	}
	group.Wait()
	require.NoError(rt, errors.Join(errs...))
}

// jump is a time to which the clock goes: often close to a boundary, sometimes several periods on.
func jump(rt *rapid.T, m *model, now time.Time) time.Time {
	_, changed := now.In(m.zone()).ZoneBounds()
	switch kind := rapid.SampledFrom([]string{"little", "far", "to the end", "just before the end", "clocks change"}).Draw(rt, "jump"); {
	case kind == "clocks change" && !changed.IsZero() && changed.Sub(now) < 200*24*time.Hour:
		return later(now, changed.Add(time.Duration(rapid.IntRange(-3600, 3600).Draw(rt, "seconds"))*time.Second).UTC())
	case kind == "far":
		return now.Add(time.Duration(rapid.Int64Range(0, int64(100*24*time.Hour/time.Microsecond)).Draw(rt, "by")) * time.Microsecond)
	case m.active && kind == "to the end":
		return m.to
	case m.active && kind == "just before the end" && m.to.Add(-time.Microsecond).After(now):
		return m.to.Add(-time.Microsecond)
	}
	return now.Add(time.Duration(rapid.IntRange(0, 20*24*60).Draw(rt, "minutes")) * time.Minute)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *model) zone() *time.Location {
	if m.location == nil {
		return time.UTC
	}
	return m.location
}

// zones are of all kinds: with clocks that change at night, at midnight or by half an hour, and far from UTC.
func zones() []string {
	return []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "America/Havana", "Asia/Beirut", "Asia/Kathmandu", "Australia/Lord_Howe",
		"Pacific/Apia", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Africa/Cairo",
	}
}

// drawCalendar draws a day and a zone: often the day on which its clocks change next.
func (m *model) drawCalendar(rt *rapid.T, now time.Time) (day int, zone string) {
	zone = rapid.SampledFrom(zones()).Draw(rt, "zone")
	day = rapid.IntRange(1, period.MaxDay).Draw(rt, "day")
	location, err := period.Zone(zone)
	require.NoError(rt, err)
	m.location = location
	if _, changed := now.In(location).ZoneBounds(); !changed.IsZero() && rapid.Bool().Draw(rt, "when clocks change") {
		day = changed.In(location).Day()
	}
	return day, zone
}

// TestDoesAsTheModel has a customer subscribe, change, cancel and spend while the clock jumps and several workers do the same at once: every
// period has its grant once, and what is stored is what would be had everything happened on time.
func TestDoesAsTheModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plans := []query.Plan{
		w.offer(t, "free", 0, none(), limited(1)), w.offer(t, "capped", 100, capped(50), limited(3)), w.offer(t, "kind", 250, all(), limited(3)),
		w.offer(t, "wide", 250, capped(400), nil), w.offer(t, "strict", 1000, none(), limited(9)),
	}
	rapid.Check(t, func(rt *rapid.T) {
		customer, m := uuid.NewString(), &model{}
		w.clock.Set(time.Unix(rapid.Int64Range(1_800_000_000, 1_900_000_000).Draw(rt, "begin"), 0).UTC())
		day, zone := m.drawCalendar(rt, w.clock.Now())
		calendar, err := period.NewCalendar(day, zone)
		require.NoError(rt, err)
		for place := range rapid.Uint64Range(1, 10).Draw(rt, "steps") {
			now := jump(rt, m, w.clock.Now())
			w.clock.Set(now)
			if rapid.Bool().Draw(rt, "the ledger looks first") {
				require.NoError(rt, w.ledger.ExpireDue(rt.Context()))
			}
			m.advance(now)
			switch rapid.SampledFrom([]string{"subscribe", "subscribe", "subscribe", "cancel", "debit", "debit", "nothing"}).Draw(rt, "what") {
			case "subscribe":
				wanted := &plans[rapid.IntRange(0, len(plans)-1).Draw(rt, "plan")]
				asked := request(customer, wanted.PlanID, query.SubscriptionActive)
				asked.Anchor, asked.TimeZone = day, zone
				w.atOnce(rt, customer, func(ctx context.Context) error { _, err := w.Set(ctx, asked); return err })
				m.subscribe(now, wanted, calendar)
			case "cancel":
				asked := &query.CancelSubscriptionRequest{CustomerID: customer, AtOnce: rapid.Bool().Draw(rt, "at once"), Actor: operator()}
				if m.number > 0 {
					w.atOnce(rt, customer, func(ctx context.Context) error { _, err := w.Cancel(ctx, asked); return err })
				}
				m.cancel(asked.AtOnce)
			case "debit":
				w.atOnce(rt, customer, func(context.Context) error { return nil })
				amount := credit.Micro(rapid.IntRange(1, 300).Draw(rt, "amount"))
				one := ledger.Instruction{Key: ledger.Key{Customer: customer, Execution: uuid.New()}, Action: ledger.Debit, Amount: amount}
				if rapid.Bool().Draw(rt, "waits") {
					one.Wait = ledger.Wait{Until: now.AddDate(100, 0, 0), Place: place + 1}
				}
				_, err := w.ledger.Apply(rt.Context(), []ledger.Instruction{one})
				require.NoError(rt, err)
				m.debit(amount, !one.Wait.Until.IsZero())
			default:
				w.atOnce(rt, customer, func(ctx context.Context) error { _, err := w.Advance(ctx, customer); return err })
			}
			m.check(rt, w, customer, now)
		}
	})
	w.reconciled(t)
}
