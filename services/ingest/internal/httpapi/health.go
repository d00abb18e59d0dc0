package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/schemas/query"
)

// readyTimeout bounds the question to another service.
const readyTimeout = time.Second

// Health says that the process lives.
type Health struct {
	Status string `json:"status" enum:"ok"`
}

type healthOutput struct{ Body Health }

type readyOutput struct {
	Status int
	Body   query.Readiness
}

// registerHealth comes before guard: these need no key.
func (a *API) registerHealth(routes huma.API) {
	open := []map[string][]string{{}}
	for _, at := range []string{prefix, ""} {
		register(a, routes, huma.Operation{
			OperationID: "health", Method: http.MethodGet, Path: at + "/health", Tags: []string{"health"}, Security: open,
			Summary: "Whether the process lives", Hidden: at == "",
		}, nil, func(context.Context, *caller, *struct{}) (*healthOutput, error) {
			return &healthOutput{Body: Health{Status: "ok"}}, nil
		})
		register(a, routes, huma.Operation{
			OperationID: "ready", Method: http.MethodGet, Path: at + "/ready", Tags: []string{"health"}, Security: open,
			Summary: "Whether everything is there that executions need; 503 when it is not", Hidden: at == "",
			Responses: response(http.StatusServiceUnavailable, "Something is missing", documented[query.Readiness](routes, "application/json")),
		}, nil, a.ready)
	}
}

func (a *API) ready(ctx context.Context, _ *caller, _ *struct{}) (*readyOutput, error) {
	checks := slices.Clone(a.checks)
	for _, service := range []string{query.ServiceBilling, query.ServiceExecutor, query.ServiceAudit} {
		checks = append(checks, health.Check{Name: service, Probe: func(ctx context.Context) error { return a.askReady(ctx, service) }})
	}
	readiness := health.Ready(ctx, checks)
	out := &readyOutput{Status: http.StatusOK, Body: readiness}
	if !readiness.Ready {
		out.Status = http.StatusServiceUnavailable
	}
	return out, nil
}

// askReady names what a service lacks, without the reasons: those hold addresses, and nobody needs a key to read this.
func (a *API) askReady(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	readiness, err := bus.Ask[query.Readiness](ctx, a.bus, service, query.Ready, struct{}{})
	if err != nil {
		return health.Pending("does not answer")
	}
	if readiness.Ready {
		return nil
	}
	var lacking []string
	for _, name := range slices.Sorted(maps.Keys(readiness.Checks)) {
		if readiness.Checks[name] != "ok" {
			lacking = append(lacking, name)
		}
	}
	return health.Pending("waits for " + strings.Join(lacking, ", "))
}
