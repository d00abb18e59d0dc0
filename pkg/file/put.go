package file

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/subject"
)

const (
	chunkSize = 128 << 10
	// cleanTime is how long the removal of what was stored of a broken file may take; what is left then goes with the bucket's age.
	cleanTime = 2 * time.Second
)

// Put stores content under the reference's id, of 1 to 200 bytes, in the place of what was there, and gives the reference with its size.
// Whoever is reading the earlier content fails. The error is ErrTooLarge, that of the reader, that of ctx, or one of NATS; nothing is kept
// then, and the earlier content stays.
//
// It writes what the object store of the NATS clients writes (NATS ADR 20), one message after the other. The client's own Put makes a
// JetStream context for every object and, when the object is small, now and then leaves a goroutine behind for ever.
func (s *Store) Put(ctx context.Context, customer string, ref Ref, content io.Reader) (Ref, error) {
	if ref.ID == "" || len(ref.ID) > maxID {
		return Ref{}, fmt.Errorf("store a file of %s: an id has 1 to %d bytes", customer, maxID)
	}
	bucket, err := s.js.ObjectStore(ctx, subject.BucketFiles)
	if err != nil {
		return Ref{}, fmt.Errorf("open the files: %w", err)
	}
	earlier, err := bucket.GetInfo(ctx, key(customer, ref.ID))
	if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return Ref{}, fmt.Errorf("look for file %s of %s: %w", ref.ID, customer, err)
	}
	object := &jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{
			Name: key(customer, ref.ID), Metadata: map[string]string{metaName: ref.Name, metaType: ref.ContentType},
			Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkSize},
		},
		Bucket: subject.BucketFiles, NUID: rand.Text(),
	}
	if err := s.store(ctx, object, content); err != nil {
		s.clean(ctx, object)
		return Ref{}, fmt.Errorf("store file %s of %s: %w", ref.ID, customer, err)
	}
	if earlier != nil {
		s.clean(ctx, earlier)
	}
	ref.Size = int64(object.Size) //nolint:gosec // at most MaxBytes
	return ref, nil
}

// store writes the content in chunks, and then the object, by which they become a file.
func (s *Store) store(ctx context.Context, object *jetstream.ObjectInfo, content io.Reader) error {
	digest := sha256.New()
	chunk := make([]byte, chunkSize)
	for done := false; !done; {
		n, err := fill(chunk, content)
		if done = errors.Is(err, io.EOF); err != nil && !done {
			return err
		}
		if object.Size += uint64(n); object.Size > MaxBytes { //nolint:gosec // not negative
			return ErrTooLarge
		}
		if n == 0 {
			continue
		}
		_, _ = digest.Write(chunk[:n]) // it never fails
		if _, err := s.js.Publish(ctx, chunks(object), chunk[:n]); err != nil {
			return err
		}
		object.Chunks++
	}
	object.Digest = jetstream.GetObjectDigestValue(digest)
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	message := nats.NewMsg("$O." + subject.BucketFiles + ".M." + base64.URLEncoding.EncodeToString([]byte(object.Name)))
	message.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	message.Data = text
	_, err = s.js.PublishMsg(ctx, message)
	return err
}

// fill reads until p is full. Unlike that of io.ReadFull, its io.EOF tells the end of the content from content that breaks off.
func fill(p []byte, content io.Reader) (n int, err error) {
	for n < len(p) && err == nil {
		var read int
		read, err = content.Read(p[n:])
		n += read
	}
	return n, err
}

// clean removes the chunks of an object that is not a file, or not any more, also when ctx has ended. What fails is left to age.
func (s *Store) clean(ctx context.Context, object *jetstream.ObjectInfo) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	if stream, err := s.js.Stream(ctx, "OBJ_"+subject.BucketFiles); err == nil {
		_ = stream.Purge(ctx, jetstream.WithPurgeSubject(chunks(object)))
	}
}

func chunks(object *jetstream.ObjectInfo) string {
	return "$O." + subject.BucketFiles + ".C." + object.NUID
}
