// Command worker-go runs steps of the kind worker.shout: it says a text in capitals, letter by letter.
package main

import (
	"cmp"
	"context"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/worker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	conn, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), nats.MaxReconnects(-1))
	if err == nil {
		err = worker.Serve(ctx, conn, worker.Config{Name: "shout"}, shout)
	}
	if err != nil {
		log.Fatal(err) //nolint:gocritic // there is nothing left to stop
	}
}

func shout(ctx context.Context, call *worker.Call) (any, error) {
	var input struct {
		Text  string `json:"text"`
		Pause int    `json:"pause_ms"`
	}
	if err := call.Decode(&input); err != nil {
		return nil, err
	}
	for _, letter := range strings.ToUpper(input.Text) {
		select {
		case <-time.After(time.Duration(input.Pause) * time.Millisecond):
			call.Progress(string(letter))
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return worker.Result{Output: map[string]string{"text": strings.ToUpper(input.Text)}, Usage: worker.Usage{Units: 1}}, nil
}
