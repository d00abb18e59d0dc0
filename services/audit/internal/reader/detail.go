package reader

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

const (
	// maxData is the longest data of an activity that is read for its changes.
	maxData = 64 << 10
	// rowSize is what a row takes in JSON besides its leaf and changes, in bytes.
	rowSize = 600
)

// told is what is taken out of a leaf, of whatever version.
type told struct {
	ErrorCode string `json:"error_code"`
	Steps     string `json:"steps"`
}

// complete adds what is not in the columns: what the leaf and the data beside it tell.
func (r *Reader) complete(ctx context.Context, s scope, events []query.AuditEvent) error {
	if len(events) == 0 {
		return nil
	}
	kept, err := r.payloads(ctx, s, events)
	if err != nil {
		return err
	}
	for i := range events {
		e := &events[i]
		var said told
		if json.Unmarshal(e.Leaf, &said) == nil {
			e.ErrorCode, e.Steps = said.ErrorCode, said.Steps
		}
		data, found := kept[e.Sequence]
		e.Erased = !found && e.CustomerSequence > 0
		var activity event.Activity
		if len(data) > 0 && json.Unmarshal(data, &activity) == nil {
			e.Changes = activity.Changes
		}
	}
	return nil
}

// payloads reads what is kept beside the leaves: nil for one whose data is not kept, or too long.
func (r *Reader) payloads(ctx context.Context, s scope, events []query.AuditEvent) (map[int64][]byte, error) {
	const statement = `
		SELECT sequence, CASE WHEN octet_length(data) <= $2 THEN data END FROM audit.payloads WHERE sequence = ANY($1)`
	sequences := make([]int64, len(events))
	for i := range events {
		sequences[i] = events[i].Sequence
	}
	kept := make(map[int64][]byte, len(events))
	err := postgres.Query(ctx, r.pool, s.setting, func(batch *pgx.Batch) {
		batch.Queue(statement, sequences, maxData).Query(func(rows pgx.Rows) error {
			var sequence int64
			var data []byte
			_, err := pgx.ForEachRow(rows, []any{&sequence, &data}, func() error {
				kept[sequence] = append([]byte(nil), data...)
				return nil
			})
			return err
		})
	})
	return kept, err
}

// fitting is how many of the events fit in a page, at least one.
func fitting(events []query.AuditEvent) int {
	size := 0
	for i := range events {
		size += rowSize + len(events[i].Leaf) + len(events[i].Changes)
		if size > maxPage && i > 0 {
			return i
		}
	}
	return len(events)
}
