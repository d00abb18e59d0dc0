package publish_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// place is a folder of a store, with the log that publishes there.
type place struct {
	log

	store *audittest.Store
	// folder is that of the log, with a slash at the end.
	folder string
}

func newPlace(t *testing.T) place {
	t.Helper()
	l := newLog(t)
	return place{l, audittest.NewStore(t), "p/" + l.key.Signer.Name() + "/"}
}

// open makes a Bucket, as a process does that starts.
func (p place) open(t *testing.T) *publish.Bucket {
	t.Helper()
	return p.store.Bucket(t, p.store.Settings("p"), p.key.Verifier)
}

func (p place) published(t *testing.T) storedtree.SignedHead {
	t.Helper()
	found, err := p.open(t).Published(t.Context())
	require.NoError(t, err)
	return found
}

// with makes an All over the bucket and what else there is.
func (p place) with(log zerolog.Logger, bucket *publish.Bucket, others ...*publisher) *publish.All {
	all := publish.NewAll(p.key.Verifier, log)
	all.Add("bucket", bucket)
	for _, other := range others {
		all.Add("other", other)
	}
	return all
}

// at is head with another time.
func (l log) at(size int64, when time.Time) storedtree.SignedHead {
	l.Helper()
	head, err := tree.UnverifiedHead(l.head(size).Note)
	require.NoError(l, err)
	head.Time = when
	signed, err := head.Sign(l.key.Signer)
	require.NoError(l, err)
	return storedtree.SignedHead{Size: size, Note: signed}
}

// other is a head of the same name and size, of another tree.
func (l log) other(size int64) storedtree.SignedHead {
	l.Helper()
	head, err := tree.UnverifiedHead(l.head(size).Note)
	require.NoError(l, err)
	head.Root = tree.LeafHash([]byte("another"))
	signed, err := head.Sign(l.key.Signer)
	require.NoError(l, err)
	return storedtree.SignedHead{Size: size, Note: signed}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	assert.Zero(t, p.published(t).Size)
	b := p.open(t)
	for _, size := range []int64{1, 999, 1000, 41250} {
		require.NoError(t, b.Publish(t.Context(), p.head(size)))
		assert.Equal(t, p.head(size), p.published(t))
	}
	want := map[string]string{
		p.folder + "checkpoint":                string(p.head(41250).Note),
		p.folder + "heads/000/000/000/000/001": string(p.head(1).Note),
		p.folder + "heads/000/000/000/000/999": string(p.head(999).Note),
		p.folder + "heads/000/000/000/001/000": string(p.head(1000).Note),
		p.folder + "heads/000/000/000/041/250": string(p.head(41250).Note),
	}
	assert.Equal(t, want, p.store.Objects(t))

	// A process that is behind does not take the newest away.
	require.NoError(t, p.open(t).Publish(t.Context(), p.head(7)))
	assert.Equal(t, p.head(41250), p.published(t))
	assert.Equal(t, string(p.head(41250).Note), p.store.Objects(t)[p.folder+"checkpoint"])

	// Another log is beside it.
	another := place{newLog(t), p.store, ""}
	assert.Zero(t, another.published(t).Size)
	require.NoError(t, another.open(t).Publish(t.Context(), another.head(1000)))
	assert.Equal(t, another.head(1000), another.published(t))
	assert.Equal(t, p.head(41250), p.published(t))

	require.Error(t, b.Publish(t.Context(), another.head(1)), "it does not publish what is not the log's")
	const most = math.MaxInt64
	require.NoError(t, b.Publish(t.Context(), p.head(1e15-1)))
	require.ErrorContains(t, b.Publish(t.Context(), p.head(most)), "too large")
	assert.EqualValues(t, 1e15-1, p.published(t).Size)
}

// TestCheckpointIsNotTrusted: the newest head is found when the checkpoint is gone, forged, or an old one.
func TestCheckpointIsNotTrusted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	b := p.open(t)
	for _, size := range []int64{5, 2_000_000, 3_000_000} {
		require.NoError(t, b.Publish(t.Context(), p.head(size)))
	}
	checkpoint := p.folder + "checkpoint"
	p.store.Delete(t, checkpoint)
	assert.Equal(t, p.head(3_000_000), p.published(t))
	for _, forged := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("x"), 1<<20), newLog(t).head(9_000_000).Note, p.head(5).Note} {
		p.store.Put(t, checkpoint, forged)
		assert.Equal(t, p.head(3_000_000), p.published(t))
	}
	require.NoError(t, b.Publish(t.Context(), p.head(3_000_001)))
	assert.Equal(t, string(p.head(3_000_001).Note), p.store.Objects(t)[checkpoint], "and it is right again")

	// A process died between the two objects, or somebody took the others away.
	p.store.Put(t, checkpoint, p.head(3_000_005).Note)
	assert.Equal(t, p.head(3_000_005), p.published(t))
}

// TestNewestIsFoundInFewRequests, whatever the sizes are.
func TestNewestIsFoundInFewRequests(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	rapid.Check(t, func(rt *rapid.T) {
		p := place{l, audittest.NewStore(t), "p/" + l.key.Signer.Name() + "/"}
		b := p.open(t)
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.Int64Range(1, 1100), rapid.Int64Range(1, 1e7), rapid.Int64Range(1, 1e15-1)), 1, 8).Draw(rt, "sizes")
		for _, size := range sizes {
			require.NoError(rt, b.Publish(t.Context(), p.head(size)))
		}
		p.store.Delete(t, p.folder+"checkpoint")
		p.store.Requests()
		require.Equal(rt, p.head(slices.Max(sizes)), p.published(t))
		require.Len(rt, p.store.Requests(), 7)
	})
}

// TestObjectsStay: what stands where a head belongs is never overwritten.
func TestObjectsStay(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	b := p.open(t)
	key := p.folder + "heads/000/000/000/000/100"
	require.NoError(t, b.Publish(t.Context(), p.head(100)))
	p.store.Requests()
	require.NoError(t, b.Publish(t.Context(), p.head(100)))
	assert.NotContains(t, strings.Join(p.store.Requests(), "\n"), "PUT", "it is there")
	// Another process has signed the same tree.
	require.NoError(t, p.open(t).Publish(t.Context(), p.at(100, time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC))))
	assert.Equal(t, p.head(100), p.published(t))

	for _, content := range [][]byte{p.other(100).Note, newLog(t).head(100).Note, p.head(99).Note, []byte("x")} {
		p.store.Put(t, key, content)
		require.ErrorContains(t, b.Publish(t.Context(), p.head(100)), "the log's name is used twice")
		assert.Equal(t, string(content), p.store.Objects(t)[key])
	}
	require.NoError(t, b.Publish(t.Context(), p.head(101)), "the next head has a place of its own")

	// A copy of an old head in the place of a larger one is none.
	p.store.Put(t, p.folder+"heads/000/000/000/000/900", p.head(100).Note)
	assert.Equal(t, p.head(101), p.published(t))
}

// TestNameUsedTwiceIsSaidLoudly: as an error, by whoever comes second.
func TestNameUsedTwiceIsSaidLoudly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	lines := make(chan string, 1000)
	all := p.with(zerolog.New(lineWriter(lines)), p.open(t))
	_, err := all.Published(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.open(t).Publish(t.Context(), p.other(100)))
	audittest.Start(t, all.Run)
	require.NoError(t, all.Publish(t.Context(), p.head(100)))
	line := <-lines
	assert.Contains(t, line, `"level":"error"`)
	assert.Contains(t, line, "the log's name is used twice")
	require.NoError(t, all.Publish(t.Context(), p.head(200)))
	require.Eventually(t, func() bool { return p.published(t).Size == 200 }, patience, tick)
}

// lineWriter takes the lines of a log.
type lineWriter chan string

func (l lineWriter) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default: // nobody reads any more
	}
	return len(line), nil
}

// TestStoresWithoutConditions: a store that knows no If-None-Match, and one that does and is asked by two at once.
func TestStoresWithoutConditions(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	b := p.open(t)
	conditions := make(chan string, 10)
	p.store.Mood(func(w http.ResponseWriter, r *http.Request) bool {
		condition := r.Header.Get("If-None-Match")
		if condition == "" {
			return false
		}
		conditions <- condition
		audittest.Refuse(w, http.StatusNotImplemented, "NotImplemented", "A header is not implemented.")
		return true
	})
	require.NoError(t, b.Publish(t.Context(), p.head(100)))
	assert.Equal(t, "*", <-conditions)
	require.NoError(t, b.Publish(t.Context(), p.head(100)))
	assert.Equal(t, p.head(100), p.published(t))
	require.ErrorContains(t, b.Publish(t.Context(), p.other(100)), "the log's name is used twice")
	assert.Empty(t, conditions)

	// Another process is quicker, with the same head or with another.
	for size, quicker := range map[int64]storedtree.SignedHead{200: p.head(200), 201: p.other(201)} {
		p.store.Mood(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, strconv.FormatInt(size, 10)) {
				p.store.Put(t, strings.TrimPrefix(r.URL.Path, "/heads/"), quicker.Note)
			}
			return false
		})
		err := b.Publish(t.Context(), p.head(size))
		if size == 200 {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "the log's name is used twice")
		}
	}
}

// TestForeignObjects: what others leave in the folder is passed over, but not for ever.
func TestForeignObjects(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	b := p.open(t)
	require.NoError(t, b.Publish(t.Context(), p.head(41250)))
	for _, name := range []string{"README", "000/x", "zzz/000", "0000", "000/000/000/041/250/x", "000/000/000/041/2500", "900", "900/000"} {
		p.store.Put(t, p.folder+"heads/"+name, []byte("x"))
	}
	for i := range 20 {
		p.store.Put(t, fmt.Sprintf("%sheads/%03d/000/000/000/%03d", p.folder, 1+i/4, i), []byte("x"))
	}
	assert.Equal(t, p.head(41250), p.published(t))
	p.store.Put(t, p.folder+"heads/999/999/999/999/999", newLog(t).head(1e15-1).Note)
	_, err := b.Published(t.Context())
	require.ErrorContains(t, err, "somebody else writes to the bucket")
	for i := range 3001 {
		p.store.Put(t, fmt.Sprintf("%sheads/a%d", p.folder, i), nil)
	}
	_, err = b.Published(t.Context())
	require.ErrorContains(t, err, "has more in it than there are tree heads")
}

// TestInterval: a place that is to be left alone gets a head once in a while, and the newest in the end.
func TestInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		to := newPublisher()
		all := publish.NewAll(l.key.Verifier, zerolog.Nop())
		all.AddEvery(9600*time.Millisecond, "a", to)
		_, err := all.Published(t.Context())
		require.NoError(t, err)
		stop := audittest.Start(t, all.Run)
		for size := range int64(34) {
			require.NoError(t, all.Publish(t.Context(), l.head(size+1)))
			<-time.After(time.Second)
		}
		<-time.After(time.Minute)
		stop()
		for _, size := range []int64{1, 10, 20, 29, 34} {
			assert.Equal(t, l.head(size), <-to.heads)
		}
		assert.Empty(t, to.heads)
	})
}

// TestBucketThatIsAway: others do not notice, and it gets the newest head when it is back.
func TestBucketThatIsAway(t *testing.T) {
	t.Parallel()
	answers := make(chan struct{})
	for name, mood := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"down": func(w http.ResponseWriter, _ *http.Request) bool {
			audittest.Refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "Reduce your request rate.")
			return true
		},
		"slow": func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-r.Context().Done():
			case <-answers:
			}
			return true
		},
		"cut off": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"not a store": func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			require.NoError(t, p.open(t).Publish(t.Context(), p.head(5)))
			b := p.open(t)
			other := newPublisher()
			all := p.with(zerolog.New(zerolog.NewTestWriter(t)), b, other)
			found, err := all.Published(t.Context())
			require.NoError(t, err)
			assert.Equal(t, p.head(5), found)
			p.store.Mood(mood)
			audittest.Start(t, all.Run)
			for _, size := range []int64{6, 7, 8} {
				require.NoError(t, all.Publish(t.Context(), p.head(size)))
				assert.Equal(t, p.head(size), <-other.heads)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			require.Error(t, b.Publish(ctx, p.head(8)))
			_, err = b.Published(ctx)
			require.Error(t, err)
			p.store.Mood(nil)
			if name == "slow" {
				close(answers)
			}
			require.Eventually(t, func() bool { return p.published(t).Size == 8 }, patience, tick)
		})
	}
}

// TestNoBucket: a bucket that does not exist is not one without heads.
func TestNoBucket(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	settings := p.store.Settings("p")
	settings.URL = "s3://nobodys/p"
	b := p.store.Bucket(t, settings, p.key.Verifier)
	_, err := b.Published(t.Context())
	require.ErrorContains(t, err, "NoSuchBucket")
	require.ErrorContains(t, b.Publish(t.Context(), p.head(1)), "NoSuchBucket")
}

// TestSecretsAreNotTold: neither by the store's answer, nor by what is logged of it.
func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	settings := p.store.Settings("p")
	settings.AccessKeyID, settings.SecretAccessKey, settings.SessionToken = "SOMEBODY", "hush/hush+hush", "token-that-expires"
	for name, mood := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"InvalidAccessKeyId": nil,
		"InvalidToken": func(w http.ResponseWriter, r *http.Request) bool {
			audittest.Refuse(w, http.StatusForbidden, "InvalidToken", "No such token: "+r.Header.Get("X-Amz-Security-Token"))
			return true
		},
		"Bad Request": func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, fmt.Sprint(r.Header), http.StatusBadRequest)
			return true
		},
	} {
		p.store.Mood(mood)
		lines := make(chan string, 1000)
		all := p.with(zerolog.New(lineWriter(lines)), p.store.Bucket(t, settings, p.key.Verifier))
		_, err := all.Published(t.Context())
		require.ErrorContains(t, err, name)
		stop := audittest.Start(t, all.Run)
		require.NoError(t, all.Publish(t.Context(), p.head(1)))
		said := err.Error() + <-lines + <-lines
		stop()
		assert.Contains(t, said, "trying again")
		for _, secret := range []string{settings.SecretAccessKey, settings.SessionToken} {
			assert.NotContains(t, said, secret, name)
		}
	}
	p.store.Mood(nil)
	assert.Empty(t, p.store.Objects(t))
}

// TestManyProcesses write to one bucket at the same time, some of them the same heads.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const processes, each = 4, 20
	var done sync.WaitGroup
	for process := range processes {
		b := p.open(t)
		done.Go(func() {
			for i := range each {
				size := int64(i*processes+process)/2 + 1
				assert.NoError(t, b.Publish(t.Context(), p.at(size, time.Date(2026, 3, 1+process, 0, 0, 0, 0, time.UTC))))
			}
		})
	}
	done.Wait()
	assert.Len(t, p.store.Objects(t), processes*each/2+1)
	assert.EqualValues(t, processes*each/2, p.published(t).Size)
}

// TestPrefixes: whatever can be a key can be a prefix.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	for _, prefix := range []string{
		"", "a", "a/b/", "with space", "a+b=c&d?e#f", "per%20cent%2F", "öffentlich/头", "_-.~!*'();:@,$[]", `"<>\|^{}` + "`",
	} {
		store := audittest.NewStore(t)
		b := store.Bucket(t, store.Settings(prefix), l.key.Verifier)
		require.NoError(t, b.Publish(t.Context(), l.head(1)), prefix)
		require.NoError(t, b.Publish(t.Context(), l.head(41250)), prefix)
		folder := strings.TrimSuffix(prefix, "/")
		if folder != "" {
			folder += "/"
		}
		folder += l.key.Signer.Name() + "/"
		objects := store.Objects(t)
		assert.Len(t, objects, 3, prefix)
		assert.Contains(t, objects, folder+"heads/000/000/000/041/250")
		store.Delete(t, folder+"checkpoint")
		found, err := b.Published(t.Context())
		require.NoError(t, err, prefix)
		assert.Equal(t, l.head(41250), found, prefix)
	}
}

func TestBucketSettings(t *testing.T) {
	t.Parallel()
	good := publish.BucketSettings{URL: "s3://heads/galley", AccessKeyID: "AKIA", SecretAccessKey: "hush", Region: "eu-central-1"}
	require.NoError(t, good.Validate())
	require.NoError(t, publish.BucketSettings{Endpoint: "what others need"}.Validate(), "without a bucket they are not looked at")
	for name, test := range map[string]struct {
		change func(s *publish.BucketSettings)
		want   string // empty for none
	}{
		"no prefix":         {func(s *publish.BucketSettings) { s.URL = "s3://heads" }, ""},
		"slash":             {func(s *publish.BucketSettings) { s.URL = "s3://heads/" }, ""},
		"endpoint":          {func(s *publish.BucketSettings) { s.Region, s.Endpoint = "", "http://127.0.0.1:9000/" }, ""},
		"endpoint for S3":   {func(s *publish.BucketSettings) { s.EndpointS3, s.Endpoint = "https://s3.example.com", "nonsense" }, ""},
		"region of others":  {func(s *publish.BucketSettings) { s.Region, s.Endpoint = "auto", "https://r2.example.com" }, ""},
		"no scheme":         {func(s *publish.BucketSettings) { s.URL = "heads/galley" }, "must be s3://bucket or s3://bucket/prefix"},
		"web address":       {func(s *publish.BucketSettings) { s.URL = "https://heads.s3.amazonaws.com" }, "must be s3://bucket"},
		"no bucket":         {func(s *publish.BucketSettings) { s.URL = "s3:///galley" }, "must be s3://bucket"},
		"bucket":            {func(s *publish.BucketSettings) { s.URL = "s3://Heads_1" }, `"Heads_1" is not the name of a bucket`},
		"empty part":        {func(s *publish.BucketSettings) { s.URL = "s3://heads//galley" }, "has a part that is empty"},
		"dots":              {func(s *publish.BucketSettings) { s.URL = "s3://heads/a/../b" }, "has a part that is empty, . or .."},
		"line break":        {func(s *publish.BucketSettings) { s.URL = "s3://heads/a\nb" }, "without control characters"},
		"long":              {func(s *publish.BucketSettings) { s.URL = "s3://heads/" + strings.Repeat("x", 513) }, "at most 512 bytes"},
		"not UTF-8":         {func(s *publish.BucketSettings) { s.URL = "s3://heads/\xff" }, "of UTF-8"},
		"no key":            {func(s *publish.BucketSettings) { s.AccessKeyID = "" }, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"no secret":         {func(s *publish.BucketSettings) { s.SecretAccessKey = "" }, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"secret with break": {func(s *publish.BucketSettings) { s.SecretAccessKey = "hush\n" }, "AWS_SECRET_ACCESS_KEY has a space"},
		"token":             {func(s *publish.BucketSettings) { s.SessionToken = "hush hush" }, "AWS_SESSION_TOKEN has a space"},
		"no region":         {func(s *publish.BucketSettings) { s.Region = "" }, "needs AWS_REGION"},
		"region":            {func(s *publish.BucketSettings) { s.Region = "eu/central" }, `AWS_REGION is "eu/central"`},
		"endpoint's path":   {func(s *publish.BucketSettings) { s.Endpoint = "http://127.0.0.1:9000/hush" }, "AWS_ENDPOINT_URL must be"},
		"endpoint's user":   {func(s *publish.BucketSettings) { s.EndpointS3 = "http://a:hush@127.0.0.1" }, "AWS_ENDPOINT_URL_S3 must be"},
		"endpoint's scheme": {func(s *publish.BucketSettings) { s.Endpoint = "127.0.0.1:9000" }, "AWS_ENDPOINT_URL must be"},
		"several":           {func(s *publish.BucketSettings) { s.URL, s.Region, s.AccessKeyID = "heads", "", "" }, "must be s3://bucket or s3://bucket/prefix\n"},
	} {
		settings := good
		test.change(&settings)
		err := settings.Validate()
		_, made := publish.NewBucket(settings, newLog(t).key.Verifier)
		if test.want == "" {
			require.NoError(t, err, name)
			require.NoError(t, made, name)
			continue
		}
		require.ErrorContains(t, err, test.want, name)
		assert.NotContains(t, err.Error(), "hush", name)
		assert.Equal(t, err, made, name)
	}
}
