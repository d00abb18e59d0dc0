package lifecycle

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 50 * time.Millisecond
	maxPause   = 5 * time.Second
)

// Backoff spaces the tries of something that should come back: 50 ms at first, doubled each time, at most 5 s, with up to a
// quarter of jitter. The zero value is ready to use.
type Backoff struct{ pause time.Duration }

// Reset starts again at the first pause.
func (b *Backoff) Reset() { b.pause = 0 }

// Wait pauses; it returns false when ctx ended first.
func (b *Backoff) Wait(ctx context.Context) bool {
	b.pause = min(max(2*b.pause, firstPause), maxPause)
	return Sleep(ctx, b.pause+rand.N(b.pause/4)) //nolint:gosec // nobody gains by guessing the jitter
}

// Sleep pauses for d; it returns false when ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Retry calls do until it succeeds or ctx ends; report is told of every failure. It returns nil or ctx's error.
func Retry(ctx context.Context, report func(error), do func(ctx context.Context) error) error {
	var backoff Backoff
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		report(err)
		if !backoff.Wait(ctx) {
			return ctx.Err()
		}
	}
}
