package bench

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/galley-engine/galley/tests/internal/harness"
)

// CallerRun is one measurement over HTTP. Latencies are milliseconds from the call to the response with the result.
type CallerRun struct {
	Callers    int     `json:"callers"`
	Executions int     `json:"executions"`
	PerSecond  float64 `json:"per_second"`
	P50        float64 `json:"p50_ms"`
	P90        float64 `json:"p90_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
	CPU        CPU     `json:"cpu_microseconds_per_execution"`
}

// callers has n callers who each make one call after the other over a connection that is kept.
func (b *bench) callers(ctx context.Context, n int) (CallerRun, error) {
	client := &fasthttp.Client{MaxConnsPerHost: n, NoDefaultUserAgentHeader: true, ReadTimeout: patience}
	defer client.CloseIdleConnections()
	// Everybody is connected before the clock runs.
	if _, err := b.together(ctx, client, n, time.Now().Add(b.Duration/10)); err != nil {
		return CallerRun{}, err
	}
	used, err := b.cpu()
	if err != nil {
		return CallerRun{}, err
	}
	begin := time.Now()
	latencies, err := b.together(ctx, client, n, begin.Add(b.Duration))
	if err != nil {
		return CallerRun{}, err
	}
	took := time.Since(begin)
	after, err := b.cpu()
	if err != nil {
		return CallerRun{}, err
	}
	slices.Sort(latencies)
	return CallerRun{
		Callers: n, Executions: len(latencies), PerSecond: float64(len(latencies)) / took.Seconds(),
		P50: at(latencies, 0.5), P90: at(latencies, 0.9), P99: at(latencies, 0.99), Max: at(latencies, 1), CPU: after.minus(used).per(len(latencies)),
	}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (b *bench) together(ctx context.Context, client *fasthttp.Client, n int, end time.Time) ([]time.Duration, error) {
	latencies := make([][]time.Duration, n)
	errs := make([]error, n)
	var group sync.WaitGroup
	for k := range n {
		group.Go(func() {
			caller := newCaller(client, b.clients[k%len(b.clients)], k)
			defer caller.release()
			for time.Now().Before(end) && ctx.Err() == nil {
				took, err := caller.call()
				if err != nil {
					errs[k] = err
					return
				}
				latencies[k] = append(latencies[k], took)
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return slices.Concat(latencies...), ctx.Err()
}

type caller struct {
	client   *fasthttp.Client
	request  *fasthttp.Request
	response *fasthttp.Response
}

func newCaller(client *fasthttp.Client, as *harness.Client, n int) *caller {
	c := &caller{client: client, request: fasthttp.AcquireRequest(), response: fasthttp.AcquireResponse()}
	c.request.SetRequestURI(as.Base + harness.API + "/recipes/execute")
	c.request.Header.SetMethod(fasthttp.MethodPost)
	c.request.Header.SetContentType("application/json")
	c.request.Header.Set("Authorization", "Bearer "+as.Key)
	name := strings.Repeat("x", n%3+1)
	c.request.SetBodyString(fmt.Sprintf(`{"agent_id":%q,"recipe_id":%q,"input_data":{"name":%q,"number":%d}}`, agentID, recipeID, name, n))
	return c
}

func (c *caller) release() {
	fasthttp.ReleaseRequest(c.request)
	fasthttp.ReleaseResponse(c.response)
}

func (c *caller) call() (time.Duration, error) {
	begin := time.Now()
	if err := c.client.Do(c.request, c.response); err != nil {
		return 0, fmt.Errorf("call: %w", err)
	}
	took := time.Since(begin)
	if c.response.StatusCode() != fasthttp.StatusOK || !bytes.Contains(c.response.Body(), []byte(`"status":"success"`)) {
		return 0, fmt.Errorf("answered %d %s", c.response.StatusCode(), c.response.Body())
	}
	return took, nil
}
