package engine

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/process"
)

const (
	syncInterval = time.Second
	// natsPatience bounds the wait for the listener only: the streams are recovered before, however long that takes.
	natsPatience = 10 * time.Second
)

// startNATS starts a NATS server with JetStream in this process. Programs reach it at addr, the services without a socket.
func startNATS(addr, dir string, durability process.Durability, log zerolog.Logger) (*server.Server, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("NATS address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("NATS address: %w", err)
	}
	nats, err := server.NewServer(&server.Options{
		ServerName: "galley", Host: host, Port: port, NoSigs: true,
		JetStream: true, StoreDir: dir, SyncInterval: syncInterval, SyncAlways: durability == process.DurabilityDisk,
	})
	if err != nil {
		return nil, fmt.Errorf("set up NATS: %w", err)
	}
	logger := &natsLogger{log: log}
	nats.SetLoggerV2(logger, false, false, false)
	nats.Start()
	if fatal := logger.fatal.Load(); fatal != nil || !nats.ReadyForConnections(natsPatience) {
		stopNATS(nats)
		if fatal = logger.fatal.Load(); fatal == nil {
			return nil, errors.New("start NATS: it does not listen")
		}
		return nil, fmt.Errorf("start NATS: %s", *fatal)
	}
	return nats, nil
}

func stopNATS(nats *server.Server) {
	nats.Shutdown()
	nats.WaitForShutdown()
}

// natsLogger passes on what the NATS server says. What the server calls fatal it leaves to its logger to end the process for;
// this one keeps it for startNATS.
type natsLogger struct {
	log   zerolog.Logger
	fatal atomic.Pointer[string]
}

// Noticef logs what is no trouble.
func (l *natsLogger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }

// Warnf logs a warning.
func (l *natsLogger) Warnf(format string, v ...any) { l.log.Warn().Msgf(format, v...) }

// Errorf logs an error.
func (l *natsLogger) Errorf(format string, v ...any) { l.log.Error().Msgf(format, v...) }

// Debugf logs what only somebody who looks for a defect of the server wants to know.
func (l *natsLogger) Debugf(format string, v ...any) { l.log.Trace().Msgf(format, v...) }

// Tracef does, too.
func (l *natsLogger) Tracef(format string, v ...any) { l.log.Trace().Msgf(format, v...) }

// Fatalf logs the message and keeps the first one.
func (l *natsLogger) Fatalf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &message)
	l.log.Error().Msg(message)
}
