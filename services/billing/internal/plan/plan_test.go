package plan_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/plan"
	"github.com/galley-engine/galley/services/billing/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fixture struct {
	*plan.Catalogue
	work  *pgxpool.Pool
	clock *testkit.Clock
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, migrations.Schema()))
	open := func(role string) *pgxpool.Pool {
		pool, err := postgres.Open(t.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 4})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	f := &fixture{work: open(migrations.Role), clock: testkit.NewClock(time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC))}
	f.Catalogue = plan.New(f.work, open(migrations.Reader), outbox.New(f.work, nil, query.ServiceBilling, zerolog.Nop()), f.clock.Now)
	return f
}

func operator() event.Actor { return event.Actor{Type: "operator", ID: "operator"} }

func request(id string, monthly credit.Micro, features ...string) *query.PublishPlanRequest {
	most, overdraft := 5, 2*credit.One
	return &query.PublishPlanRequest{PlanID: id, Actor: operator(), PlanTerms: query.PlanTerms{
		Name: "The " + id, MonthlyCredits: monthly, Rollover: query.Rollover{Rule: query.RolloverCapped, Max: 1}, Features: features,
		Limits: query.PlanLimits{MaxConcurrency: &most, Overdraft: &overdraft}, Priority: 30,
		PriceList: []query.Price{{Item: "month", Amount: "49.00", Currency: "EUR"}},
	}}
}

func (f *fixture) publish(t *testing.T, wanted *query.PublishPlanRequest) query.PublishPlanReply {
	t.Helper()
	reply, err := f.Publish(t.Context(), wanted)
	require.NoError(t, err)
	return reply
}

func refused(t *testing.T, err error, code problem.Code, message string) {
	t.Helper()
	found, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, found.Code)
	require.Contains(t, found.Message, message)
}

func TestVersions(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	first := f.publish(t, request("pro", 100, "b", "a", "b"))
	want := query.Plan{PlanID: "pro", Version: 1, PublishedAt: f.clock.Now(), PlanTerms: request("pro", 100, "a", "b").PlanTerms}
	require.Equal(t, query.PublishPlanReply{Plan: want}, first)

	f.clock.Advance(time.Hour)
	require.Equal(t, query.PublishPlanReply{Plan: want, Repeated: true}, f.publish(t, request("pro", 100, "a", "b")), "the same content")
	second := f.publish(t, request("pro", 200))
	require.Equal(t, []any{2, false, []string{}}, []any{second.Plan.Version, second.Repeated, second.Plan.Features})
	require.Equal(t, 1, f.publish(t, request("pro", 100, "a", "b")).Plan.Version, "content of before is the version of before")

	for version, want := range map[int]query.Plan{0: second.Plan, 1: want, 2: second.Plan} {
		got, err := f.Get(t.Context(), "pro", version)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := f.Get(t.Context(), "pro", 3)
	refused(t, err, problem.NotFound, `no version 3 of plan "pro"`)
	_, err = f.Get(t.Context(), "con", 0)
	refused(t, err, problem.NotFound, `no plan "con"`)
	require.Equal(t, []string{"galley.activity.-.plan.published pro/1", "galley.activity.-.plan.published pro/2"}, f.activities(t))
}

func (f *fixture) activities(t *testing.T) []string {
	t.Helper()
	rows, err := f.work.Query(t.Context(), `SELECT subject || ' ' || (convert_from(data, 'UTF8')::json->>'resource_id')
		FROM billing.outbox ORDER BY id`)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return found
}

func TestWhatIsPublishedIsNotEdited(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	numbered := func(version int, monthly credit.Micro) error {
		wanted := request("pro", monthly)
		wanted.Version = version
		_, err := f.Publish(t.Context(), wanted)
		return err
	}
	refused(t, numbered(2, 100), problem.Conflict, "the next version of plan pro is 1")
	require.NoError(t, numbered(1, 100))
	require.NoError(t, numbered(1, 100))
	refused(t, numbered(1, 200), problem.Conflict, "what is published is not edited")
	refused(t, numbered(2, 100), problem.Conflict, "has this content already")
	require.NoError(t, numbered(2, 200))
	_, err := f.work.Exec(t.Context(), `UPDATE billing.plans SET terms = '{}'`)
	require.ErrorContains(t, err, "permission denied")
}

func TestRetire(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	for i, id := range []string{"a", "b", "c"} {
		f.publish(t, request(id, credit.Micro(i)))
		f.publish(t, request(id, credit.Micro(10+i)))
	}
	ids := func(after string, limit int, retired bool) (found []string, more bool) {
		reply, err := f.List(t.Context(), &query.PlansRequest{After: after, Limit: limit, Retired: retired})
		require.NoError(t, err)
		for _, one := range reply.Plans {
			found = append(found, fmt.Sprintf("%s/%d", one.PlanID, one.Version))
		}
		return found, reply.More
	}
	page, more := ids("", 2, false)
	require.Equal(t, []any{[]string{"a/2", "b/2"}, true}, []any{page, more})
	page, more = ids("b", 2, false)
	require.Equal(t, []any{[]string{"c/2"}, false}, []any{page, more})

	retired, err := f.Retire(t.Context(), &query.RetirePlanRequest{PlanID: "b", Actor: operator()})
	require.NoError(t, err)
	require.Equal(t, f.clock.Now(), *retired.RetiredAt)
	f.clock.Advance(time.Hour)
	again, err := f.Retire(t.Context(), &query.RetirePlanRequest{PlanID: "b", Actor: operator()})
	require.NoError(t, err)
	require.Equal(t, retired, again)
	page, _ = ids("", 9, false)
	require.Equal(t, []string{"a/2", "c/2"}, page)
	page, _ = ids("", 9, true)
	require.Equal(t, []string{"a/2", "b/2", "c/2"}, page)
	got, err := f.Get(t.Context(), "b", 1)
	require.NoError(t, err)
	require.NotNil(t, got.RetiredAt)
	require.True(t, f.publish(t, request("b", 1)).Repeated)
	_, err = f.Publish(t.Context(), request("b", 99))
	refused(t, err, problem.Conflict, "plan b is retired")
	_, err = f.Retire(t.Context(), &query.RetirePlanRequest{PlanID: "z", Actor: operator()})
	refused(t, err, problem.NotFound, "no plan")
	require.Equal(t, "galley.activity.-.plan.retired b/2", f.activities(t)[6])
	require.Len(t, f.activities(t), 7)
}

func TestPublishAtTheSameTime(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	var group sync.WaitGroup
	errs := make([]error, 9)
	for i := range errs {
		group.Go(func() { _, errs[i] = f.Publish(t.Context(), request("pro", credit.Micro(i%3))) })
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Len(t, f.activities(t), 3)
	got, err := f.Get(t.Context(), "pro", 0)
	require.NoError(t, err)
	require.Equal(t, 3, got.Version)
}

func TestViolations(t *testing.T) {
	t.Parallel()
	for place, change := range map[string]func(*query.PlanTerms){
		"":                        func(*query.PlanTerms) {},
		"/name":                   func(p *query.PlanTerms) { p.Name = "" },
		"/monthly_credits":        func(p *query.PlanTerms) { p.MonthlyCredits = -1 },
		"/rollover/rule":          func(p *query.PlanTerms) { p.Rollover.Rule = "some" },
		"/rollover/max":           func(p *query.PlanTerms) { p.Rollover.Max = 0 },
		"/features/0":             func(p *query.PlanTerms) { p.Features = []string{"a b"} },
		"/features":               func(p *query.PlanTerms) { p.Features = strings.Split(strings.Repeat("a ", 100)+"a", " ") },
		"/limits/max_concurrency": func(p *query.PlanTerms) { *p.Limits.MaxConcurrency = 0 },
		"/limits/overdraft":       func(p *query.PlanTerms) { *p.Limits.Overdraft = -1 },
		"/priority":               func(p *query.PlanTerms) { p.Priority = 101 },
		"/price_list/0/item":      func(p *query.PlanTerms) { p.PriceList[0].Item = "a\nb" },
		"/price_list/0/currency":  func(p *query.PlanTerms) { p.PriceList[0].Currency = "eur" },
		"/price_list/0/amount":    func(p *query.PlanTerms) { p.PriceList[0].Amount = "49.001" },
	} {
		terms := request("pro", 100, "a").PlanTerms
		change(&terms)
		found := terms.Violations()
		if place == "" {
			require.Empty(t, found)
			continue
		}
		require.Len(t, found, 1, place)
		require.Equal(t, place, found[0].Path)
	}
	unneeded := request("pro", 100).PlanTerms
	unneeded.Rollover.Rule = query.RolloverNone
	require.Equal(t, "/rollover/max", unneeded.Violations()[0].Path)
	for amount, ok := range map[string]bool{
		"0 EUR": true, "0.50 EUR": true, "49 EUR": true, "49.9 EUR": true, "1200 JPY": true, "1200.5 JPY": false, "1.234 KWD": true, "1.2345 KWD": false,
		"-1 EUR": false, "1. EUR": false, ".5 EUR": false, "01 EUR": false, "1e3 EUR": false, " EUR": false, "1234567890123456 EUR": false,
	} {
		terms := request("pro", 100).PlanTerms
		terms.PriceList[0].Amount, terms.PriceList[0].Currency, _ = strings.Cut(amount, " ")
		require.Equal(t, ok, len(terms.Violations()) == 0, amount)
	}
}
