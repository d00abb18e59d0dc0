package slot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// maxConflicts bounds the tries against other processes. Of those that collide one gets through, so it takes many of them to
	// lose so often.
	maxConflicts = 50

	codeWrongSequence jetstream.ErrorCode = 10164
)

// swap changes a table until nobody else has changed it meanwhile. granted are all that edit gave slots to, also in tries of which
// nobody knows whether they were stored.
func (s *Slots) swap(ctx context.Context, customer string, edit func(*table) []string) (_ table, granted []string, _ error) {
	var backoff lifecycle.Backoff
	conflicts := 0
	for {
		found, revision, err := s.read(ctx, customer)
		if err == nil {
			before, _ := json.Marshal(&found)
			gained := edit(&found)
			after, _ := json.Marshal(&found)
			if bytes.Equal(before, after) {
				return found, granted, nil
			}
			err = s.write(ctx, customer, revision, after)
			if isConflict(err) && conflicts < maxConflicts {
				conflicts++
				continue
			}
			if granted = append(granted, gained...); err == nil {
				return found, granted, nil
			}
		}
		if conflicts == maxConflicts || !backoff.Wait(ctx) {
			return table{}, granted, failure(customer, err)
		}
	}
}

func (s *Slots) write(ctx context.Context, customer string, revision uint64, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	_, err := s.bus.JS.Publish(ctx, key(customer), data, jetstream.WithExpectLastSequencePerSubject(revision))
	return err
}

func isConflict(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == codeWrongSequence)
}

func key(customer string) string { return "$KV." + subject.BucketSlots + "." + customer }

// read gives a table and its revision through the stream's leader: a follower that lags behind would have an execution wait that has
// just been given its slots.
func (s *Slots) read(ctx context.Context, customer string) (found table, revision uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	stored, err := bus.Stored(ctx, s.bus.Conn, "KV_"+subject.BucketSlots, bus.StoredRequest{LastBySubject: key(customer)})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return table{}, 0, nil
	case err != nil:
		return table{}, 0, failure(customer, err)
	}
	if len(stored.Data) > 0 {
		if err := json.Unmarshal(stored.Data, &found); err != nil {
			return table{}, 0, failure(customer, fmt.Errorf("decode: %w", err))
		}
	}
	return found, stored.Sequence, nil
}
