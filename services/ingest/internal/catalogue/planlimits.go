package catalogue

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// planBatch is how many customers' limits one statement stores.
const planBatch = 500

// PlanLimits keeps a copy of what customers' plans allow. Every process does so, each for its own memory as well.
type PlanLimits struct{ PlanLimitsDeps }

// PlanLimitsDeps is what a PlanLimits is given.
type PlanLimitsDeps struct {
	Bus *bus.Bus
	// Pool acts as the role galley_ingest.
	Pool      *pgxpool.Pool
	Catalogue *Catalogue
	Log       zerolog.Logger
}

// NewPlanLimits makes a PlanLimits.
func NewPlanLimits(deps PlanLimitsDeps) *PlanLimits {
	return &PlanLimits{PlanLimitsDeps: deps}
}

// Run follows the stream until ctx ends. It stores no position: the stream has one message for each customer, so every start reads all of it,
// which makes up for whatever the table or the stream has lost.
func (p *PlanLimits) Run(ctx context.Context) error {
	return p.Bus.Follow(ctx, bus.Tail{
		Stream: subject.StreamLimits, Name: "plan limits", Filter: subject.AllLimits, Batch: planBatch, Compacted: true,
		Position: func(context.Context, string) (uint64, error) { return 0, nil },
		Apply:    p.apply,
	})
}

func (p *PlanLimits) apply(ctx context.Context, _ bus.Place, messages []bus.Message) error {
	newest := make(map[string]event.Limits, len(messages))
	for _, message := range messages {
		told, err := decodeLimits(message)
		if err != nil {
			// Trying again would not help, and who wrote that was not billing.
			p.Log.Error().Err(err).Uint64("sequence", message.Sequence).Msg("limits of a plan not stored")
			continue
		}
		if told.Revision > newest[told.CustomerID].Revision {
			newest[told.CustomerID] = told
		}
	}
	return p.store(ctx, newest)
}

func decodeLimits(message bus.Message) (event.Limits, error) {
	customer, err := subject.ParseLimits(message.Subject())
	if err != nil {
		return event.Limits{}, err
	}
	var told event.Limits
	if err := json.Unmarshal(message.Data(), &told); err != nil {
		return event.Limits{}, fmt.Errorf("decode limits of %s: %w", customer, err)
	}
	if most := told.MaxConcurrency; told.CustomerID != customer || told.Revision < 1 || most != nil && (*most < 1 || *most > MaxConcurrency) {
		return event.Limits{}, fmt.Errorf("limits of %s: customer, revision or limit cannot be", customer)
	}
	return told, nil
}

// store keeps what is newer than what is known. Customers come in their order, so that processes do not wait for one another in a circle.
func (p *PlanLimits) store(ctx context.Context, newest map[string]event.Limits) error {
	if len(newest) == 0 {
		return nil
	}
	customers := slices.Sorted(maps.Keys(newest))
	most, revisions := make([]*int, len(customers)), make([]int64, len(customers))
	for i, customer := range customers {
		most[i], revisions[i] = newest[customer].MaxConcurrency, newest[customer].Revision
	}
	rows, err := p.Pool.Query(ctx, `INSERT INTO ingest.plan_limits AS stored (customer_id, max_concurrency, revision)
		SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[])
		ON CONFLICT (customer_id) DO UPDATE SET max_concurrency = excluded.max_concurrency, revision = excluded.revision
		WHERE stored.revision < excluded.revision
		RETURNING stored.customer_id::text`, customers, most, revisions)
	var changed []string
	if err == nil {
		changed, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return fmt.Errorf("store limits of %d plans: %w", len(customers), err)
	}
	p.Catalogue.settings.forget(func(customer string, _ settings) bool {
		_, found := newest[customer]
		return found
	})
	for _, customer := range changed {
		p.Catalogue.tellLimited(customer)
	}
	return nil
}
