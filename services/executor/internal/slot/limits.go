package slot

import (
	"cmp"
	"context"
	"strings"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
)

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
