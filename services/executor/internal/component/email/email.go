// Package email runs correspondence.email: one e-mail, through the mail server of the operator or one that the recipe names.
//
// A customer's server is called through the guarded network. The operator's is the operator's choice, wherever it is, and customers cannot
// say who the mail through it comes from. A connection is made for each mail; it is encrypted, save where the operator asks for none or
// where a customer does and the server is in a private network.
package email

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	// maxTalk bounds a conversation with a mail server, whatever time the step has.
	maxTalk = 5 * time.Minute
	// maxLarge is how many mails with stored files are under way at the same time in this process: each may take some 40 MiB.
	maxLarge = 24
)

// Component is correspondence.email.
type Component struct {
	network *outbound.Network
	files   *file.Store
	clock   clock.Clock
	// operator is nil when there is no server of the operator.
	operator *server
	large    chan struct{}
	dialer   net.Dialer
	// roots are the certificate authorities that are trusted, nil for those of the system.
	roots *x509.CertPool
}

// New makes the component. An error says which setting is wrong.
func New(settings Settings, network *outbound.Network, files *file.Store, now clock.Clock) (*Component, error) {
	if err := settings.Validate(); err != nil {
		return nil, fmt.Errorf("settings of e-mail: %w", err)
	}
	c := &Component{network: network, files: files, clock: now, large: make(chan struct{}, maxLarge)}
	if settings.Server != "" {
		operator, err := settings.server()
		if err != nil {
			return nil, err
		}
		c.operator = operator
	}
	return c, nil
}

// Execute sends the mail.
func (c *Component) Execute(ctx context.Context, call *component.Call) (component.Result, error) {
	with, err := component.Input[input](call)
	if err != nil {
		return component.Result{}, err
	}
	through, err := c.choose(&with)
	if err != nil {
		return component.Result{}, err
	}
	draft, err := with.letter(through.from)
	if err != nil {
		return component.Result{}, err
	}
	if draft.large() {
		select {
		case c.large <- struct{}{}:
			defer func() { <-c.large }()
		case <-ctx.Done():
			return component.Result{}, outbound.Classify(ctx.Err())
		}
	}
	if err := c.attach(ctx, call, draft); err != nil {
		return component.Result{}, err
	}
	content, err := draft.write(messageID(call, draft.from.Address), c.clock())
	if err != nil {
		return component.Result{}, err
	}
	recipients := draft.recipients()
	err = c.network.Through(call.Outbound(), through.address(), func() error {
		return c.deliver(ctx, through, draft.from.Address, recipients, content)
	})
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: map[string]any{
		"message_id": "<" + messageID(call, draft.from.Address) + ">", "accepted": float64(len(recipients)),
	}}, nil
}

// choose finds the server and the sender.
func (c *Component) choose(with *input) (*server, error) {
	if with.Server != nil {
		return with.server()
	}
	switch {
	case c.operator == nil:
		return nil, component.Failure(problem.ComponentError, "the operator of galley has no mail server: give one with server and from")
	case with.From != "":
		return nil, component.Failure(problem.ComponentError, "from is for a server of your own")
	}
	return c.operator, nil
}
