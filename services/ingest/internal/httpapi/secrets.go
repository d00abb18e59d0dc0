package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/secret"
)

func (a *API) registerSecrets(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "set-secret", Method: http.MethodPut, Path: prefix + "/secrets/{name}", Tags: []string{"secrets"},
		Summary: "Set a secret", DefaultStatus: http.StatusNoContent,
		Description: "Recipes read it as secrets.<name>, within seconds. Nothing ever shows its value again.",
	}, documented[SecretRequest](routes, "application/json"), a.setSecret)
	register(a, routes, huma.Operation{
		OperationID: "list-secrets", Method: http.MethodGet, Path: prefix + "/secrets", Tags: []string{"secrets"},
		Summary: "List the names of the secrets",
	}, nil, a.listSecrets)
	register(a, routes, huma.Operation{
		OperationID: "delete-secret", Method: http.MethodDelete, Path: prefix + "/secrets/{name}", Tags: []string{"secrets"},
		Summary: "Delete a secret", DefaultStatus: http.StatusNoContent,
	}, nil, a.deleteSecret)
}

// secretName is the name of a secret in a path.
type secretName string

// Schema implements huma.SchemaProvider.
func (secretName) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Pattern: "^[A-Za-z][A-Za-z0-9_]{0,63}$",
		PatternDescription: "a name: a letter, then up to 63 letters, digits and _",
	}
}

// SecretRequest documents the body.
type SecretRequest struct {
	Value string `json:"value" minLength:"1" doc:"At most 16 KiB of UTF-8"`
}

type setSecretInput struct {
	Name secretName `path:"name"`
	Scope
	JSONBody
}

func (a *API) setSecret(ctx context.Context, caller *caller, input *setSecretInput) (*struct{}, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	var sent string
	value := text("value", &sent)
	value.required = true
	if err := input.decode(value); err != nil {
		return nil, withoutBody(err)
	}
	return nil, a.catalogue.SetSecret(ctx, customer, string(input.Name), sent, requestOf(ctx).author())
}

// withoutBody keeps even single characters of a body that is not JSON out of the refusal: they may be the secret's.
func withoutBody(err error) error {
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusBadRequest {
		return malformed("the body is not valid JSON in UTF-8")
	}
	return err
}

type deleteSecretInput struct {
	Name secretName `path:"name"`
	Scope
}

func (a *API) deleteSecret(ctx context.Context, caller *caller, input *deleteSecretInput) (*struct{}, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	return nil, a.catalogue.DeleteSecret(ctx, customer, string(input.Name), requestOf(ctx).author())
}

// Secret is what can be known of a secret from outside.
type Secret secret.Info

// secretList is not paged: a customer has few.
type secretList struct {
	Items []Secret `json:"items"`
}

type secretListOutput struct{ Body secretList }

func (a *API) listSecrets(ctx context.Context, caller *caller, input *Scope) (*secretListOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	found, err := a.catalogue.Secrets(ctx, customer)
	if err != nil {
		return nil, err
	}
	out := &secretListOutput{Body: secretList{Items: make([]Secret, len(found))}}
	for i, info := range found {
		out.Body.Items[i] = Secret(info)
	}
	return out, nil
}
