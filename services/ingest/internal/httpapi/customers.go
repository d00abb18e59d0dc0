package httpapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func (a *API) registerCustomers(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "create-customer", Method: http.MethodPost, Path: prefix + "/customers", Tags: []string{"customers"},
		Summary: "Create a customer (operator)", DefaultStatus: http.StatusCreated,
		Description: "The answer holds the customer's first API key, which is never shown again.",
	}, documented[CustomerRequest](routes, "application/json"), a.createCustomer)
	register(a, routes, huma.Operation{
		OperationID: "create-key", Method: http.MethodPost, Path: prefix + "/customers/{customer_id}/keys", Tags: []string{"customers"},
		Summary: "Create a further API key (operator)", DefaultStatus: http.StatusCreated,
	}, documented[KeyRequest](routes, "application/json"), a.createKey)
	register(a, routes, huma.Operation{
		OperationID: "set-vars", Method: http.MethodPut, Path: prefix + "/customers/{customer_id}/vars", Tags: []string{"customers"},
		Summary: "Replace the settings that recipes read as vars.<name> (operator)",
	}, documented[map[string]any](routes, "application/json"), a.setVars)
}

// CustomerRequest documents the body.
type CustomerRequest struct {
	CustomerID id             `json:"customer_id"`
	Name       string         `json:"name" maxLength:"200"`
	Vars       map[string]any `json:"vars,omitempty" doc:"Settings that recipes read as vars.<name>"`
}

// NewCustomer is a customer with its first API key.
type NewCustomer struct {
	catalogue.Customer
	KeyID string `json:"key_id"`
	Key   string `json:"api_key" doc:"Shown here and never again"`
}

type newCustomerOutput struct{ Body NewCustomer }

func (a *API) createCustomer(ctx context.Context, caller *caller, input *JSONBody) (*newCustomerOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	var wanted catalogue.Customer
	name := text("name", &wanted.Name)
	name.required = true
	err := input.decode(identifier("customer_id", &wanted.CustomerID), name, field{name: "vars", into: &wanted.Vars})
	if err != nil {
		return nil, err
	}
	made, key, err := a.catalogue.CreateCustomer(ctx, wanted, requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	return &newCustomerOutput{Body: NewCustomer{Customer: made, KeyID: key.KeyID, Key: key.Secret}}, nil
}

// KeyRequest documents the body.
type KeyRequest struct {
	Name string `json:"name" maxLength:"200" doc:"What the key is for"`
}

type createKeyInput struct {
	CustomerID id `path:"customer_id"`
	JSONBody
}

type keyOutput struct{ Body catalogue.IssuedKey }

func (a *API) createKey(ctx context.Context, caller *caller, input *createKeyInput) (*keyOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	var wanted string
	name := text("name", &wanted)
	name.required = true
	if err := input.decode(name); err != nil {
		return nil, err
	}
	key, err := a.catalogue.CreateKey(ctx, string(input.CustomerID), wanted, requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	return &keyOutput{Body: key}, nil
}

type setVarsInput struct {
	CustomerID id `path:"customer_id"`
	JSONBody
}

type varsOutput struct{ Body json.RawMessage }

func (a *API) setVars(ctx context.Context, caller *caller, input *setVarsInput) (*varsOutput, error) {
	if err := caller.requireOperator(); err != nil {
		return nil, err
	}
	if err := input.checkType("application/json"); err != nil {
		return nil, err
	}
	var vars map[string]json.RawMessage
	if err := unmarshal(input.RawBody, &vars); err != nil {
		return nil, err
	}
	if err := a.catalogue.SetVars(ctx, string(input.CustomerID), input.RawBody, requestOf(ctx).author()); err != nil {
		return nil, err
	}
	return &varsOutput{Body: input.RawBody}, nil
}
