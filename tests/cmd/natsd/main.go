// Command natsd is a NATS server with JetStream as a process of its own, which tests can kill.
//
//	natsd 127.0.0.1:4222 /path/to/store
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/galley-engine/galley/pkg/lifecycle"
)

const (
	syncInterval = time.Second
	patience     = 30 * time.Second
)

func main() {
	os.Exit(lifecycle.Main("natsd", os.Stderr, func(ctx context.Context) error {
		if len(os.Args) != 3 {
			return lifecycle.Usage(errors.New("usage: natsd <address> <directory>"))
		}
		return run(ctx, os.Args[1], os.Args[2])
	}))
}

func run(ctx context.Context, addr, dir string) error {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	// As galley up runs it: written before the acknowledgement, synced every second.
	nats, err := server.NewServer(&server.Options{
		ServerName: "natsd", Host: host, Port: port, NoSigs: true, JetStream: true, StoreDir: dir, SyncInterval: syncInterval,
	})
	if err != nil {
		return fmt.Errorf("set up NATS: %w", err)
	}
	nats.ConfigureLogger()
	nats.Start()
	defer nats.WaitForShutdown()
	defer nats.Shutdown()
	if !nats.ReadyForConnections(patience) {
		return errors.New("NATS does not listen")
	}
	<-ctx.Done()
	return nil
}
