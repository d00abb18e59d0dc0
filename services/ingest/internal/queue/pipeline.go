package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
)

// consumers reads how much stands in the pipeline from what NATS counts for the consumers of billing and executor.
type consumers struct{ js jetstream.JetStream }

// Depth implements Pipeline. A service that has never run yet has nothing before it.
func (c consumers) Depth(ctx context.Context) (Depth, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var depth Depth
	for _, name := range []string{query.ServiceBilling + "-accepted", query.ServiceExecutor} {
		consumer, err := c.js.Consumer(ctx, subject.StreamExecutions, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue
		}
		if err != nil {
			return Depth{}, fmt.Errorf("look at consumer %s: %w", name, err)
		}
		info := consumer.CachedInfo()
		depth.Under += int(info.NumPending) + info.NumAckPending //nolint:gosec // a stream never holds 2^63 messages
		if name == query.ServiceExecutor {
			depth.Undelivered = int(info.NumPending) //nolint:gosec // as above
			depth.Through = info.Delivered.Consumer - min(info.Delivered.Consumer, uint64(max(0, info.NumAckPending)))
		}
	}
	return depth, nil
}
