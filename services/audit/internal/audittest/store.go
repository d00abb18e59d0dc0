package audittest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require" //nolint:depguard // this package is for tests
	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/services/audit/internal/publish"
)

// Who may write to a Store, and where.
const (
	accessKey   = "GALLEYTESTKEY"
	storeSecret = "top/secret+of+the+store"
	storeBucket = "heads"
)

// Store is an S3 store in memory with one bucket, which lets nobody delete anything and wants checksums, as one with object lock does.
type Store struct {
	server *httptest.Server
	s3     http.Handler
	memory gofakes3.Backend

	mutex sync.Mutex
	// mood is asked before each request; it is answered when that is true.
	mood     func(w http.ResponseWriter, r *http.Request) bool
	requests []string
}

// NewStore makes a Store, which is closed after the test.
func NewStore(tb testing.TB) *Store {
	tb.Helper()
	s := &Store{memory: s3mem.New()}
	require.NoError(tb, s.memory.CreateBucket(storeBucket))
	s.s3 = gofakes3.New(s.memory, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	tb.Cleanup(s.server.Close)
	return s
}

// Settings are those of a folder in the bucket.
func (s *Store) Settings(prefix string) publish.BucketSettings {
	return publish.BucketSettings{
		URL: "s3://" + storeBucket + "/" + prefix, AccessKeyID: accessKey, SecretAccessKey: storeSecret, Endpoint: s.server.URL,
	}
}

// Bucket opens a folder of the bucket.
func (s *Store) Bucket(tb testing.TB, settings publish.BucketSettings, key note.Verifier) *publish.Bucket {
	tb.Helper()
	b, err := publish.NewBucket(settings, key)
	require.NoError(tb, err)
	tb.Cleanup(b.Close)
	return b
}

// Mood has every request go through mood first; it is answered when that is true. Without one the store does what it should.
func (s *Store) Mood(mood func(w http.ResponseWriter, r *http.Request) bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.mood = mood
}

// Requests gives the method and path of the requests since it was called last.
func (s *Store) Requests() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

// Put puts an object there, as the owner of the bucket can.
func (s *Store) Put(tb testing.TB, key string, content []byte) {
	tb.Helper()
	metadata := map[string]string{"Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"}
	_, err := s.memory.PutObject(storeBucket, key, metadata, bytes.NewReader(content), int64(len(content)), nil)
	require.NoError(tb, err)
}

// Delete deletes an object.
func (s *Store) Delete(tb testing.TB, key string) {
	tb.Helper()
	_, err := s.memory.DeleteObject(storeBucket, key)
	require.NoError(tb, err)
}

// Objects are all keys with what is there.
func (s *Store) Objects(tb testing.TB) map[string]string {
	tb.Helper()
	list, err := s.memory.ListBucket(storeBucket, nil, gofakes3.ListBucketPage{})
	require.NoError(tb, err)
	objects := map[string]string{}
	for _, entry := range list.Contents {
		object, err := s.memory.GetObject(storeBucket, entry.Key, nil)
		require.NoError(tb, err)
		content, err := io.ReadAll(object.Contents)
		require.NoError(tb, err)
		require.NoError(tb, object.Contents.Close())
		objects[entry.Key] = string(content)
	}
	return objects
}

// Refuse answers as S3 does.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	mood := s.mood
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mutex.Unlock()
	switch {
	case mood != nil && mood(w, r):
	case !strings.Contains(r.Header.Get("Authorization"), "Credential="+accessKey+"/"):
		Refuse(w, http.StatusForbidden, "InvalidAccessKeyId", "The key is not known.")
	case r.Method != http.MethodPut && r.Method != http.MethodGet:
		Refuse(w, http.StatusForbidden, "AccessDenied", "Access denied.")
	case r.Method == http.MethodPut && r.Header.Get("Content-Md5") == "":
		Refuse(w, http.StatusBadRequest, "InvalidRequest", "Content-MD5 is required with object lock.")
	default:
		s.s3.ServeHTTP(w, r)
	}
}
