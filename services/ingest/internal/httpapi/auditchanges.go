package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
)

func (a *API) registerAuditChanges(routes huma.API) {
	tags := []string{"audit"}
	register(a, routes, huma.Operation{
		OperationID: "erase-audit-payloads", Method: http.MethodPost, Path: auditPath + "/erasures", Tags: tags,
		Summary: "Erase what audit events say, for good", DefaultStatus: http.StatusOK,
		Description: "Deletes the changes and the salt of the customer's events that are named: by their ids, or all of a resource, or all of an " +
			"actor. The leaves stay, with their ids, so every proof stays valid; nobody can tell any more what their digests are of. " +
			"It can be repeated, and must be when it was interrupted. It is recorded as `audit.erased`.",
	}, documented[ErasureRequest](routes, "application/json"), a.erase)
	register(a, routes, huma.Operation{
		OperationID: "set-audit-webhook", Method: http.MethodPut, Path: auditPath + "/webhook", Tags: tags,
		Summary: "Have tree heads of the audit log delivered", DefaultStatus: http.StatusOK,
		Description: "The newest head is posted to the URL whenever the log has grown, at most once in an interval, signed as Standard Webhooks " +
			"says. The answer holds the secret when there was none before, or a new one was asked for; nothing shows it again.",
	}, documented[WebhookRequest](routes, "application/json"), a.setAuditWebhook)
	register(a, routes, huma.Operation{
		OperationID: "get-audit-webhook", Method: http.MethodGet, Path: auditPath + "/webhook", Tags: tags,
		Summary: "Get where tree heads are delivered, and how that went",
	}, nil, a.getAuditWebhook)
	register(a, routes, huma.Operation{
		OperationID: "delete-audit-webhook", Method: http.MethodDelete, Path: auditPath + "/webhook", Tags: tags,
		Summary: "Have no more tree heads delivered", DefaultStatus: http.StatusNoContent,
	}, nil, a.deleteAuditWebhook)
}

// ErasureRequest documents the body.
type ErasureRequest struct {
	EventIDs     []string `json:"event_ids,omitempty" maxItems:"200" doc:"Or else:"`
	ResourceType string   `json:"resource_type,omitempty" maxLength:"256" example:"lead"`
	ResourceID   string   `json:"resource_id,omitempty" maxLength:"256" doc:"Or else:" example:"lead-42"`
	ActorID      string   `json:"actor_id,omitempty" maxLength:"256"`
}

// Erasure says what was erased.
type Erasure struct {
	Erased int64 `json:"erased" doc:"How many events had something to erase"`
}

type eraseInput struct {
	Scope
	JSONBody
}

type eraseOutput struct{ Body Erasure }

// erase asks for one batch after the other. When it breaks off, what is erased is erased, and recorded.
func (a *API) erase(ctx context.Context, caller *caller, input *eraseInput) (*eraseOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	asked := query.AuditErasureRequest{CustomerID: customer, Actor: caller.actor()}
	err = input.decode(field{name: "event_ids", into: &asked.EventIDs, must: "a list of strings"},
		text("resource_type", &asked.ResourceType), text("resource_id", &asked.ResourceID), text("actor_id", &asked.ActorID))
	if err != nil {
		return nil, err
	}
	out := new(eraseOutput)
	for {
		reply, err := bus.Ask[query.AuditErasureReply](ctx, a.bus, query.ServiceAudit, query.AuditErase, asked)
		if err != nil {
			return nil, err
		}
		out.Body.Erased += reply.Erased
		if asked.After = reply.Next; asked.After == 0 {
			return out, nil
		}
	}
}

// WebhookRequest documents the body.
type WebhookRequest struct {
	URL             string `json:"url" maxLength:"2048" example:"https://example.com/galley-heads"`
	IntervalSeconds int64  `json:"interval_seconds,omitempty" minimum:"60" maximum:"2592000" default:"3600"`
	NewSecret       bool   `json:"new_secret,omitempty" doc:"Make a new secret in place of the one there is"`
}

// WebhookSet is the webhook with its secret, if that is new.
type WebhookSet struct {
	query.AuditWebhook

	Secret string `json:"secret,omitempty" doc:"What the messages are signed with; shown once"`
}

type setAuditWebhookInput struct {
	Scope
	JSONBody
}

type setAuditWebhookOutput struct{ Body WebhookSet }

func (a *API) setAuditWebhook(ctx context.Context, caller *caller, input *setAuditWebhookInput) (*setAuditWebhookOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	asked := query.AuditWebhookSetRequest{CustomerID: customer, Actor: caller.actor()}
	err = input.decode(identifier("url", &asked.URL),
		field{name: "interval_seconds", into: &asked.IntervalSeconds, must: "a whole number"},
		field{name: "new_secret", into: &asked.NewSecret, must: "true or false"})
	if err != nil {
		return nil, withoutBody(err)
	}
	reply, err := bus.Ask[query.AuditWebhookSetReply](ctx, a.bus, query.ServiceAudit, query.AuditWebhookSet, asked)
	if err != nil {
		return nil, err
	}
	return &setAuditWebhookOutput{Body: WebhookSet{AuditWebhook: reply.Webhook, Secret: reply.Secret}}, nil
}

type auditWebhookOutput struct{ Body query.AuditWebhook }

func (a *API) getAuditWebhook(ctx context.Context, caller *caller, input *Scope) (*auditWebhookOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	reply, err := bus.Ask[query.AuditWebhook](ctx, a.bus, query.ServiceAudit, query.AuditWebhookShow, query.AuditWebhookRequest{CustomerID: customer})
	if err != nil {
		return nil, err
	}
	return &auditWebhookOutput{Body: reply}, nil
}

func (a *API) deleteAuditWebhook(ctx context.Context, caller *caller, input *Scope) (*struct{}, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	_, err = bus.Ask[query.AuditWebhook](ctx, a.bus, query.ServiceAudit, query.AuditWebhookDelete, query.AuditWebhookDeleteRequest{
		CustomerID: customer, Actor: caller.actor(),
	})
	return nil, err
}
