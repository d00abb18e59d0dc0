// Package file keeps what is too large, or too binary, to travel through the state of an execution. A step hands on a reference, which is
// an ordinary JSON object; whoever needs the bytes opens it. Files belong to one customer and are kept as long as the journal.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/subject"
)

// MaxBytes is the most that a file may have.
const MaxBytes = 16 << 20

// maxID is the most bytes of an id. NATS closes a connection on which somebody names a subject of some thousand bytes.
const maxID = 200

// Errors of a Store.
var (
	// ErrNotFound says that the customer has no such file, or has it no longer.
	ErrNotFound = errors.New("there is no such file")
	// ErrTooLarge says that a file would have more than MaxBytes.
	ErrTooLarge = errors.New("a file has at most 16 MiB")
)

// Ref refers to a file of a customer. As a value of a recipe it is {"file", "name", "content_type", "size"}.
type Ref struct {
	ID string `json:"file"`
	// Name is for people: what a file is saved as.
	Name        string `json:"name"`
	ContentType string `json:"content_type"`
	// Size is in bytes.
	Size int64 `json:"size"`
}

// Value is the reference as recipes see it.
func (r Ref) Value() map[string]any {
	return map[string]any{"file": r.ID, "name": r.Name, "content_type": r.ContentType, "size": float64(r.Size)}
}

// Store keeps files in a JetStream object store. It is safe for concurrent use.
type Store struct {
	js jetstream.JetStream
}

// NewStore makes a Store over the bucket that bus.Provision makes.
func NewStore(js jetstream.JetStream) *Store {
	return &Store{js: js}
}

// fields of an object's metadata; the object's own name is the key.
const (
	metaName = "galley-name"
	metaType = "content-type"
)

// Open gives the content of a file, which the caller closes, and its reference. Reading fails when ctx ends, or after a few seconds where ctx
// has no deadline. The error is ErrNotFound or one of NATS.
func (s *Store) Open(ctx context.Context, customer, id string) (io.ReadCloser, Ref, error) {
	if id == "" || len(id) > maxID {
		return nil, Ref{}, ErrNotFound
	}
	bucket, err := s.js.ObjectStore(ctx, subject.BucketFiles)
	if err != nil {
		return nil, Ref{}, fmt.Errorf("open the files: %w", err)
	}
	object, err := bucket.Get(ctx, key(customer, id))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, Ref{}, ErrNotFound
	}
	if err != nil {
		return nil, Ref{}, fmt.Errorf("open file %s of %s: %w", id, customer, err)
	}
	info, err := object.Info()
	if err != nil {
		_ = object.Close()
		return nil, Ref{}, fmt.Errorf("open file %s of %s: %w", id, customer, err)
	}
	return object, Ref{
		ID: id, Name: info.Metadata[metaName], ContentType: info.Metadata[metaType], Size: int64(info.Size), //nolint:gosec // at most MaxBytes
	}, nil
}

// key keeps customers apart: an id never reaches into another one's files, whatever it holds, for no customer's id has a slash.
func key(customer, id string) string {
	return customer + "/" + id
}
