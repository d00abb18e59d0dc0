// Package bench measures galley from outside: executions per second over NATS, through projection and audit log, and the latency
// of callers over HTTP.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/harness"
)

// Config says what to measure.
type Config struct {
	Binaries *harness.Binaries
	// Customers share the load evenly.
	Customers int
	// WarmUp and Events are executions: once before, and in each of the Rounds.
	WarmUp, Events, Rounds int
	// Flood is how many executions one customer asks for at once while others' single ones are measured; 0 for no such measurement.
	Flood int
	// Callers lists the numbers of concurrent callers over HTTP, each measured for Duration.
	Callers  []int
	Duration time.Duration
	Progress io.Writer
}

// Result is everything that was measured.
type Result struct {
	Machine  Machine     `json:"machine"`
	Settings Settings    `json:"settings"`
	Events   []EventRun  `json:"events"`
	HTTP     []CallerRun `json:"http"`
	// Fairness is nil when it was not measured.
	Fairness *FairnessRun `json:"fairness,omitempty"`
}

// Settings are those that the figures depend on.
type Settings struct {
	Durability string `json:"durability"`
	Recipe     string `json:"recipe"`
	Customers  int    `json:"customers"`
	WarmUp     int    `json:"warm_up"`
}

// EventRun is one round over NATS.
type EventRun struct {
	Executions int     `json:"executions"`
	Seconds    float64 `json:"seconds"`
	// PerSecond counts executions that have ended, are projected and have their three audit rows.
	PerSecond float64 `json:"per_second"`
	// PublishSeconds is how long it took until the stream had all requests.
	PublishSeconds float64 `json:"publish_seconds"`
	CPU            CPU     `json:"cpu_microseconds_per_execution"`
}

const (
	agentID  = "bench"
	recipeID = "three-steps"
	// auditRows is how many audit rows an execution has.
	auditRows = 3

	maxPending = 4000
	stallWait  = 30 * time.Second
	pollPeriod = 5 * time.Millisecond
	patience   = 5 * time.Minute
)

// recipe has three steps, each durable before the next one begins.
const recipe = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: bench, id: three-steps}
spec:
  input: {type: object, required: [name], properties: {name: {type: string}, number: {type: integer}}}
  steps:
    - {id: first, uses: state.set, checkpoint: true, price: "0.01", with: {greeting: "hello ${input.name}"}}
    - {id: second, uses: state.set, checkpoint: true, price: "0.01", with: {double: "${input.number * 2}"}}
    - {id: third, uses: state.set, checkpoint: true, price: "0.01", with: {text: "${state.greeting}: ${state.double}"}}
  result: {text: "${state.text}"}
`

type bench struct {
	Config
	installation *harness.Installation
	clients      []*harness.Client
	conn         *nats.Conn
	js           jetstream.JetStream
	database     *pgx.Conn
}

// Run starts `galley up` in a process of its own and measures it.
func Run(ctx context.Context, config Config) (_ Result, err error) {
	b := &bench{Config: config}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	if err := b.open(ctx); err != nil {
		return Result{}, err
	}
	result := Result{Settings: Settings{
		Durability: "process", Recipe: "3 × state.set with checkpoint", Customers: config.Customers, WarmUp: config.WarmUp,
	}}
	if result.Machine, err = machine(ctx, b.database); err != nil {
		return result, err
	}
	if _, err := b.events(ctx, config.WarmUp); err != nil {
		return result, fmt.Errorf("warm up: %w", err)
	}
	for n := range config.Rounds {
		round, err := b.events(ctx, config.Events)
		if err != nil {
			return result, fmt.Errorf("round %d over NATS: %w", n+1, err)
		}
		b.say("NATS, round %d of %d: %.0f executions/s", n+1, config.Rounds, round.PerSecond)
		result.Events = append(result.Events, round)
	}
	if config.Flood > 0 {
		round, err := b.fairness(ctx)
		if err != nil {
			return result, fmt.Errorf("behind %d executions: %w", config.Flood, err)
		}
		b.say("Behind %d executions of another customer: %.0f executions/s", config.Flood, round.PerSecond)
		result.Fairness = &round
	}
	for _, callers := range config.Callers {
		round, err := b.callers(ctx, callers)
		if err != nil {
			return result, fmt.Errorf("%d callers: %w", callers, err)
		}
		b.say("HTTP, %d callers: %.0f executions/s, p50 %.2f ms, p99 %.2f ms", callers, round.PerSecond, round.P50, round.P99)
		result.HTTP = append(result.HTTP, round)
	}
	return result, b.verify(ctx)
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.Progress, format+"\n", args...) }

func (b *bench) open(ctx context.Context) (err error) {
	// As it is shipped: no setting but addresses and directory.
	b.installation, err = harness.Start(ctx, harness.Config{Mode: harness.Single, Binaries: b.Binaries, AckWait: 10 * time.Second})
	if err != nil {
		return err
	}
	for n := range b.Customers {
		client, err := b.installation.Customer(ctx, customer(n), 10_000_000*credit.One)
		if err != nil {
			return err
		}
		if err := errors.Join(client.Agent(ctx, agentID), client.Publish(ctx, recipe)); err != nil {
			return err
		}
		b.clients = append(b.clients, client)
	}
	if b.conn, err = b.installation.Connect(); err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.conn, jetstream.WithPublishAsyncMaxPending(maxPending)); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	b.database, err = b.installation.Database(ctx)
	return err
}

func (b *bench) close(ctx context.Context) error {
	var problems []error
	if b.database != nil {
		problems = append(problems, b.database.Close(ctx))
	}
	if b.conn != nil {
		b.conn.Close()
	}
	if b.installation != nil {
		problems = append(problems, b.installation.Close())
	}
	return errors.Join(problems...)
}

func customer(n int) string { return fmt.Sprintf("bench_%d", n) }

// events publishes n run requests and waits until every execution has ended, is projected and audited.
func (b *bench) events(ctx context.Context, n int) (EventRun, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if n == 0 {
		return EventRun{}, nil
	}
	before, err := b.audited(ctx)
	if err != nil {
		return EventRun{}, err
	}
	used, err := b.cpu()
	if err != nil {
		return EventRun{}, err
	}
	begin := time.Now()
	if err := b.publish(ctx, n, func(k int) string { return customer(k % b.Customers) }); err != nil {
		return EventRun{}, err
	}
	published := time.Since(begin)
	if err := b.await(ctx, before+int64(n*auditRows)); err != nil {
		return EventRun{}, err
	}
	took := time.Since(begin)
	after, err := b.cpu()
	if err != nil {
		return EventRun{}, err
	}
	return EventRun{
		Executions: n, Seconds: took.Seconds(), PerSecond: float64(n) / took.Seconds(), PublishSeconds: published.Seconds(),
		CPU: after.minus(used).per(n),
	}, nil
}

func (b *bench) publish(ctx context.Context, n int, by func(k int) string) error {
	futures := make([]jetstream.PubAckFuture, 0, n)
	for k := range n {
		data, err := json.Marshal(event.RunRequest{
			AgentID: agentID, RecipeID: recipeID, Input: json.RawMessage(fmt.Sprintf(`{"name":"caller %d","number":%d}`, k, k)),
		})
		if err != nil {
			return fmt.Errorf("encode run request: %w", err)
		}
		future, err := b.js.PublishAsync(subject.RunRequest(by(k)), data, jetstream.WithStallWait(stallWait))
		if err != nil {
			return fmt.Errorf("publish run request: %w", err)
		}
		futures = append(futures, future)
	}
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return fmt.Errorf("publish run request: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// audited is the number of audit rows: their sequence has no gaps, so that nothing has to be counted.
func (b *bench) audited(ctx context.Context) (rows int64, err error) {
	err = b.database.QueryRow(ctx, `SELECT coalesce(max(sequence), 0) FROM audit.events`).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("read the end of the audit log: %w", err)
	}
	return rows, nil
}

// await waits until the audit log has that many rows, and the projection has read as far as the journal goes.
func (b *bench) await(ctx context.Context, rows int64) error {
	ticker := time.NewTicker(pollPeriod)
	defer ticker.Stop()
	var last uint64
	for {
		audited, err := b.audited(ctx)
		if err != nil {
			return err
		}
		if audited >= rows {
			if last == 0 {
				if last, err = b.journalEnd(ctx); err != nil {
					return err
				}
			}
			var position int64
			if err := b.database.QueryRow(ctx, `SELECT max(sequence) FROM ingest.positions`).Scan(&position); err != nil {
				return fmt.Errorf("read the projection's position: %w", err)
			}
			if uint64(position) >= last { //nolint:gosec // positions are never negative
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d audit rows: %w", audited, rows, ctx.Err())
		case <-ticker.C:
		}
	}
}

// journalEnd is the sequence of the journal's last event. Once everything has ended that is a completed event, which the projection
// reads.
func (b *bench) journalEnd(ctx context.Context) (uint64, error) {
	stream, err := b.js.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return 0, fmt.Errorf("look up the journal: %w", err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// verify makes sure that what was measured did happen. Projection and audit log may be a little behind the last answers.
func (b *bench) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		var executions, ended, successes, rows int64
		err := b.database.QueryRow(ctx, `SELECT count(*), count(completed_at), count(*) FILTER (WHERE status = 'success'),
			(SELECT count(*) FROM audit.events WHERE resource_type = 'execution') FROM ingest.executions`).Scan(&executions, &ended, &successes, &rows)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if ended != successes {
			return fmt.Errorf("verify: %d of %d executions were successful", successes, ended)
		}
		if ended == executions && rows == auditRows*executions {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("verify: %d executions, %d ended, %d audit rows: %w", executions, ended, rows, ctx.Err())
		case <-ticker.C:
		}
	}
	if output, err := b.installation.Reconcile(ctx); err != nil {
		return fmt.Errorf("verify: reconcile: %w: %s", err, output)
	}
	return nil
}
