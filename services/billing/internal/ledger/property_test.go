package ledger_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// model is the simplest ledger: one account a customer, one decision an execution.
type model struct {
	balances map[string]credit.Micro
	charges  map[ledger.Key]ledger.Charge
}

func (m *model) apply(one ledger.Instruction) {
	charge, known := m.charges[one.Key]
	switch {
	case !known && one.Action == ledger.Settle:
		charge.State = ledger.StateSettled
	case !known && one.Amount > m.balances[one.Customer]:
		charge.State, charge.BalanceAfter = ledger.StateRefused, m.balances[one.Customer]
	case !known:
		m.balances[one.Customer] -= one.Amount
		charge.State, charge.Debited, charge.BalanceAfter = ledger.StateDebited, one.Amount, m.balances[one.Customer]
	case charge.State == ledger.StateDebited && one.Action == ledger.Settle:
		charge.State, charge.Charged = ledger.StateSettled, min(one.Amount, charge.Debited)
		m.balances[one.Customer] += charge.Debited - charge.Charged
	}
	charge.Key = one.Key
	m.charges[one.Key] = charge
}

// drawWork draws instructions about a few executions of a few customers, so that debits, settles and redeliveries meet in every
// order, in batches.
func drawWork(t *rapid.T, customers []string) [][]ledger.Instruction {
	executions := make([]uuid.UUID, rapid.IntRange(1, 30).Draw(t, "executions"))
	for i := range executions {
		executions[i] = uuid.New()
	}
	instruction := rapid.Custom(func(t *rapid.T) ledger.Instruction {
		i := rapid.IntRange(0, len(executions)-1).Draw(t, "execution")
		return ledger.Instruction{
			Key:    ledger.Key{Customer: customers[i%len(customers)], Execution: executions[i]},
			Action: rapid.SampledFrom([]ledger.Action{ledger.Debit, ledger.Debit, ledger.Settle}).Draw(t, "action"),
			Amount: credit.Micro(rapid.IntRange(0, 40).Draw(t, "amount")),
		}
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

func TestOneWorkerDoesAsTheModel(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	rapid.Check(t, func(rt *rapid.T) {
		customers := drawCustomers(rt)
		model := model{balances: map[string]credit.Micro{}, charges: map[ledger.Key]ledger.Charge{}}
		for i, batch := range drawWork(rt, customers) {
			customer := rapid.SampledFrom(customers).Draw(rt, "granted")
			if amount := credit.Micro(rapid.IntRange(0, 60).Draw(rt, "grant")); amount > 0 {
				bank.grant(t, customer, strconv.Itoa(i), amount)
				model.balances[customer] += amount
			}
			charges, err := bank.Apply(t.Context(), batch)
			require.NoError(rt, err)
			for _, one := range batch {
				model.apply(one)
			}
			for i, one := range batch {
				got := charges[i]
				got.DebitID, got.RefundID = 0, 0
				assert.Equal(rt, model.charges[one.Key], got)
			}
		}
		for _, customer := range customers {
			assert.Equal(rt, model.balances[customer], bank.balance(t, customer))
		}
		bank.reconciled(t)
	})
}

// TestWorkersAgree lets several workers apply the same batches in different orders, as happens when messages are delivered again
// while an earlier delivery still works, and grants come in between.
func TestWorkersAgree(t *testing.T) {
	t.Parallel()
	bank := open(t, migrated(t, testkit.Postgres(t)))
	rapid.Check(t, func(rt *rapid.T) {
		customers := drawCustomers(rt)
		batches := drawWork(rt, customers)
		granted := map[string]credit.Micro{}
		grants := rapid.SliceOfN(rapid.IntRange(1, 60), 0, 6).Draw(rt, "grants")
		history := history{decisions: map[ledger.Key]ledger.Charge{}}
		var group sync.WaitGroup
		for worker := range rapid.IntRange(2, 4).Draw(rt, "workers") {
			order := rapid.Permutation(batches).Draw(rt, fmt.Sprint("order of worker ", worker))
			group.Go(func() {
				for _, batch := range order {
					history.add(t, batch, bank.applyUntilDone(t, batch))
				}
			})
		}
		for i, amount := range grants {
			customer := customers[i%len(customers)]
			granted[customer] += credit.Micro(amount)
			group.Go(func() { bank.grant(t, customer, strconv.Itoa(i), credit.Micro(amount)) })
		}
		group.Wait()
		for _, customer := range customers {
			assert.Equal(rt, granted[customer]-history.held(customer), bank.balance(t, customer))
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
