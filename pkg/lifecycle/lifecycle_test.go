package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/lifecycle"
)

func TestMainTurnsErrorsIntoExitCodes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		code int
	}{
		"nothing": {nil, lifecycle.ExitOK},
		"failure": {errors.New("broken"), lifecycle.ExitFailure},
		"usage":   {lifecycle.Usage(errors.New("misspelt")), lifecycle.ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			code := lifecycle.Main("thing", &stderr, func(context.Context) error { return test.err })
			require.Equal(t, test.code, code)
			if test.err != nil {
				require.Equal(t, "thing: "+test.err.Error()+"\n", stderr.String())
			}
		})
	}
}

func TestMainEndsAtASignal(t *testing.T) {
	t.Parallel()
	code := lifecycle.Main("thing", os.Stderr, func(ctx context.Context) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	require.Equal(t, lifecycle.ExitOK, code)
}

func TestRunEndsAllWhenOneFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	err := lifecycle.Run(t.Context(),
		func(context.Context) error { return broken },
		func(ctx context.Context) error { <-ctx.Done(); return nil },
	)
	require.ErrorIs(t, err, broken)
}

func TestRetryGoesOnUntilSuccess(t *testing.T) {
	t.Parallel()
	tries, reports := 0, 0
	err := lifecycle.Retry(t.Context(), func(error) { reports++ }, func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 3, tries)
	require.Equal(t, 2, reports)
}

func TestRetryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := lifecycle.Retry(ctx, func(error) {}, func(context.Context) error { return errors.New("never") })
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
