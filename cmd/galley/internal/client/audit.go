package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
)

// AuditFilter says which rows of the audit log are wanted: those that have all that is not empty.
type AuditFilter struct {
	// Customer is whose (operator); without it, the key's own customer's or, with the operator's key, everybody's.
	Customer string
	// Nobody is for rows that belong to no customer (operator).
	Nobody                                                               bool
	Execution, Action, ResourceType, Resource, ActorType, Actor, Outcome string
	// From and To are times as in RFC 3339.
	From, To string
}

func (f *AuditFilter) query() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{
		"customer_id": f.Customer, "execution_id": f.Execution, "action_type": f.Action, "resource_type": f.ResourceType,
		"resource_id": f.Resource, "actor_type": f.ActorType, "actor_id": f.Actor, "outcome": f.Outcome, "from": f.From, "to": f.To,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if f.Nobody {
		values.Set("nobody", "true")
	}
	return values
}

const (
	auditPath = api + "/audit"
	// maxAuditPages bounds what is looked through for a few rows.
	maxAuditPages = 100
)

// AuditEvents lists the newest rows of the audit log that the filter leaves, up to limit, and tells whether older ones were not looked at.
func (c *Client) AuditEvents(ctx context.Context, filter AuditFilter, limit int) (events []query.AuditEvent, more bool, err error) {
	values := filter.query()
	for range maxAuditPages {
		values.Set("limit", strconv.Itoa(limit-len(events)))
		found, err := call[page[query.AuditEvent]](ctx, c, request{method: http.MethodGet, path: auditPath + "/events", query: values})
		if err != nil {
			return nil, false, err
		}
		events = append(events, found.Items...)
		if more = found.Next != ""; !more || len(events) >= limit {
			break
		}
		values.Set("cursor", found.Next)
	}
	return events, more, nil
}

// TreeHead gets the newest signed tree head of the audit log.
func (c *Client) TreeHead(ctx context.Context) (query.AuditTreeHeadReply, error) {
	return call[query.AuditTreeHeadReply](ctx, c, request{method: http.MethodGet, path: auditPath + "/tree-head"})
}

// AuditProof gets the proof that an event is in the audit log. customer is for the operator, "" for whoever's.
func (c *Client) AuditProof(ctx context.Context, customer, event string) (audit.Inclusion, error) {
	return call[audit.Inclusion](ctx, c, request{method: http.MethodGet, path: auditPath + "/proof", query: ofCustomer(customer, "event_id", event)})
}

// AuditConsistency gets the proof that the log of an older size is the beginning of that of a newer tree head, the newest one when newer is 0.
func (c *Client) AuditConsistency(ctx context.Context, older, newer int64) (audit.Consistency, error) {
	values := url.Values{"from": {strconv.FormatInt(older, 10)}}
	if newer != 0 {
		values.Set("to", strconv.FormatInt(newer, 10))
	}
	return call[audit.Consistency](ctx, c, request{method: http.MethodGet, path: auditPath + "/consistency", query: values})
}

// AuditExport has read take an export of the audit log while it comes. customer is for the operator, "" for the whole log.
func (c *Client) AuditExport(ctx context.Context, customer string, read func(lines io.Reader) error) (err error) {
	stream, err := c.send(ctx, request{method: http.MethodGet, path: auditPath + "/export", query: ofCustomer(customer)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Body.Close()) }()
	if stream.StatusCode >= http.StatusBadRequest {
		answer, err := io.ReadAll(io.LimitReader(stream.Body, maxBody))
		return errors.Join(err, refusal(stream, answer))
	}
	if err := read(stream.Body); err != nil {
		return fmt.Errorf("read the export: %w", err)
	}
	return nil
}

// ofCustomer makes a query of names and values in turn, with the customer where one is named.
func ofCustomer(customer string, pairs ...string) url.Values {
	values := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		values.Set(pair[0], pair[1])
	}
	if customer != "" {
		values.Set("customer_id", customer)
	}
	return values
}
