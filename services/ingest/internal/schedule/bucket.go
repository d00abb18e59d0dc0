package schedule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/subject"
)

// errMoved says that somebody else changed the schedule since it was read.
var errMoved = errors.New("the schedule was changed meanwhile")

// bucket is where schedules are stored.
type bucket struct{ kv jetstream.KeyValue }

func openBucket(ctx context.Context, js jetstream.JetStream) (bucket, error) {
	kv, err := js.KeyValue(ctx, subject.BucketSchedules)
	if err != nil {
		return bucket{}, fmt.Errorf("open bucket: %w", err)
	}
	return bucket{kv}, nil
}

// get is false when there is no such schedule.
func (b bucket) get(ctx context.Context, customer, id string) (stored, bool, error) {
	entry, err := b.kv.Get(ctx, subject.ScheduleKey(customer, id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return stored{}, false, nil
	}
	if err != nil {
		return stored{}, false, fmt.Errorf("read schedule: %w", err)
	}
	found, err := decode(entry)
	return found, err == nil, err
}

// list gives the schedules whose keys match, in their order.
func (b bucket) list(ctx context.Context, keys string) ([]stored, error) {
	watcher, err := b.kv.Watch(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	defer func() { _ = watcher.Stop() }()
	found := []stored{}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case entry := <-watcher.Updates():
			if entry == nil { // everything that was there at the beginning
				slices.SortFunc(found, func(a, b stored) int { return cmp.Compare(a.key(), b.key()) })
				return found, nil
			}
			schedule, err := decode(entry)
			if err != nil {
				return nil, err
			}
			found = append(found, schedule)
		}
	}
}

// put stores the schedule unless it was changed since it was read; revision 0 is that of one that does not exist.
func (b bucket) put(ctx context.Context, s *stored) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode schedule: %w", err)
	}
	var revision uint64
	if s.revision == 0 {
		revision, err = b.kv.Create(ctx, s.key(), data)
	} else {
		revision, err = b.kv.Update(ctx, s.key(), data, s.revision)
	}
	if err != nil {
		return moved("store schedule", err)
	}
	s.revision = revision
	return nil
}

func (b bucket) remove(ctx context.Context, s *stored) error {
	if err := b.kv.Delete(ctx, s.key(), jetstream.LastRevision(s.revision)); err != nil {
		return moved("delete schedule", err)
	}
	return nil
}

func moved(doing string, err error) error {
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("%s: %w", doing, errMoved)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func decode(entry jetstream.KeyValueEntry) (stored, error) {
	found := stored{revision: entry.Revision()}
	if err := json.Unmarshal(entry.Value(), &found); err != nil {
		return stored{}, fmt.Errorf("decode schedule %s: %w", entry.Key(), err)
	}
	return found, nil
}
