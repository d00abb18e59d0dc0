// Command worker is an instance of worker.count as a process of its own, which tests can kill.
//
//	worker nats://127.0.0.1:4222
//
// In the middle of its work it calls the url in its input, with the idempotency key that it was given. Its output is what it is answered.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/worker"
	"github.com/galley-engine/galley/schemas/call"
)

const (
	// The two halves of the work take up to so long each. One of longOneOf is long, and tells how far it is.
	short     = 50 * time.Millisecond
	long      = 1500 * time.Millisecond
	longOneOf = 5
	progress  = 200 * time.Millisecond
)

func main() {
	os.Exit(lifecycle.Main("worker", os.Stderr, func(ctx context.Context) error {
		if len(os.Args) != 2 {
			return lifecycle.Usage(errors.New("usage: worker <URL of NATS>"))
		}
		conn, err := nats.Connect(os.Args[1], nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
		if err != nil {
			return fmt.Errorf("connect to NATS: %w", err)
		}
		defer conn.Close()
		return worker.Serve(ctx, conn, worker.Config{Name: "count", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}, count)
	}))
}

func count(ctx context.Context, taken *worker.Call) (any, error) {
	var input struct {
		URL string `json:"url"`
	}
	if err := taken.Decode(&input); err != nil {
		return nil, err
	}
	half := rand.N(short)          //nolint:gosec // any will do
	if rand.IntN(longOneOf) == 0 { //nolint:gosec // any will do
		half = long/3 + rand.N(2*long/3) //nolint:gosec // any will do
	}
	if !work(ctx, half, taken) {
		return nil, context.Cause(ctx)
	}
	n, err := post(ctx, input.URL, taken.Key)
	if err != nil {
		return nil, err
	}
	if !work(ctx, half, taken) {
		return nil, context.Cause(ctx)
	}
	return worker.Result{Output: map[string]int64{"call": n}, Usage: worker.Usage{Units: n}}, nil
}

// work takes some time.
func work(ctx context.Context, duration time.Duration, taken *worker.Call) bool {
	for ; duration > progress; duration -= progress {
		if !lifecycle.Sleep(ctx, progress) {
			return false
		}
		taken.Progress(duration.String() + " left")
	}
	return lifecycle.Sleep(ctx, duration)
}

func post(ctx context.Context, url, key string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		return 0, &worker.Error{Message: "there is no url to call"}
	}
	request.Header.Set(call.HeaderKey, key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("call: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	var answer struct {
		Call int64 `json:"call"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	return answer.Call, nil
}
