package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	readTimeout = 5 * time.Second
	// maxRead bounds the bytes of one answer.
	maxRead = 4 << 20

	headerPending   = "Nats-Num-Pending"
	headerTimestamp = "Nats-Time-Stamp"
	headerStatus    = "Status"
	statusNotFound  = "404"
	statusEnd       = "204"
)

// directGet asks for the stored message at a sequence, or for several from there on. See NATS ADR-31.
type directGet struct {
	Sequence uint64 `json:"seq"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// stored is a message of the stream.
type stored struct {
	sequence uint64
	content  content
}

// stream reads RUNS and removes from it. It needs no consumer: NATS would have to keep account of every request that was read and not
// dealt with yet.
type stream struct {
	conn *nats.Conn
	js   jetstream.JetStream
}

// from reads the messages at the sequence and after it, at most n; none at the end of the stream. It may be answered by a replica that
// is a little behind.
func (s *stream) from(ctx context.Context, sequence uint64, n int) ([]stored, error) {
	answers, err := s.ask(n+1, directGet{Sequence: sequence, Batch: n, MaxBytes: maxRead})
	if err != nil {
		return nil, err
	}
	defer answers.close()
	found := make([]stored, 0, n)
	for {
		one, err := answers.next(ctx)
		if errors.Is(err, errEnd) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
}

// at reads the messages at the sequences. Those that are no longer there are missing from the result.
func (s *stream) at(ctx context.Context, sequences []uint64) (map[uint64]*content, error) {
	requests := make([]directGet, 0, len(sequences))
	for _, sequence := range sequences {
		requests = append(requests, directGet{Sequence: sequence})
	}
	answers, err := s.ask(len(sequences), requests...)
	if err != nil {
		return nil, err
	}
	defer answers.close()
	found := make(map[uint64]*content, len(sequences))
	for range sequences {
		one, err := answers.next(ctx)
		switch {
		case errors.Is(err, errEnd):
		case err != nil:
			return nil, err
		default:
			found[one.sequence] = &one.content
		}
	}
	return found, s.missing(ctx, sequences, found)
}

// missing asks the stream's leader for what a replica did not have, which may be behind.
func (s *stream) missing(ctx context.Context, sequences []uint64, found map[uint64]*content) error {
	if len(found) == len(sequences) {
		return nil
	}
	for _, sequence := range sequences {
		if found[sequence] != nil {
			continue
		}
		one, err := s.leader(ctx, sequence)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return err
		default:
			found[sequence] = one
		}
	}
	return nil
}

func (s *stream) leader(ctx context.Context, sequence uint64) (*content, error) {
	found, err := bus.Stored(ctx, s.conn, subject.StreamRuns, bus.StoredRequest{Sequence: sequence})
	if err != nil {
		return nil, err
	}
	return &content{subject: found.Subject, header: found.Header, data: found.Data, stored: found.Time}, nil
}

// answers are what comes back for direct gets. A channel, because a synchronous subscription would take a message that its publisher
// gave a header "Status" for a status of the server.
type answers struct {
	subscription *nats.Subscription
	arrived      chan *nats.Msg
}

// ask sends the requests, which are answered by at most n messages.
func (s *stream) ask(n int, requests ...directGet) (*answers, error) {
	arrived := make(chan *nats.Msg, n)
	inbox := s.conn.NewInbox()
	subscription, err := s.conn.ChanSubscribe(inbox, arrived)
	if err != nil {
		return nil, fmt.Errorf("ask for run requests: %w", err)
	}
	asked := &answers{subscription: subscription, arrived: arrived}
	for _, request := range requests {
		data, err := json.Marshal(request)
		if err == nil {
			err = s.conn.PublishRequest("$JS.API.DIRECT.GET."+subject.StreamRuns, inbox, data)
		}
		if err != nil {
			asked.close()
			return nil, fmt.Errorf("ask for run requests: %w", err)
		}
	}
	return asked, nil
}

func (a *answers) close() { _ = a.subscription.Unsubscribe() }

var (
	errEnd      = errors.New("there is no such message")
	errNoAnswer = errors.New("the stream of run requests does not answer")
)

// next gives the next message; errEnd when the server says that there is none or no more.
func (a *answers) next(ctx context.Context) (stored, error) {
	timer := time.NewTimer(readTimeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return stored{}, ctx.Err()
	case <-timer.C:
		return stored{}, errNoAnswer
	case message := <-a.arrived:
		if len(message.Header[jetstream.SequenceHeader]) > 0 {
			return decodeStored(message)
		}
		status := message.Header.Get(headerStatus)
		if status == statusEnd || status == statusNotFound {
			return stored{}, errEnd
		}
		return stored{}, fmt.Errorf("%w: status %s", errNoAnswer, status)
	}
}

// decodeStored takes an answer apart. What the server says about the message stands behind what the message says itself, and counts alone.
func decodeStored(message *nats.Msg) (stored, error) {
	last := func(name string) string {
		if values := message.Header[name]; len(values) > 0 {
			return values[len(values)-1]
		}
		return ""
	}
	read := stored{content: content{subject: last(jetstream.SubjectHeader), header: message.Header, data: message.Data}}
	var err error
	if read.sequence, err = strconv.ParseUint(last(jetstream.SequenceHeader), 10, 64); err != nil {
		return read, fmt.Errorf("read run requests: header %s: %w", jetstream.SequenceHeader, err)
	}
	if read.content.stored, err = time.Parse(time.RFC3339Nano, last(headerTimestamp)); err != nil {
		return read, fmt.Errorf("read run requests: header %s: %w", headerTimestamp, err)
	}
	for _, name := range []string{
		jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.LastSequenceHeader, headerTimestamp, headerPending,
	} {
		delete(message.Header, name)
	}
	return read, nil
}

// info is what the stream says about itself.
func (s *stream) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	found, err := s.js.Stream(ctx, subject.StreamRuns)
	if err != nil {
		return nil, fmt.Errorf("look up run requests: %w", err)
	}
	return found.CachedInfo(), nil
}

// remove takes from the stream what has ended.
func (s *stream) remove(ctx context.Context, ended removal) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	found, err := s.js.Stream(ctx, subject.StreamRuns)
	if err != nil {
		return fmt.Errorf("look up run requests: %w", err)
	}
	if ended.floor > 1 {
		if err := found.Purge(ctx, jetstream.WithPurgeSequence(ended.floor)); err != nil {
			return fmt.Errorf("remove run requests: %w", err)
		}
	}
	for _, one := range ended.customers {
		err := found.Purge(ctx, jetstream.WithPurgeSubject(subject.RunRequest(one.customer)), jetstream.WithPurgeSequence(one.before))
		if err != nil {
			return fmt.Errorf("remove run requests of %s: %w", one.customer, err)
		}
	}
	return nil
}
