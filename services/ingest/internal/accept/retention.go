package accept

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/subject"
)

// lookAgain is how long an answer about the stream holds.
const lookAgain = 30 * time.Second

// retention knows whether the journal still holds every event that it ever got. Age alone drops events (the stream denies deletion),
// so the answer holds while the oldest event is younger than the age limit by more than the time between two looks.
type retention struct {
	js    jetstream.JetStream
	clock clock.Clock

	mu     sync.Mutex
	looked time.Time
	answer bool
}

func (r *retention) whole(ctx context.Context) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if now.Sub(r.looked) < lookAgain && !now.Before(r.looked) {
		return r.answer, nil
	}
	stream, err := r.js.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return false, fmt.Errorf("look up the journal: %w", err)
	}
	info := stream.CachedInfo()
	untouched := info.State.FirstSeq <= 1
	young := info.State.Msgs == 0 || now.Sub(info.State.FirstTime) < info.Config.MaxAge-2*lookAgain
	r.looked, r.answer = now, untouched && young
	return r.answer, nil
}
