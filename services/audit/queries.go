package audit

import (
	"context"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/export"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/reader"
)

// answers are the questions about the log, each answered until its context ends.
func (s *Service) answers(prover *proof.Prover, rows *reader.Reader) []func(ctx context.Context) error {
	exporter := export.New(export.Deps{Pool: s.pools.reader, Prover: prover, Key: s.key, Clock: s.deps.Clock})
	return []func(ctx context.Context) error{
		answering(s.deps.Bus, query.AuditEvents, rows.Events),
		answering(s.deps.Bus, query.AuditTreeHead, prover.TreeHead),
		answering(s.deps.Bus, query.AuditInclusion, prover.Inclusion),
		answering(s.deps.Bus, query.AuditConsistency, prover.Consistency),
		answering(s.deps.Bus, query.AuditExport, exporter.Page),
	}
}

func answering[Request, Reply any](
	messages *bus.Bus, name string, answer func(ctx context.Context, request Request) (Reply, error),
) func(ctx context.Context) error {
	return func(ctx context.Context) error { return bus.Answer(ctx, messages, query.ServiceAudit, name, answer) }
}
