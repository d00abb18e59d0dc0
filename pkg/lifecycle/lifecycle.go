// Package lifecycle runs a long-lived process: it turns signals into a cancelled context and errors into exit codes.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Exit codes of every galley process.
const (
	ExitOK      = 0
	ExitFailure = 1
	// ExitUsage: a setting or argument is wrong.
	ExitUsage = 2
)

// UsageError marks an error that the person who started the process must correct: exit code 2.
type UsageError struct{ Err error }

// Error is the text of the wrapped error.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the wrapped error.
func (e *UsageError) Unwrap() error { return e.Err }

// Usage wraps err, when there is one, into a UsageError.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &UsageError{Err: err}
}

// Main calls run with a context that ends at the first SIGINT, SIGTERM or SIGHUP (the second one kills the process), writes an error
// to stderr as "name: error", and returns the exit code.
func Main(name string, stderr io.Writer, run func(ctx context.Context) error) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	// A terminal that is closed sends SIGHUP. Under nohup it is to be ignored.
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := run(ctx)
	var usage *UsageError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitUsage
	default:
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitFailure
	}
}

// Run calls every function at the same time until all have returned. The first error ends the context of the others and is
// returned.
func Run(ctx context.Context, functions ...func(ctx context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, function := range functions {
		group.Go(func() error { return function(ctx) })
	}
	return group.Wait()
}
