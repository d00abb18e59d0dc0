package queryapi

import (
	"context"
	"errors"

	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

const maxReason = 1000

func (a *API) grant(ctx context.Context, request query.GrantRequest) (query.GrantReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.GrantReply{}, invalidCustomer()
	case request.ID == "" || !isLine(request.ID, maxID):
		return query.GrantReply{}, invalid("id must be a line of 1 to %d bytes", maxID)
	case request.Amount <= 0:
		return query.GrantReply{}, invalid("amount must be greater than 0")
	case request.Kind != "" && !request.Kind.Valid():
		return query.GrantReply{}, invalid("kind must be monthly, top_up, promotional, rollover or proration")
	case request.Priority != nil && (*request.Priority < 0 || *request.Priority > query.MaxPriority):
		return query.GrantReply{}, invalid("priority must be 0 to %d", query.MaxPriority)
	case !isLine(request.Reason, maxReason):
		return query.GrantReply{}, invalid("reason must be a line of at most %d bytes", maxReason)
	case !isLine(request.Actor.String(), maxID):
		return query.GrantReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	reply, err := a.ledger.Grant(ctx, request)
	for _, refusal := range []error{ledger.ErrMaxBalance, ledger.ErrExpired} {
		if errors.Is(err, refusal) {
			return query.GrantReply{}, invalid("%v", refusal)
		}
	}
	return reply, err
}

func (a *API) overdraft(ctx context.Context, request query.OverdraftRequest) (query.BalanceReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.BalanceReply{}, invalidCustomer()
	case request.Limit < 0 || request.Limit > ledger.MaxBalance:
		return query.BalanceReply{}, invalid("limit must be 0 to %s", ledger.MaxBalance)
	case !isLine(request.Actor.String(), maxID):
		return query.BalanceReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	return a.ledger.SetOverdraft(ctx, request)
}

func (a *API) lowBalance(ctx context.Context, request query.LowBalanceRequest) (query.BalanceReply, error) {
	switch {
	case !subject.ValidID(request.CustomerID):
		return query.BalanceReply{}, invalidCustomer()
	case request.Threshold != nil && (*request.Threshold < 0 || *request.Threshold > ledger.MaxBalance):
		return query.BalanceReply{}, invalid("threshold must be 0 to %s", ledger.MaxBalance)
	case !isLine(request.Actor.String(), maxID):
		return query.BalanceReply{}, invalid("actor must be a line of at most %d bytes", maxID)
	}
	return a.ledger.SetLowBalance(ctx, request)
}
