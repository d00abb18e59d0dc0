package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// drawWork draws instructions about a few executions of a few customers, so that debits, settles and redeliveries meet in every
// order, in batches. Some of the debits may wait, for a few hours.
func drawWork(t *rapid.T, customers []string, now time.Time) [][]ledger.Instruction {
	executions := make([]uuid.UUID, rapid.IntRange(1, 30).Draw(t, "executions"))
	for i := range executions {
		executions[i] = uuid.New()
	}
	places := rapid.Permutation(executions).Draw(t, "places")
	instruction := rapid.Custom(func(t *rapid.T) ledger.Instruction {
		i := rapid.IntRange(0, len(executions)-1).Draw(t, "execution")
		one := ledger.Instruction{
			Key:    ledger.Key{Customer: customers[i%len(customers)], Execution: executions[i]},
			Action: rapid.SampledFrom([]ledger.Action{ledger.Debit, ledger.Debit, ledger.Settle}).Draw(t, "action"),
			Amount: credit.Micro(rapid.IntRange(0, 40).Draw(t, "amount")),
		}
		if hours := rapid.IntRange(-4, 8).Draw(t, "wait"); one.Action == ledger.Debit && hours >= 0 {
			one.Wait = ledger.Wait{
				Until: now.Add(time.Duration(hours) * time.Hour), Place: uint64(slices.Index(places, one.Execution) + 1), //nolint:gosec // a few
			}
		}
		return one
	})
	return rapid.SliceOfN(rapid.SliceOfN(instruction, 1, 12), 1, 8).Draw(t, "batches")
}

func drawCustomers(t *rapid.T) []string {
	customers := make([]string, rapid.IntRange(1, 4).Draw(t, "customers"))
	for i := range customers {
		customers[i] = uuid.NewString()
	}
	return customers
}

// drawGrant draws a grant that is over after a few hours, or never.
func drawGrant(t *rapid.T, id string, now time.Time) query.GrantRequest {
	priority := rapid.IntRange(0, 2).Draw(t, "priority")
	request := query.GrantRequest{
		ID: id, Amount: credit.Micro(rapid.IntRange(1, 60).Draw(t, "amount")), Priority: &priority,
		Kind: rapid.SampledFrom([]query.GrantKind{
			query.GrantMonthly, query.GrantTopUp, query.GrantPromotional, query.GrantRollover, query.GrantProration,
		}).Draw(t, "kind"),
	}
	if hours := rapid.IntRange(0, 4).Draw(t, "hours"); hours > 0 {
		at := now.Add(time.Duration(hours) * time.Hour)
		request.ExpiresAt = &at
	}
	return request
}

func TestOneWorkerDoesAsTheModel(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	rapid.Check(t, func(rt *rapid.T) {
		customers := drawCustomers(rt)
		model := newModel(customers)
		for _, customer := range customers {
			bank.drawLimits(t, rt, customer, model.customers[customer])
		}
		for i, batch := range drawWork(rt, customers, bank.clock()) {
			if rapid.Bool().Draw(rt, "granted") {
				request := drawGrant(rt, strconv.Itoa(i), bank.clock())
				request.CustomerID = rapid.SampledFrom(customers).Draw(rt, "customer")
				bank.crash(t, rt, func(ctx context.Context) { _, _ = bank.Grant(ctx, request) })
				bank.give(t, request)
				model.grant(&request, bank.clock())
			}
			if limit := rapid.SampledFrom([]int{-1, -1, 0, 20}).Draw(rt, "new overdraft"); limit >= 0 {
				customer := rapid.SampledFrom(customers).Draw(rt, "whose")
				_, err := bank.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: customer, Limit: credit.Micro(limit)})
				require.NoError(rt, err)
				model.setOverdraft(customer, limit, bank.clock())
			}
			bank.pass(time.Duration(rapid.IntRange(0, 2).Draw(rt, "passed")) * time.Hour)
			bank.crash(t, rt, func(ctx context.Context) { _, _ = bank.Apply(ctx, batch) })
			charges, err := bank.Apply(t.Context(), batch)
			require.NoError(rt, err)
			model.apply(batch, bank.clock())
			for i, one := range batch {
				got := charges[i]
				got.DebitID, got.RefundID = 0, 0
				assert.Equal(rt, model.charges[one.Key].Charge, got)
			}
			if rapid.Bool().Draw(rt, "swept") {
				require.NoError(rt, bank.ExpireDue(t.Context()))
				model.sweep(bank.clock(), true, false)
			}
			if rapid.Bool().Draw(rt, "served") {
				next, err := bank.Serve(t.Context())
				require.NoError(rt, err)
				model.sweep(bank.clock(), false, true)
				assert.True(rt, next.IsZero() || next.After(bank.clock()), "nothing is left that has waited too long")
			}
		}
		bank.hasDecided(t, rt, model)
		for _, customer := range customers {
			bank.isAs(t, rt, customer, model.customers[customer])
		}
		bank.reconciled(t)
	})
}

// drawLimits sets the customer's overdraft, in the ledger and in the model, and mostly a threshold.
func (b *bank) drawLimits(t *testing.T, rt *rapid.T, customer string, c *modelCustomer) {
	t.Helper()
	c.overdraft = rapid.SampledFrom([]int{0, 0, 20}).Draw(rt, "overdraft")
	c.furthest = c.overdraft
	_, err := b.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: customer, Limit: credit.Micro(c.overdraft)})
	require.NoError(rt, err)
	if threshold := rapid.IntRange(-1, 30).Draw(rt, "threshold"); threshold >= 0 {
		c.low = &threshold
		amount := credit.Micro(threshold)
		_, err := b.SetLowBalance(t.Context(), query.LowBalanceRequest{CustomerID: customer, Threshold: &amount})
		require.NoError(rt, err)
		if threshold > 0 {
			c.toldLow = true
			c.lowTold++
		}
	}
}

// isAs compares the customer's lots, balance and events with the model.
func (b *bank) isAs(t *testing.T, rt *rapid.T, customer string, c *modelCustomer) {
	t.Helper()
	wanted := make([]lot, 0, len(c.lots))
	for _, one := range c.lots {
		wanted = append(wanted, lot{one.id, credit.Micro(one.remaining), credit.Micro(one.repaid), credit.Micro(one.expired)})
	}
	assert.Equal(rt, wanted, append([]lot{}, b.lots(t, customer)...))
	assert.Equal(rt, c.balance(), b.balance(t, customer))
	assert.GreaterOrEqual(rt, b.balance(t, customer), -credit.Micro(c.furthest))
	assert.Equal(rt, c.lowTold, b.told(t, subject.Billing(customer, string(event.AlertLowBalance))), "low_balance")
	assert.Equal(rt, c.exhaustedTold, b.told(t, subject.Billing(customer, string(event.AlertExhausted))), "exhausted")
}

// crash has a process die while it does something, before its commit or after it: whoever gets the message next does it again.
func (b *bank) crash(t *testing.T, rt *rapid.T, do func(ctx context.Context)) {
	t.Helper()
	if rapid.Bool().Draw(rt, "crashes") {
		ctx, die := context.WithTimeout(t.Context(), time.Duration(rapid.IntRange(0, 3000).Draw(rt, "dies after"))*time.Microsecond)
		defer die()
		do(ctx)
	}
}

// hasDecided compares what the journal has to be told with the model, and forgets it.
func (b *bank) hasDecided(t *testing.T, rt *rapid.T, model *model) {
	t.Helper()
	wanted, found := map[ledger.Key]ledger.Charge{}, map[ledger.Key]ledger.Charge{}
	for key, charge := range model.charges {
		if charge.untold {
			wanted[key] = charge.Charge
		}
	}
	for _, decision := range b.decisions(t) {
		known := model.charges[decision.Key]
		if known == nil {
			continue // of an earlier round
		}
		assert.Equal(rt, known.wanted, decision.Instruction.Amount)
		charge := decision.Charge
		charge.DebitID, charge.RefundID = 0, 0
		found[decision.Key] = charge
	}
	assert.Equal(rt, wanted, found)
	require.NoError(rt, b.Told(t.Context(), slices.Collect(maps.Keys(found))))
}

// decisions are all that nobody was told of, read in small pages.
func (b *bank) decisions(t *testing.T) (found []ledger.Decision) {
	t.Helper()
	var after *ledger.Decision
	for {
		page, err := b.Decided(t.Context(), after, 3)
		require.NoError(t, err)
		found = append(found, page...)
		if len(page) < 3 {
			return found
		}
		after = &page[2]
	}
}

// TestWorkersAgree lets several workers apply the same batches in different orders, as happens when messages are delivered again
// while an earlier delivery still works. Grants come in between, time passes, and what is over is swept.
func TestWorkersAgree(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	rapid.Check(t, func(rt *rapid.T) {
		customers := drawCustomers(rt)
		batches := drawWork(rt, customers, bank.clock())
		limit := credit.Micro(rapid.SampledFrom([]int{0, 20}).Draw(rt, "overdraft"))
		granted := map[string]credit.Micro{}
		requests := make([]query.GrantRequest, rapid.IntRange(0, 6).Draw(rt, "grants"))
		for i := range requests {
			requests[i] = drawGrant(rt, strconv.Itoa(i), bank.clock().Add(6*time.Hour))
			requests[i].CustomerID = customers[i%len(customers)]
			granted[requests[i].CustomerID] += requests[i].Amount
		}
		for _, customer := range customers {
			_, err := bank.SetOverdraft(t.Context(), query.OverdraftRequest{CustomerID: customer, Limit: limit})
			require.NoError(rt, err)
		}
		history := history{decisions: map[ledger.Key]ledger.Charge{}}
		var group sync.WaitGroup
		for worker := range rapid.IntRange(2, 4).Draw(rt, "workers") {
			order := rapid.Permutation(batches).Draw(rt, fmt.Sprint("order of worker ", worker))
			dies := rapid.IntRange(0, 3000).Draw(rt, fmt.Sprint("death of worker ", worker))
			group.Go(func() {
				dying, die := context.WithTimeout(t.Context(), time.Duration(dies)*time.Microsecond)
				_, _ = bank.Apply(dying, order[0])
				die()
				for _, batch := range order {
					history.add(t, batch, bank.applyUntilDone(t, batch))
				}
			})
		}
		for _, request := range requests {
			group.Go(func() {
				bank.give(t, request)
				bank.pass(time.Hour)
				assert.NoError(t, bank.ExpireDue(t.Context()))
			})
		}
		for range 2 {
			group.Go(func() {
				_, err := bank.Serve(t.Context())
				assert.NoError(t, err)
			})
		}
		group.Wait()
		for range 2 { // what has waited may have been decided for the sake of another one
			for _, batch := range batches {
				history.add(t, batch, bank.apply(t, batch))
			}
		}
		for _, decision := range bank.decisions(t) {
			if !slices.Contains(customers, decision.Customer) {
				continue
			}
			assert.Equal(rt, history.decisions[decision.Key].Debited, decision.Debited)
			assert.NotEqual(rt, ledger.StateWaiting, decision.State)
			require.NoError(rt, bank.Told(t.Context(), []ledger.Key{decision.Key}))
		}
		for _, customer := range customers {
			var expired credit.Micro
			for _, one := range bank.lots(t, customer) {
				expired += one.Expired
			}
			balance := bank.balance(t, customer)
			assert.Equal(rt, granted[customer]-history.held(customer)-expired, balance)
			assert.GreaterOrEqual(rt, balance, -limit)
		}
		bank.reconciled(t)
	})
}

// applyUntilDone does what a redelivery does after an error. Only those of a race are to be expected: no lock keeps apart what
// happens to a customer who has no account yet.
func (b *bank) applyUntilDone(t *testing.T, batch []ledger.Instruction) []ledger.Charge {
	t.Helper()
	for {
		charges, err := b.Apply(t.Context(), batch)
		if err == nil {
			return charges
		}
		var failure *pgconn.PgError
		race := errors.As(err, &failure) && (failure.Code == "23505" || failure.Code == "40P01") ||
			strings.Contains(err.Error(), "an account was made in the meantime")
		if !assert.True(t, race, "%v", err) {
			return nil
		}
	}
}

// history is what all workers were told.
type history struct {
	mu        sync.Mutex
	decisions map[ledger.Key]ledger.Charge
}

// add checks that an answer does not contradict an earlier one.
func (h *history) add(t *testing.T, batch []ledger.Instruction, charges []ledger.Charge) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, charge := range charges {
		assert.Equal(t, batch[i].Key, charge.Key)
		assert.NotEmpty(t, charge.State)
		if charge.State == ledger.StateWaiting {
			continue // it says nothing yet
		}
		earlier, known := h.decisions[charge.Key]
		if known {
			assert.Equal(t, earlier.Debited, charge.Debited)
			assert.Equal(t, earlier.DebitID, charge.DebitID)
			assert.Equal(t, earlier.BalanceAfter, charge.BalanceAfter)
			assert.Equal(t, earlier.State == ledger.StateRefused, charge.State == ledger.StateRefused)
		}
		if !known || charge.State == ledger.StateSettled {
			h.decisions[charge.Key] = charge
		}
	}
}

// held is what executions of the customer have been charged, or still hold.
func (h *history) held(customer string) (total credit.Micro) {
	for key, charge := range h.decisions {
		switch {
		case key.Customer != customer:
		case charge.State == ledger.StateSettled:
			total += charge.Charged
		default:
			total += charge.Debited
		}
	}
	return total
}
