package accept

import "context"

// Check tells whether a command would be accepted now: the refusals are those of Execute.
func (a *Acceptor) Check(ctx context.Context, command Command) error {
	if _, err := a.prepare(ctx, &command); err != nil {
		return known(err)
	}
	return nil
}
