package slot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// callTime bounds the calls of those that a table had no room for.
const callTime = time.Minute

// ask gives the limits that there are now for those that wait; none while ingest does not answer, or nobody waits. What is known goes on to
// hold then.
func (s *Slots) ask(ctx context.Context, customer string, found *table) map[string]limit {
	if len(found.Waiting) == 0 {
		return nil
	}
	request := query.LimitsRequest{CustomerID: customer}
	for _, name := range found.wanted() {
		agent, recipe, _ := strings.Cut(name, ".")
		request.Recipes = append(request.Recipes, query.Recipe{AgentID: agent, RecipeID: recipe})
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	told, err := bus.Ask[query.LimitsReply](ctx, s.bus, query.ServiceIngest, query.Limits, request)
	if err != nil {
		s.log.Debug().Err(err).Str("customer", customer).Msg("limits not looked up")
		return nil
	}
	limits := map[string]limit{ofCustomer: {Max: cmp.Or(told.MaxConcurrency, unlimited), Revision: told.AsOf.UnixMicro()}}
	for _, of := range told.Recipes {
		limits[of.AgentID+"."+of.RecipeID] = limit{Max: cmp.Or(of.Concurrency, unlimited), Revision: int64(of.Version)}
	}
	return limits
}

// callOthers calls those that wait and are not in the table, the oldest first, when a change of a limit has left nobody waiting there: they would
// come back by themselves minutes later only. A table that was full before the change may have had no room for them.
func (s *Slots) callOthers(customer string) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	if err := s.callOthersOf(ctx, customer); err != nil {
		s.log.Warn().Err(err).Str("customer", customer).Msg("executions that wait for a slot not called, they come back later")
	}
}

func (s *Slots) callOthersOf(ctx context.Context, customer string) error {
	found, _, err := s.read(ctx, customer)
	if err != nil || len(found.Waiting) > 0 {
		return err
	}
	asleep, err := s.asleep(ctx, customer)
	if err != nil {
		return failure(customer, err)
	}
	for _, id := range asleep[:min(len(asleep), maxHeld)] {
		execution := subject.Execution{Customer: customer, ID: id}
		last, err := s.journals.Last(ctx, execution)
		switch {
		case errors.Is(err, journal.ErrNotFound):
		case err != nil:
			return failure(customer, err)
		case last.Kind == event.Waiting && forSlot(last.Data) && !found.holds(id):
			s.wake(ctx, execution)
		}
	}
	return nil
}

// asleep lists the executions of a customer that are put down, by their ids, which most have by the time of their acceptance.
func (s *Slots) asleep(ctx context.Context, customer string) (ids []string, err error) {
	stream, err := s.bus.JS.Stream(ctx, subject.StreamDelays)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", subject.StreamDelays, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject.Execution{Customer: customer, ID: "*"}.Delay()))
	if err != nil {
		return nil, fmt.Errorf("list who is put down: %w", err)
	}
	prefix := subject.Execution{Customer: customer}.Delay()
	for delay := range info.State.Subjects {
		ids = append(ids, strings.TrimPrefix(delay, prefix))
	}
	slices.Sort(ids)
	return ids, nil
}
