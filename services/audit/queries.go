package audit

import (
	"context"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/export"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/writer"
)

// answers are the questions about the log, each answered until its context ends.
func (s *Service) answers(signer *writer.Signer) []func(ctx context.Context) error {
	prover := proof.New(proof.Deps{
		Pool: s.pools.reader, Key: s.key, Fault: signer.Fault, Clock: s.deps.Clock, Log: s.deps.Logger,
	})
	exporter := export.New(export.Deps{Pool: s.pools.reader, Prover: prover, Key: s.key, Clock: s.deps.Clock})
	return []func(ctx context.Context) error{
		answering(s.deps.Bus, query.AuditEvents, reader.New(s.pools.reader).Events),
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
