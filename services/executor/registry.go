package executor

import (
	"maps"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/actionhttp"
	"github.com/galley-engine/galley/services/executor/internal/component/actionsql"
	"github.com/galley-engine/galley/services/executor/internal/component/aichat"
	"github.com/galley-engine/galley/services/executor/internal/component/auditnote"
	"github.com/galley-engine/galley/services/executor/internal/component/email"
	"github.com/galley-engine/galley/services/executor/internal/component/sms"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
	"github.com/galley-engine/galley/services/executor/internal/component/store"
	"github.com/galley-engine/galley/services/executor/internal/component/subscription"
	"github.com/galley-engine/galley/services/executor/internal/component/webhook"
	"github.com/galley-engine/galley/services/executor/internal/component/workercall"
)

// components are those of every kind that does not wait, and what has to be closed after their last use.
type components struct {
	component.Registry
	network *outbound.Network
	workers *workercall.Component
}

func newComponents(config Config, deps process.Deps) (*components, error) {
	network, err := outbound.New(config.AllowedHosts, deps.Clock)
	if err != nil {
		return nil, err
	}
	files := file.NewStore(deps.Bus.JS)
	mail, err := email.New(config.mail(), network, files, deps.Clock)
	if err != nil {
		return nil, err
	}
	texts, err := sms.New(config.twilio(), network)
	if err != nil {
		return nil, err
	}
	// What is told of a step under way may get lost: nobody waits for it.
	publish := func(subject string, data []byte) { _ = deps.Bus.Conn.Publish(subject, data) }
	workers := workercall.New(deps.Bus.Conn, workercall.DefaultPatience(), deps.Clock)
	all := component.Registry{
		recipe.KindChat:          aichat.New(config.ai(), network, publish, deps.Clock),
		recipe.KindHTTP:          actionhttp.New(network, files),
		"action.sql":             actionsql.New(network),
		auditnote.Kind:           auditnote.New(deps.Bus, deps.Clock),
		"correspondence.email":   mail,
		"correspondence.sms":     texts,
		"correspondence.webhook": webhook.New(network, deps.Clock),
		recipe.KindWorker:        workers,
	}
	for _, family := range []component.Registry{state.Components(), store.New(deps.Bus).Components(), subscription.Components(deps.Bus)} {
		maps.Copy(all, family)
	}
	return &components{Registry: all, network: network, workers: workers}, nil
}

func (c *components) close() error {
	c.network.Close()
	return c.workers.Close()
}
