package verify

import (
	"context"
	"sync"
)

// ahead is how many parts, beside those being worked on, wait for their turn. It bounds the memory.
const ahead = 2

// ordered has parts produced in one goroutine, worked on in several, and consumed by the caller's in the order of their production.
func ordered[T any](ctx context.Context, workers int, produce func(ctx context.Context, emit func(T) error) error, work func(T),
	consume func(T),
) error {
	type part struct {
		value T
		done  chan struct{}
	}
	queue, todo := make(chan part, workers+ahead), make(chan part, workers+ahead)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for p := range todo {
				work(p.value)
				close(p.done)
			}
		})
	}
	var failure error
	running.Go(func() {
		defer close(queue)
		defer close(todo)
		failure = produce(ctx, func(value T) error {
			p := part{value: value, done: make(chan struct{})}
			select {
			case queue <- p:
				todo <- p // there is room: it holds as much as queue does, and is emptied no later
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for p := range queue {
		<-p.done
		consume(p.value)
	}
	running.Wait()
	return failure
}
