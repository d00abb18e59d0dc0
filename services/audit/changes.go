package audit

import (
	"context"

	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/erase"
	"github.com/galley-engine/galley/services/audit/internal/webhook"
)

// changes are what customers change beside the log, each until its context ends: what is erased, and where tree heads are delivered.
func (s *Service) changes() []func(ctx context.Context) error {
	events := outbox.New(s.pools.writer, s.deps.Bus.JS, query.ServiceAudit, s.deps.Logger)
	hooks := webhook.NewStore(s.pools.webhook, s.key, events, s.deps.Clock)
	return []func(ctx context.Context) error{
		events.Run,
		webhook.NewDeliverer(s.pools.writer, s.key, s.network, s.deps.Clock, s.deps.Logger).Run,
		answering(s.deps.Bus, query.AuditErase, erase.New(s.pools.eraser, events, s.deps.Clock).Erase),
		answering(s.deps.Bus, query.AuditWebhookSet, hooks.Set),
		answering(s.deps.Bus, query.AuditWebhookShow, hooks.Show),
		answering(s.deps.Bus, query.AuditWebhookDelete, hooks.Delete),
	}
}
