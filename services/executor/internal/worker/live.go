package worker

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

// errEnded is why an execution is interrupted that somebody else has ended.
var errEnded = errors.New("the execution was ended")

// live knows the executions that this process works on at the moment, so that they hear of news at once.
type live struct {
	journal Journal
	log     zerolog.Logger

	mu         sync.Mutex
	executions map[string]running
}

type running struct {
	news *engine.News
	end  context.CancelCauseFunc
}

func newLive(executions Journal, log zerolog.Logger) *live {
	return &live{journal: executions, log: log, executions: make(map[string]running)}
}

// enter adds an execution until leave. The context ends with errEnded when somebody else ends the execution.
func (l *live) enter(ctx context.Context, execution *engine.Execution) (_ context.Context, leave func()) {
	ctx, end := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.executions[execution.ExecutionID] = running{news: &execution.News, end: end}
	return ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.executions[execution.ExecutionID].news == &execution.News { // else this process has it again already
			delete(l.executions, execution.ExecutionID)
		}
		end(nil)
	}
}

// notice looks what a notice is about. Notices are not stored and may get lost: a signal is found again when its execution is parked,
// an end when its worker wants to append.
func (l *live) notice(ctx context.Context, message *nats.Msg) {
	execution, err := subject.ParseNotify(message.Subject)
	if err != nil {
		return
	}
	l.mu.Lock()
	found, here := l.executions[execution.ID]
	l.mu.Unlock()
	if !here {
		return
	}
	last, err := l.journal.Last(ctx, execution)
	switch {
	case err != nil && !errors.Is(err, journal.ErrNotFound):
		l.log.Warn().Err(err).Str("execution", execution.ID).Msg("notice not looked into")
	case err == nil && last.Kind == event.Completed:
		found.end(errEnded)
	}
	found.news.Spread()
}
