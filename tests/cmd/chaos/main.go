// Command chaos kills processes of galley with SIGKILL, under load and at random moments, in both ways of running it, and checks at
// the end that nothing was lost and nothing was done twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/tests/internal/crash"
	"github.com/galley-engine/galley/tests/internal/harness"
)

func main() {
	kills := flag.Int("kills", 50, "processes to kill in each mode")
	seed := flag.Uint64("seed", 0, "what decides on victims and moments; 0 for a new one")
	callers := flag.Int("callers", 24, "concurrent callers over HTTP; a quarter as many publish over NATS")
	mode := flag.String("mode", "", "single or split; both when it is not given")
	flag.Parse()
	os.Exit(lifecycle.Main("chaos", os.Stderr, func(ctx context.Context) error {
		modes := harness.Modes()
		if *mode != "" {
			if modes = []harness.Mode{harness.Mode(*mode)}; !slices.Contains(harness.Modes(), modes[0]) {
				return lifecycle.Usage(errors.New("-mode must be single or split"))
			}
		}
		if *seed == 0 {
			*seed = rand.Uint64() //nolint:gosec // any seed will do
		}
		return run(ctx, modes, crash.Config{Kills: *kills, Seed: *seed, Callers: *callers, Progress: os.Stderr})
	}))
}

var errViolated = errors.New("galley broke a promise")

func run(ctx context.Context, modes []harness.Mode, config crash.Config) (err error) {
	var programs []string
	for _, mode := range modes {
		programs = append(programs, harness.Needs(mode)...)
	}
	if config.Binaries, err = harness.Build(ctx, programs...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Binaries.Remove()) }()
	for _, config.Mode = range modes {
		report, err := crash.Run(ctx, config)
		if err != nil {
			return fmt.Errorf("%s mode, seed %d: %w", config.Mode, config.Seed, err)
		}
		report.Print(os.Stdout)
		if len(report.Violations) > 0 {
			return fmt.Errorf("%s mode, seed %d: %w", config.Mode, config.Seed, errViolated)
		}
	}
	return nil
}
