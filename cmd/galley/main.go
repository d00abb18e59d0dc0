// Command galley is the whole of galley in one program: "galley up" runs NATS, a private Postgres and all services in one process;
// the other commands are its client.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/galley-engine/galley/cmd/galley/internal/cli"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(cli.Main(cli.Process{
		Args: os.Args[1:], Environ: os.Environ(), Out: os.Stdout, Err: os.Stderr, Exit: os.Exit, Signals: signals,
	}))
}
