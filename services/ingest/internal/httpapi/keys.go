package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

const keysPath = prefix + "/customers/{customer_id}/keys"

func (a *API) registerKeys(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "list-keys", Method: http.MethodGet, Path: keysPath, Tags: []string{"customers"},
		Summary: "List the API keys of a customer (operator)", Description: "Those that were revoked, too. What a key is, is nowhere to be had.",
	}, nil, a.listKeys)
	register(a, routes, huma.Operation{
		OperationID: "revoke-key", Method: http.MethodDelete, Path: keysPath + "/{key_id}", Tags: []string{"customers"},
		Summary: "Revoke an API key (operator)", DefaultStatus: http.StatusNoContent,
		Description: "For good, and within seconds. A key that was revoked before stays as it is.",
	}, nil, a.revokeKey)
}

type listKeysInput struct {
	CustomerID id `path:"customer_id"`
	Paging
}

func (a *API) listKeys(ctx context.Context, caller *caller, input *listKeysInput) (*listOutput[catalogue.Key], error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	after, err := cursor[string](&input.Paging)
	if err != nil {
		return nil, err
	}
	var from string
	if after != nil {
		from = *after
	}
	found, more, err := a.catalogue.Keys(ctx, string(input.CustomerID), from, input.Limit)
	if err != nil {
		return nil, err
	}
	var next *string
	if more {
		next = &found[len(found)-1].KeyID
	}
	return page(found, next)
}

type revokeKeyInput struct {
	CustomerID id `path:"customer_id"`
	KeyID      id `path:"key_id"`
}

func (a *API) revokeKey(ctx context.Context, caller *caller, input *revokeKeyInput) (*struct{}, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	return nil, a.catalogue.RevokeKey(ctx, string(input.CustomerID), string(input.KeyID), requestOf(ctx).author())
}
