package store

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
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	stream = "KV_" + subject.BucketStore
	prefix = "$KV." + subject.BucketStore + "."

	// headerOperation marks the messages that stand for the absence of a value, as every client of the bucket understands them;
	// headerMarker is on those that the server makes when a value expires.
	headerOperation = "KV-Operation"
	headerMarker    = "Nats-Marker-Reason"
	headerPending   = "Nats-Num-Pending"

	// markerTTL is how long it is known who deleted a key: longer than the longest delay between two attempts of a step.
	markerTTL = time.Hour
	// patience bounds one request.
	patience = 5 * time.Second

	codeWrongSequence jetstream.ErrorCode = 10164
)

// bucket is the stream under the bucket, which takes headers that the client's own methods do not.
type bucket struct{ bus *bus.Bus }

// entry is the last message about a key. The zero entry is of a key of which nothing is known.
type entry struct {
	sequence uint64
	// there is false for a message that says that there is no value any more.
	there bool
	mark  string
	data  []byte
}

// revision is that of the value, 0 when there is none.
func (e *entry) revision() uint64 {
	if !e.there {
		return 0
	}
	return e.sequence
}

// change is what is to become of a key.
type change struct {
	data   []byte
	remove bool
	// ttl is after how long the value is forgotten, 0 for never.
	ttl time.Duration
	// mark is the idempotency key of the call.
	mark string
	// guard is the sequence that the last message must have, 0 when there must be none; nil for whatever is there.
	guard *uint64
}

// last reads the last message about a key.
func (b *bucket) last(ctx context.Context, place string) (entry, error) {
	stored, err := bus.Stored(ctx, b.bus.Conn, stream, bus.StoredRequest{LastBySubject: prefix + place})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return entry{}, nil
	}
	if err != nil {
		return entry{}, unavailable(err)
	}
	return entry{
		sequence: stored.Sequence, mark: stored.Header.Get(event.HeaderAppend), data: stored.Data,
		there: stored.Header.Get(headerOperation) == "" && stored.Header.Get(headerMarker) == "",
	}, nil
}

// write makes a change. moved tells that it was not made because of the guard.
func (b *bucket) write(ctx context.Context, place string, wanted *change) (sequence uint64, moved bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	message := nats.NewMsg(prefix + place)
	message.Data = wanted.data
	message.Header.Set(event.HeaderAppend, wanted.mark)
	ttl := wanted.ttl
	if wanted.remove {
		message.Header.Set(headerOperation, "DEL")
		ttl = markerTTL
	}
	var options []jetstream.PublishOpt
	if ttl > 0 {
		options = append(options, jetstream.WithMsgTTL(ttl))
	}
	if wanted.guard != nil {
		options = append(options, jetstream.WithExpectLastSequencePerSubject(*wanted.guard))
	}
	ack, err := b.bus.JS.PublishMsg(ctx, message, options...)
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == codeWrongSequence) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, unavailable(err)
	}
	return ack.Sequence, false, nil
}

// count is the number of keys that the wildcard matches, those included of which it is only known that they have no value. The server
// counts in its index and answers with the first message and the number of those that follow.
func (b *bucket) count(ctx context.Context, wildcard string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := json.Marshal(map[string]any{"seq": 1, "next_by_subj": prefix + wildcard, "batch": 1})
	if err != nil {
		return 0, fmt.Errorf("encode request: %w", err)
	}
	reply, err := b.bus.Conn.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, request)
	if err != nil {
		return 0, unavailable(err)
	}
	const notFound = "404"
	status := reply.Header.Get("Status")
	if status == notFound {
		return 0, nil
	}
	following, err := strconv.Atoi(reply.Header.Get(headerPending))
	if err != nil {
		return 0, unavailable(fmt.Errorf("count keys: status %q: %w", status, err))
	}
	return following + 1, nil
}

func unavailable(cause error) error {
	return problem.Public(cause, "the store cannot be reached at the moment")
}
