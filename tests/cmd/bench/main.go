// Command bench measures galley on this machine and prints a table; the figures also go to bench-results as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/tests/internal/bench"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/repository"
)

func main() {
	config := bench.Config{Progress: os.Stderr}
	flag.IntVar(&config.Events, "events", 40_000, "executions in each round over NATS")
	flag.IntVar(&config.Rounds, "rounds", 3, "rounds over NATS")
	flag.IntVar(&config.WarmUp, "warm-up", 5_000, "executions over NATS before the first round")
	flag.IntVar(&config.Customers, "customers", 16, "customers who share the load")
	flag.IntVar(&config.Flood, "flood", 100_000, "executions that one customer asks for at once while another's single ones are measured; 0 for none")
	flag.DurationVar(&config.Duration, "duration", 10*time.Second, "time of each measurement over HTTP")
	callers := flag.String("callers", "1,32,256", "numbers of concurrent callers over HTTP")
	flag.Parse()
	os.Exit(lifecycle.Main("bench", os.Stderr, func(ctx context.Context) error {
		var err error
		if config.Callers, err = numbers(*callers); err != nil {
			return lifecycle.Usage(fmt.Errorf("-callers: %w", err))
		}
		if config.Flood > 0 && config.Customers < bench.MinCustomers {
			return lifecycle.Usage(fmt.Errorf("-customers: %d are needed with a flood", bench.MinCustomers))
		}
		return run(ctx, config)
	}))
}

func numbers(list string) ([]int, error) {
	var parsed []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a list of numbers from 1", list)
		}
		parsed = append(parsed, n)
	}
	return parsed, nil
}

func run(ctx context.Context, config bench.Config) (err error) {
	if config.Binaries, err = harness.Build(ctx, harness.Galley); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Binaries.Remove()) }()
	result, err := bench.Run(ctx, config)
	if err != nil {
		return err
	}
	if err := result.Print(os.Stdout); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return store(&result)
}

func store(result *bench.Result) error {
	root, err := repository.Root()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "bench-results")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("store result: %w", err)
	}
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	file := filepath.Join(dir, result.Machine.Time.Format("20060102T150405Z")+".json")
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("store result: %w", err)
	}
	fmt.Printf("\n%s\n", file)
	return nil
}
