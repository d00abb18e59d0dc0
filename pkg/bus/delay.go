package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/subject"
)

// Delay has an empty message published to due at a time, by the server: nothing of this process is needed for it. It replaces an
// earlier delay on the same subject. The server counts in whole seconds: the message comes up to a second late, never early.
func (b *Bus) Delay(ctx context.Context, delay, due string, at time.Time) error {
	if whole := at.Truncate(time.Second); whole.Before(at) {
		at = whole.Add(time.Second)
	}
	_, err := b.JS.PublishMsg(ctx, nats.NewMsg(delay), jetstream.WithScheduleAt(at), jetstream.WithScheduleTarget(due))
	if err != nil {
		return fmt.Errorf("delay %s until %s: %w", due, at.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// Due publishes an empty message at once where Delay would later.
func (b *Bus) Due(ctx context.Context, due string) error {
	if _, err := b.JS.PublishMsg(ctx, nats.NewMsg(due)); err != nil {
		return fmt.Errorf("publish %s: %w", due, err)
	}
	return nil
}

// Undelay removes the delay, if there is one. The message may have been published already.
func (b *Bus) Undelay(ctx context.Context, delay string) error {
	stream, err := b.JS.Stream(ctx, subject.StreamDelays)
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(delay))
	}
	if err != nil {
		return fmt.Errorf("remove delay %s: %w", delay, err)
	}
	return nil
}
