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

// header of an object's metadata that holds the name for people; the object's own name is the key.
const (
	metaName = "galley-name"
	metaType = "content-type"
)

// Put stores content under the reference's id, of 1 to 200 bytes, in the place of what was there, and gives the reference with its size.
// Whoever is reading the earlier content fails. The error is ErrTooLarge, that of the reader, that of ctx, or one of NATS; nothing is kept
// then, and the earlier content stays.
func (s *Store) Put(ctx context.Context, customer string, ref Ref, content io.Reader) (Ref, error) {
	if ref.ID == "" || len(ref.ID) > maxID {
		return Ref{}, fmt.Errorf("store a file of %s: an id has 1 to %d bytes", customer, maxID)
	}
	bucket, err := s.js.ObjectStore(ctx, subject.BucketFiles)
	if err != nil {
		return Ref{}, fmt.Errorf("open the files: %w", err)
	}
	limited := &limit{reader: content, left: MaxBytes, interrupted: ctx.Err}
	// What was stored of content that breaks off is removed, which takes a context that has not ended.
	info, err := bucket.Put(context.WithoutCancel(ctx), jetstream.ObjectMeta{
		Name: key(customer, ref.ID), Metadata: map[string]string{metaName: ref.Name, metaType: ref.ContentType},
	}, limited)
	if limited.err != nil {
		return Ref{}, limited.err
	}
	if err != nil {
		return Ref{}, fmt.Errorf("store file %s of %s: %w", ref.ID, customer, err)
	}
	ref.Size = int64(info.Size) //nolint:gosec // at most MaxBytes
	return ref, nil
}

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

// limit is a reader that fails when there is too much to read, or when whoever stores the content gives up.
type limit struct {
	reader io.Reader
	left   int64
	// interrupted is not nil when it is time to give up.
	interrupted func() error
	// err is what the reader failed with; io.EOF does not count.
	err error
}

// Read implements io.Reader. It fills p while it can, because each Read becomes a message.
func (l *limit) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if err = l.interrupted(); err == nil {
			var read int
			read, err = l.reader.Read(p[n:])
			n += read
		}
	}
	if l.left -= int64(n); l.left < 0 {
		n, err = 0, ErrTooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}
	return n, err
}
