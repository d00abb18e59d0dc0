package publish

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // a checksum that S3 asks for, not a proof
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// BucketInterval is how long a bucket is left alone after a head: each object costs money.
const BucketInterval = 10 * time.Second

const (
	// The digits of a size are in levels of three, so that a folder has a thousand tree heads or folders in it at most. Fifteen digits are those
	// of 2,000 years.
	levels    = 5
	perLevel  = 3
	digits    = levels * perLevel
	maxSize   = 1e15 - 1
	maxListed = 3000
	// maxForeign is how many objects are read that are no tree heads before the search is given up.
	maxForeign = 20
	// maxNote is more than any tree head has.
	maxNote = 16 << 10
)

// errTaken says that where a tree head belongs there is something else.
var errTaken = errors.New("it is not the tree head that belongs there: the log's name is used twice, or somebody else writes to the bucket")

// Bucket writes tree heads as objects of an S3 store, under a prefix and the log's name:
//
//	checkpoint                   the newest note, replaced
//	heads/000/000/000/041/250    the note of the head of size 41250, never replaced
//
// What has the largest size comes last in the order of S3, and is found by five listings of a thousand names at most, whatever checkpoint says.
// It needs permission to put, get and list objects, and works where nothing can be deleted or overwritten for good (versions, object lock).
// Processes may write at the same time.
type Bucket struct {
	store     *minio.Core
	transport *http.Transport
	bucket    string
	// folder is that of the log, with a slash at the end.
	folder   string
	verifier note.Verifier
	// hide replaces secrets in what the store says.
	hide *strings.Replacer
}

// NewBucket makes a Bucket, which connects when something is published, and is to be closed. Only heads that verify are taken for published ones.
func NewBucket(settings BucketSettings, verifier note.Verifier) (*Bucket, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	name, prefix, err := settings.bucket()
	if err != nil {
		return nil, err
	}
	endpoint, region, err := settings.endpoint()
	if err != nil {
		return nil, err
	}
	secure := endpoint.Scheme == "https"
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to %s: %w", endpoint.Host, err)
	}
	store, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(settings.AccessKeyID, settings.SecretAccessKey, settings.SessionToken),
		Secure: secure, Region: region, Transport: transport, MaxRetries: 1, // whoever publishes tries again
	})
	if err != nil {
		return nil, fmt.Errorf("set up the connection to %s: %w", endpoint.Host, err)
	}
	if prefix != "" {
		prefix += "/"
	}
	secrets := []string{settings.SecretAccessKey, "…"}
	if settings.SessionToken != "" {
		secrets = append(secrets, settings.SessionToken, "…")
	}
	return &Bucket{
		store: store, transport: transport, bucket: name, folder: prefix + verifier.Name() + "/", verifier: verifier,
		hide: strings.NewReplacer(secrets...),
	}, nil
}

// Close lets go of connections. It is called after everything else.
func (b *Bucket) Close() { b.transport.CloseIdleConnections() }

// Publish writes the head. When there is one already that says the same, it counts as published.
func (b *Bucket) Publish(ctx context.Context, signed storedtree.SignedHead) error {
	head, err := tree.OpenHead(signed.Note, b.verifier)
	if err != nil {
		return err
	}
	if head.Size > maxSize {
		return fmt.Errorf("a log of %d rows is too large for a bucket, which takes %d", head.Size, int64(maxSize))
	}
	key := b.folder + "heads/" + sizePath(head.Size)
	if err := b.create(ctx, key, head, signed.Note); err != nil {
		return err
	}
	checkpoint := b.folder + Checkpoint
	newest, err := b.get(ctx, checkpoint)
	if err != nil || b.open(newest).Size >= head.Size { // of another process, which is further
		return err
	}
	return b.put(ctx, checkpoint, signed.Note, minio.PutObjectOptions{})
}

// Published gives the largest head that verifies, whether checkpoint is there, old, or forged.
func (b *Bucket) Published(ctx context.Context) (storedtree.SignedHead, error) {
	newest, err := b.get(ctx, b.folder+Checkpoint)
	if err != nil {
		return storedtree.SignedHead{}, err
	}
	foreign := 0
	last, err := b.last(ctx, b.folder+"heads/", 1, &foreign)
	if err != nil {
		return storedtree.SignedHead{}, err
	}
	if head := b.open(newest); head.Size > last.Size {
		return storedtree.SignedHead{Size: head.Size, Note: newest}, nil
	}
	return last, nil
}

// create writes an object that is not there yet. Two processes may have signed the same tree at different times: then the first one's stays.
func (b *Bucket) create(ctx context.Context, key string, head tree.Head, signed []byte) error {
	there, err := b.stands(ctx, key, head)
	if err != nil || there {
		return err
	}
	var once minio.PutObjectOptions
	once.SetMatchETagExcept("*")
	err = b.put(ctx, key, signed, once)
	refused, _ := errors.AsType[minio.ErrorResponse](err)
	switch refused.StatusCode {
	case http.StatusNotImplemented: // the store has no conditions: it was not there a moment ago
		return b.put(ctx, key, signed, minio.PutObjectOptions{})
	case http.StatusPreconditionFailed: // another process was quicker
		if there, err := b.stands(ctx, key, head); err != nil || there {
			return err
		}
	}
	return err
}

// stands tells whether the object is there, which is an error when it is another.
func (b *Bucket) stands(ctx context.Context, key string, head tree.Head) (bool, error) {
	signed, err := b.get(ctx, key)
	if err != nil || signed == nil {
		return false, err
	}
	if other := b.open(signed); other.Size != head.Size || other.Root != head.Root {
		return false, fmt.Errorf("%s: %w", key, errTaken)
	}
	return true, nil
}

// last finds the last head in a folder, on a level from 1.
func (b *Bucket) last(ctx context.Context, folder string, level int, foreign *int) (storedtree.SignedHead, error) {
	names, err := b.list(ctx, folder, level == levels)
	if err != nil {
		return storedtree.SignedHead{}, err
	}
	for _, name := range slices.Backward(names) {
		if level < levels {
			if found, err := b.last(ctx, folder+name, level+1, foreign); err != nil || found.Size > 0 {
				return found, err
			}
			continue
		}
		signed, err := b.get(ctx, folder+name)
		if err != nil {
			return storedtree.SignedHead{}, err
		}
		if size := b.open(signed).Size; size > 0 && b.folder+"heads/"+sizePath(size) == folder+name {
			return storedtree.SignedHead{Size: size, Note: signed}, nil
		}
		if *foreign++; *foreign > maxForeign {
			return storedtree.SignedHead{}, fmt.Errorf("the last %d objects in %sheads/ are no tree heads of this log: somebody else writes to the bucket",
				*foreign, b.folder)
		}
	}
	return storedtree.SignedHead{}, nil
}

// list gives the names of digits in a folder, in order: those of folders, with a slash, or those of objects.
func (b *Bucket) list(ctx context.Context, folder string, objects bool) ([]string, error) {
	shape := regexp.MustCompile(`^[0-9]{3}/$`)
	if objects {
		shape = regexp.MustCompile(`^[0-9]{3}$`)
	}
	var names []string
	listed := 0
	for entry := range b.store.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: folder}) {
		if entry.Err != nil {
			return nil, b.failed("list", folder, entry.Err)
		}
		if name := strings.TrimPrefix(entry.Key, folder); shape.MatchString(name) {
			names = append(names, name)
		}
		if listed++; listed > maxListed {
			return nil, fmt.Errorf("%s has more in it than there are tree heads: somebody else writes to the bucket", folder)
		}
	}
	if ctx.Err() != nil { // then the listing just ends
		return nil, b.failed("list", folder, ctx.Err())
	}
	slices.Sort(names)
	return names, nil
}

// get reads an object; it is nil when there is none.
func (b *Bucket) get(ctx context.Context, key string) ([]byte, error) {
	body, _, _, err := b.store.GetObject(ctx, b.bucket, key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil, nil
	}
	if err != nil {
		return nil, b.failed("read", key, err)
	}
	text, err := io.ReadAll(io.LimitReader(body, maxNote))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, b.failed("read", key, err)
	}
	return text, nil
}

// put writes an object, with the checksum that buckets with object lock want.
func (b *Bucket) put(ctx context.Context, key string, text []byte, options minio.PutObjectOptions) error {
	options.ContentType, options.CacheControl, options.DisableContentSha256 = "text/plain; charset=utf-8", "no-cache", true
	check, digest := md5.Sum(text), sha256.Sum256(text) //nolint:gosec // see the import
	_, err := b.store.PutObject(ctx, b.bucket, key, bytes.NewReader(text), int64(len(text)),
		base64.StdEncoding.EncodeToString(check[:]), hex.EncodeToString(digest[:]), options)
	if err != nil {
		return b.failed("write", key, err)
	}
	return nil
}

// open reads a head, which is empty unless it verifies.
func (b *Bucket) open(signed []byte) tree.Head {
	head, err := tree.OpenHead(signed, b.verifier)
	if err != nil {
		return tree.Head{}
	}
	return head
}

// failed says what the store said, without what it must not know either.
func (b *Bucket) failed(did, key string, err error) error {
	if refused, ok := errors.AsType[minio.ErrorResponse](err); ok {
		refused.Message = b.hide.Replace(refused.Error())
		return fmt.Errorf("%s s3://%s/%s: %s: %w", did, b.bucket, key, refused.Code, refused)
	}
	return fmt.Errorf("%s s3://%s/%s: %w", did, b.bucket, key, err)
}

// sizePath is the size as folders of three digits.
func sizePath(size int64) string {
	text := fmt.Sprintf("%0*d", digits, size)
	var path []string
	for part := range slices.Chunk([]byte(text), perLevel) {
		path = append(path, string(part))
	}
	return strings.Join(path, "/")
}
