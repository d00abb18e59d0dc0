package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

const (
	// lines is what an export is.
	lines = "application/x-ndjson"

	// stallTimeout is how long a caller may take for a page of an export.
	stallTimeout = 30 * time.Second
	// exportAttempts is how often a page is asked for: an export that takes minutes outlives a restart of the service audit.
	exportAttempts = 8
)

type exportAuditInput struct{ Scope }

func (a *API) exportAudit(ctx context.Context, caller *caller, input *exportAuditInput) (*huma.StreamResponse, error) {
	customer, err := auditScope(caller, &input.Scope)
	if err != nil {
		return nil, err
	}
	end, err := a.transfers.begin(customer)
	if err != nil {
		return nil, err
	}
	e := &exporting{api: a, customer: customer}
	first, err := e.begin(ctx)
	if err != nil {
		end()
		return nil, err
	}
	end = sync.OnceFunc(end)
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetStatus(http.StatusOK)
		c.SetHeader(fiber.HeaderContentType, lines)
		c.SetHeader(fiber.HeaderContentDisposition, attachment("audit-"+e.name()+"-"+strconv.FormatInt(first.Size, 10)+".jsonl"))
		// The deadline for a page holds for the connection, which ends with the export.
		humafiber.UnwrapV2(c).Context().SetConnectionClose()
		stream := func(out io.Writer) {
			defer end()
			if err := e.send(ctx, first, out); err != nil {
				a.log.Info().Err(err).Str("customer", customer).Msg("export of the audit log broke off")
				// A body that ends in good order would look whole.
				e.deadline(out, -time.Second)
			}
		}
		if later, ok := c.(interface{ StreamBody(write func(io.Writer)) }); ok {
			later.StreamBody(stream)
			return
		}
		stream(c.BodyWriter())
	}}, nil
}

// exporting is an export on its way. It holds no more than a page.
type exporting struct {
	api      *API
	customer string
}

func (e *exporting) name() string {
	if e.customer == audit.Everyone {
		return "log"
	}
	return e.customer
}

// begin gets the first page, and records the export before anything of it is given out.
func (e *exporting) begin(ctx context.Context) (query.AuditExportReply, error) {
	first, err := e.ask(ctx, nil)
	if err != nil {
		return first, err
	}
	owner := e.customer
	if owner == audit.Everyone {
		owner = ""
	}
	err = e.api.activities.Record(ctx, activity.Entry{
		Customer: owner, Action: event.ActionAuditExported, ResourceID: e.customer, Author: requestOf(ctx).author(),
		After: map[string]any{"size": first.Size, "root": first.Root},
	})
	if err != nil {
		return first, unavailable("the export cannot be recorded at the moment", err)
	}
	return first, nil
}

func (e *exporting) ask(ctx context.Context, from *query.AuditExportPlace) (query.AuditExportReply, error) {
	return bus.Ask[query.AuditExportReply](ctx, e.api.bus, query.ServiceAudit, query.AuditExport, query.AuditExportRequest{
		CustomerID: e.customer, From: from,
	})
}

// send writes the pages until there are no more, the caller has gone, or ctx ends.
func (e *exporting) send(ctx context.Context, page query.AuditExportReply, out io.Writer) error {
	for {
		if err := e.write(out, &page); err != nil {
			return fmt.Errorf("write a page: %w", err)
		}
		if page.Next == nil {
			return nil
		}
		var err error
		if page, err = e.patiently(ctx, page.Next); err != nil {
			return fmt.Errorf("get a page: %w", err)
		}
	}
}

// patiently asks for a page again while it is worth it.
func (e *exporting) patiently(ctx context.Context, from *query.AuditExportPlace) (page query.AuditExportReply, err error) {
	var backoff lifecycle.Backoff
	for range exportAttempts {
		page, err = e.ask(ctx, from)
		if err == nil || !describe(err).Retryable || !backoff.Wait(ctx) {
			return page, err
		}
	}
	return page, err
}

func (e *exporting) write(out io.Writer, page *query.AuditExportReply) error {
	e.deadline(out, stallTimeout)
	for _, line := range page.Lines {
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	if flusher, ok := out.(http.Flusher); ok {
		flusher.Flush() // what it fails with, the next write does, too
	}
	return nil
}

// deadline is after how long a write to the caller fails.
func (e *exporting) deadline(out io.Writer, after time.Duration) {
	if conn, ok := out.(interface{ SetWriteDeadline(at time.Time) error }); ok {
		_ = conn.SetWriteDeadline(e.api.clock().Add(after))
	}
}
