package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/valyala/fasthttp"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// FairnessRun is how long a customer's single executions take while another one's flood waits, and without it.
type FairnessRun struct {
	// Flood is the number of executions that the other customer asked for at once, PerSecond how many of them ended in a second.
	Flood     int         `json:"flood"`
	PerSecond float64     `json:"per_second"`
	Singles   []SingleRun `json:"singles"`
	CPU       CPU         `json:"cpu_microseconds_per_execution"`
}

// SingleRun are executions that were asked for one at a time. Latencies are milliseconds: over NATS from the publish to the completed event,
// over HTTP from the call to the response.
type SingleRun struct {
	Way string `json:"way"`
	// Waiting is how many requests of the flood still waited in RUNS after the last of them; 0 for those without a flood.
	Waiting    uint64  `json:"waiting"`
	Executions int     `json:"executions"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
}

const (
	// singles is how many executions are asked for one at a time, over NATS and over HTTP.
	singles = 20
	// shallow is when the flood is no longer one.
	shallow = 2000
	// MinCustomers is how many customers it takes: the flood is the first one's.
	MinCustomers             = 3
	flooding, byNATS, byHTTP = 0, 1, 2
)

var errShallow = errors.New("the flood had passed before a single execution was measured: it needs to be larger")

func (b *bench) fairness(ctx context.Context) (FairnessRun, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	alone, err := b.singles(ctx, false)
	if err != nil {
		return FairnessRun{}, err
	}
	before, err := b.audited(ctx)
	if err != nil {
		return FairnessRun{}, err
	}
	used, err := b.cpu()
	if err != nil {
		return FairnessRun{}, err
	}
	begin := time.Now()
	if err := b.publish(ctx, b.Flood, func(int) string { return customer(flooding) }); err != nil {
		return FairnessRun{}, err
	}
	behind, err := b.singles(ctx, true)
	if err != nil {
		return FairnessRun{}, err
	}
	all := b.Flood
	for _, run := range behind {
		all += run.Executions
	}
	if err := b.await(ctx, before+int64(all*auditRows)); err != nil {
		return FairnessRun{}, err
	}
	took := time.Since(begin)
	after, err := b.cpu()
	if err != nil {
		return FairnessRun{}, err
	}
	return FairnessRun{
		Flood: b.Flood, PerSecond: float64(all) / took.Seconds(), Singles: append(alone, behind...), CPU: after.minus(used).per(all),
	}, nil
}

// singles measures over NATS and over HTTP at the same time, each as another customer.
func (b *bench) singles(ctx context.Context, flooded bool) ([]SingleRun, error) {
	var group sync.WaitGroup
	runs, errs := make([]SingleRun, 2), make([]error, 2)
	group.Go(func() { runs[0], errs[0] = b.singlesByNATS(ctx, flooded) })
	group.Go(func() { runs[1], errs[1] = b.singlesByHTTP(ctx, flooded) })
	group.Wait()
	return runs, errors.Join(errs...)
}

func (b *bench) singlesByNATS(ctx context.Context, flooded bool) (SingleRun, error) {
	who := customer(byNATS)
	ended, err := b.conn.SubscribeSync("galley.execution." + subject.Shard(who) + "." + who + ".*." + string(event.Completed))
	if err != nil {
		return SingleRun{}, fmt.Errorf("subscribe to ends: %w", err)
	}
	defer func() { _ = ended.Unsubscribe() }()
	data, err := json.Marshal(event.RunRequest{
		AgentID: agentID, RecipeID: recipeID, Input: json.RawMessage(`{"name":"single","number":1}`),
	})
	if err != nil {
		return SingleRun{}, fmt.Errorf("encode run request: %w", err)
	}
	return b.measure(ctx, "NATS", flooded, func() (time.Duration, error) {
		begin := time.Now()
		if err := b.conn.PublishMsg(&nats.Msg{Subject: subject.RunRequest(who), Data: data}); err != nil {
			return 0, fmt.Errorf("publish run request: %w", err)
		}
		if _, err := ended.NextMsgWithContext(ctx); err != nil {
			return 0, fmt.Errorf("await the end: %w", err)
		}
		return time.Since(begin), nil
	})
}

func (b *bench) singlesByHTTP(ctx context.Context, flooded bool) (SingleRun, error) {
	client := &fasthttp.Client{MaxConnsPerHost: 1, NoDefaultUserAgentHeader: true, ReadTimeout: patience}
	defer client.CloseIdleConnections()
	caller := newCaller(client, b.clients[byHTTP], 1)
	defer caller.release()
	return b.measure(ctx, "HTTP", flooded, caller.call)
}

func (b *bench) measure(ctx context.Context, way string, flooded bool, one func() (time.Duration, error)) (SingleRun, error) {
	run := SingleRun{Way: way}
	latencies := make([]time.Duration, 0, singles)
	for len(latencies) < singles {
		took, err := one()
		if err != nil {
			return run, err
		}
		latencies = append(latencies, took)
		if !flooded {
			continue
		}
		stream, err := b.js.Stream(ctx, subject.StreamRuns)
		if err != nil {
			return run, fmt.Errorf("look up run requests: %w", err)
		}
		if waiting := stream.CachedInfo().State.Msgs; waiting >= shallow {
			run.Waiting = waiting
		} else {
			break
		}
	}
	if flooded && run.Waiting == 0 {
		return run, errShallow
	}
	slices.Sort(latencies)
	run.Executions = len(latencies)
	run.P50, run.P99, run.Max = at(latencies, 0.5), at(latencies, 0.99), at(latencies, 1)
	return run, nil
}

// at is the latency in milliseconds that a share of the sorted latencies is below.
func at(sorted []time.Duration, share float64) float64 {
	return milliseconds(sorted[min(len(sorted)-1, int(share*float64(len(sorted))))])
}
