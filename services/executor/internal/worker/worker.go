// Package worker connects the engine to NATS: it takes funded executions, keeps them alive with heartbeats while they run, takes
// over those whose worker is gone, and hands them on when it stops.
package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/engine"
	"github.com/galley-engine/galley/services/executor/internal/slot"
)

const (
	// Durable is the name of the consumer that all executors share.
	Durable = "executor"
	// DurableWake is the name of the consumer of wake-up calls that all executors share.
	DurableWake = "executor-wake"

	// heldPerSlot is how many executions may be delivered and unsettled, over all processes, for each that one process runs at
	// a time. A process takes what it is given, so that nothing grows old unseen in a buffer; it is also the number of processes
	// that can be busy at the same time.
	heldPerSlot = 16
	// beatsPerAckWait leaves room for two heartbeats that fail.
	beatsPerAckWait = 3

	// maxPanics is how many deliveries an execution gets whose worker panics.
	maxPanics = 5

	drainTime  = 10 * time.Second
	flushTime  = 2 * time.Second
	laterDelay = time.Second
)

// Settings of a worker.
type Settings struct {
	// Concurrency is the number of executions that run at the same time.
	Concurrency int
	// AckWait is after how long NATS gives an execution to another worker when this one does not say that it lives.
	AckWait time.Duration
}

// Worker runs executions.
type Worker struct {
	settings  Settings
	bus       *bus.Bus
	processor *processor
	held      *holdings
	queue     chan *holding
	drainTime time.Duration
	occupancy *occupancy
	log       zerolog.Logger
}

// New makes a worker.
func New(settings Settings, b *bus.Bus, recipes Recipes, runner *engine.Engine, now clock.Clock, log zerolog.Logger) *Worker {
	executions := journal.New(b.Conn, b.JS)
	return &Worker{
		settings: settings, bus: b, log: log, drainTime: drainTime, occupancy: newOccupancy(settings.Concurrency),
		processor: &processor{
			journal: executions, delays: b, recipes: recipes, slots: slot.New(b, executions, now, log), live: newLive(executions, log),
			engine: runner, clock: now, log: log,
		},
		held:  newHoldings(now, settings.AckWait),
		queue: make(chan *holding, 2*settings.Concurrency*heldPerSlot), // room for both consumers
	}
}

// Run works until ctx ends. Then it takes nothing more, lets what runs go on for ten seconds, and hands over the rest.
func (w *Worker) Run(ctx context.Context) error {
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	w.held.begin()
	var runners, heart sync.WaitGroup
	for range w.settings.Concurrency {
		runners.Go(func() {
			for held := range w.queue {
				w.occupancy.running.Add(1)
				w.turn(ctx, work, held)
				w.occupancy.running.Add(-1)
			}
		})
	}
	stopped := make(chan struct{})
	heart.Go(func() { w.beat(stopped) })

	notices, err := w.bus.Conn.Subscribe(subject.AllNotices, func(message *nats.Msg) { w.processor.live.notice(work, message) })
	if err != nil {
		return fmt.Errorf("subscribe to notices: %w", err)
	}
	limits, err := w.bus.Conn.QueueSubscribe(subject.AllLimited, query.ServiceExecutor, func(message *nats.Msg) {
		if customer, err := subject.ParseLimited(message.Subject); err == nil {
			w.processor.slots.Refresh(customer)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to changes of limits: %w", err)
	}
	err = lifecycle.Run(ctx,
		func(ctx context.Context) error {
			return w.bus.Consume(ctx, bus.Consumer{
				Stream: subject.StreamExecutions, Durable: Durable, Filters: []string{subject.ExecutionMilestone(string(event.Funded))},
				AckWait: w.settings.AckWait, MaxAckPending: w.settings.Concurrency * heldPerSlot, Batch: w.settings.Concurrency,
			}, w.take)
		},
		func(ctx context.Context) error {
			return w.bus.Consume(ctx, bus.Consumer{
				Stream: subject.StreamDelays, Durable: DurableWake, Filters: []string{subject.AllDueExecutions},
				AckWait: w.settings.AckWait, MaxAckPending: w.settings.Concurrency * heldPerSlot, Batch: w.settings.Concurrency,
			}, w.takeCalls)
		},
	)
	_ = errors.Join(notices.Unsubscribe(), limits.Unsubscribe())

	close(w.queue)
	timer := time.AfterFunc(w.drainTime, abandon)
	runners.Wait()
	timer.Stop()
	close(stopped)
	heart.Wait()
	_ = w.bus.Conn.FlushTimeout(flushTime) // what is not acknowledged will be delivered again
	return err
}

// take never blocks: see holdings.
func (w *Worker) take(ctx context.Context, messages []jetstream.Msg) {
	for _, message := range messages {
		record, deliveries, err := journal.Decode(message)
		if err != nil {
			w.bus.DeadLetter(ctx, message, err)
			continue
		}
		w.enqueue(given{execution: record.Execution, record: record, deliveries: deliveries}, message)
	}
}

func (w *Worker) takeCalls(ctx context.Context, messages []jetstream.Msg) {
	for _, message := range messages {
		execution, err := subject.ParseDue(message.Subject())
		meta, missing := message.Metadata()
		if err = errors.Join(err, missing); err != nil {
			w.bus.DeadLetter(ctx, message, err)
			continue
		}
		//nolint:gosec // a delivery count never comes near 2^63
		w.enqueue(given{execution: execution, call: meta.Sequence.Stream, deliveries: int(meta.NumDelivered)}, message)
	}
}

func (w *Worker) enqueue(g given, message jetstream.Msg) {
	held := w.held.take(g, message)
	if held == nil {
		return
	}
	select {
	case w.queue <- held:
	default:
		w.held.drop(held)
		w.report(message.NakWithDelay(laterDelay), held)
	}
}

// turn runs an execution, or gives it back when the worker has been told to stop meanwhile.
func (w *Worker) turn(ctx, work context.Context, held *holding) {
	if w.held.check(held) != nil {
		w.held.drop(held)
		return
	}
	outcome, reason := handOver, context.Cause(ctx)
	if ctx.Err() == nil {
		outcome, reason = w.process(work, held)
	}
	if lost := w.held.check(held); lost != nil && (outcome == handOver || outcome == later) {
		outcome, reason = leave, lost // to give back what somebody else has would only bring in a third
	}
	w.settle(work, held, outcome, reason)
}

func (w *Worker) settle(ctx context.Context, held *holding, outcome verdict, reason error) {
	message := w.held.drop(held)
	if outcome != done {
		w.log.Info().Str("execution", held.execution.ID).Int("deliveries", held.deliveries).AnErr("reason", reason).
			Str("verdict", string(outcome)).Msg("execution not finished by this worker")
	}
	switch outcome {
	case done:
		w.report(message.Ack(), held)
	case handOver:
		w.report(message.Nak(), held)
	case later:
		w.report(message.NakWithDelay(laterDelay), held)
	case leave:
	case dead:
		w.bus.DeadLetter(ctx, message, reason)
	}
}

// process guards the other executions against a defect that shows in one: it is left, and tried again a few times.
func (w *Worker) process(ctx context.Context, held *holding) (outcome verdict, reason error) {
	defer func() {
		if cause := recover(); cause != nil {
			w.log.Error().Str("execution", held.execution.ID).Any("panic", cause).Bytes("stack", debug.Stack()).Msg("execution panicked")
			outcome, reason = leave, fmt.Errorf("panic: %v", cause)
			if held.deliveries >= maxPanics {
				outcome = dead
			}
		}
	}()
	return w.processor.process(ctx, held.given, func() error { return w.held.check(held) })
}

func (w *Worker) beat(stopped <-chan struct{}) {
	interval := w.settings.AckWait / beatsPerAckWait
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-ticker.C:
			w.held.beat(w.bus.Conn.IsConnected, func() error { return w.bus.Conn.FlushTimeout(interval) })
		}
	}
}

// report logs a lost acknowledgement. It does no harm: the message is delivered again.
func (w *Worker) report(err error, held *holding) {
	if err != nil {
		w.log.Warn().Err(err).Str("execution", held.execution.ID).Msg("delivery not settled, it will be made again")
	}
}
