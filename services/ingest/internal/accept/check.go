package accept

import (
	"context"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// Check tells whether a command would be accepted now: the refusals are those of Execute.
func (a *Acceptor) Check(ctx context.Context, command Command) error {
	_, err := a.Quote(ctx, command)
	return err
}

// Quote gives what a command would run if it were accepted now: its recipe says what that may cost. Refusals are as those of Check.
func (a *Acceptor) Quote(ctx context.Context, command Command) (*catalogue.Pinned, error) {
	ready, err := a.prepare(ctx, &command)
	if err != nil {
		return nil, known(err)
	}
	return ready.pinned, nil
}
