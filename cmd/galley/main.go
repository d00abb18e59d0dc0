// Command galley is the whole of galley in one program: "galley up" runs NATS, a private Postgres and all services in one process;
// the other commands are its client.
package main

import (
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // schedules need time zones where the machine has none

	"github.com/galley-engine/galley/cmd/galley/internal/cli"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(cli.Main(cli.Process{
		Args: os.Args[1:], Environ: os.Environ(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Exit: os.Exit, Signals: signals,
	}))
}
