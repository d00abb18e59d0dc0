package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
)

const files = "/api/v1/files"

// upload sends a body that is not read into memory, of known length or in chunks.
func (s *server) upload(t *testing.T, key, path string, body io.Reader, length int64, contentType string) *reply {
	t.Helper()
	if length >= 0 {
		body = io.LimitReader(body, length)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+path, body)
	require.NoError(t, err)
	request.ContentLength = length
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", contentType)
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return &reply{status: response.StatusCode, header: response.Header, body: text}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	other := s.customer(t, "bob")
	for _, size := range []int{0, 1, 8 << 10, 8<<10 + 1, 1<<20 + 1, file.MaxBytes} {
		content := make([]byte, size)
		_, _ = rand.Read(content)
		for _, length := range []int64{int64(size), -1} {
			got := s.upload(t, key, files+"?name="+url.QueryEscape("Über \"uns\".png"), bytes.NewReader(content), length, "Image/PNG; A=b")
			require.Equal(t, 201, got.status, string(got.body))
			var made httpapi.File
			got.into(t, &made)
			assert.Equal(t, httpapi.File{ID: made.ID, Name: "Über \"uns\".png", ContentType: "image/png; a=b", Size: int64(size)}, made)
			assert.Equal(t, files+"/"+made.ID, got.header.Get("Location"))

			got = s.call(t, key, "GET", files+"/"+made.ID, nil)
			require.Equal(t, 200, got.status)
			assert.True(t, bytes.Equal(content, got.body))
			assert.Equal(t, "image/png; a=b", got.header.Get("Content-Type"))
			assert.Equal(t, strconv.Itoa(size), got.header.Get("Content-Length"))
			assert.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
			assert.Equal(t, "no-store", got.header.Get("Cache-Control"))
			disposition, parameters, err := mime.ParseMediaType(got.header.Get("Content-Disposition"))
			require.NoError(t, err)
			assert.Equal(t, "attachment", disposition)
			assert.Equal(t, "Über \"uns\".png", parameters["filename"])

			assert.Equal(t, "NOT_FOUND", s.call(t, other, "GET", files+"/"+made.ID, nil).problem(t).Code)
		}
	}
}

func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	store := file.NewStore(s.bus.JS)
	// Components name files too, and may have been told anything.
	for id, ref := range map[string]file.Ref{
		"e1.find":   {Name: "../../etc/passwd", ContentType: "text/html"},
		"e1.find.0": {Name: "a\r\nX-Evil: 1\"; filename=b", ContentType: "a/b\r\nX-Evil: 1"},
		"e1.find.1": {Name: "", ContentType: ""},
		"e1.find.2": {Name: "\xff\x00", ContentType: strings.Repeat("x", 1000)},
	} {
		ref.ID = id
		_, err := store.Put(t.Context(), "alice", ref, strings.NewReader("<script>"))
		require.NoError(t, err)
		got := s.call(t, key, "GET", files+"/"+id, nil)
		require.Equal(t, 200, got.status)
		assert.Empty(t, got.header.Get("X-Evil"))
		assert.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
		disposition, parameters, err := mime.ParseMediaType(got.header.Get("Content-Disposition"))
		require.NoError(t, err, got.header.Get("Content-Disposition"))
		assert.Equal(t, "attachment", disposition)
		assert.NotContains(t, parameters["filename"], "/")
	}
	var made httpapi.File
	s.upload(t, key, files, strings.NewReader("x"), 1, "").into(t, &made)
	assert.Equal(t, httpapi.File{ID: made.ID, Name: made.ID, ContentType: "application/octet-stream", Size: 1}, made)
}

func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	for name, test := range map[string]struct {
		path, contentType, code, places string
		body                            io.Reader
		length                          int64
		status                          int
	}{
		"a byte too long":         {files, "a/b", "PAYLOAD_TOO_LARGE", "", endless{}, file.MaxBytes + 1, 413},
		"far too long":            {files, "a/b", "PAYLOAD_TOO_LARGE", "", endless{}, 50 << 20, 413},
		"endless":                 {files, "a/b", "PAYLOAD_TOO_LARGE", "", io.LimitReader(endless{}, 40<<20), -1, 413},
		"a name with a slash":     {files + "?name=a%2fb", "a/b", "INVALID_REQUEST", "query:/name", strings.NewReader("x"), 1, 422},
		"a name over two lines":   {files + "?name=a%0d%0ab", "a/b", "INVALID_REQUEST", "query:/name", strings.NewReader("x"), 1, 422},
		"a name that is too long": {files + "?name=" + strings.Repeat("x", 201), "a/b", "INVALID_REQUEST", "query:/name", strings.NewReader("x"), 1, 422},
		"no media type":           {files, "nonsense type", "INVALID_REQUEST", "header:/Content-Type", strings.NewReader("x"), 1, 422},
		"another parameter":       {files + "?x=1", "a/b", "INVALID_REQUEST", "query:/x", strings.NewReader("x"), 1, 422},
		"another customer":        {files + "?customer_id=bob", "a/b", "FORBIDDEN", "", endless{}, 10 << 20, 403},
		// Only uploads may be long.
		"a path that is near": {files + "/", "a/b", "PAYLOAD_TOO_LARGE", "", endless{}, 2 << 20, 413},
		"an escaped path":     {"/api/v1/%66iles", "a/b", "PAYLOAD_TOO_LARGE", "", endless{}, 2 << 20, 413},
		"another operation":   {execute, "application/json", "PAYLOAD_TOO_LARGE", "", io.LimitReader(endless{}, 2<<20), -1, 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := s.upload(t, key, test.path, test.body, test.length, test.contentType).problem(t)
			assert.Equal(t, []any{test.status, test.code, test.places}, []any{p.Status, p.Code, places(p)})
		})
	}
	p := s.upload(t, "gk_nonsense", files, endless{}, file.MaxBytes, "a/b").problem(t)
	assert.Equal(t, "UNAUTHENTICATED", p.Code)
	for id, status := range map[string]int{"nothing": 404, "a%2fb": 422, "-x": 422, "%2e%2e": 422, strings.Repeat("x", 201): 422, "%c3%bc": 422} {
		assert.Equal(t, status, s.call(t, key, "GET", files+"/"+id, nil).problem(t).Status, id)
	}
}

// endless repeats a byte.
type endless struct{}

// Read implements io.Reader.
func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestUnreadBodies: what is left of a body is never taken for another request of the same connection.
func TestUnreadBodies(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	smuggled := "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, head := range map[string]string{
		"no key":           "POST " + files + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"refused":          "POST " + files + "?name=/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nContent-Length: 100000\r\n\r\n",
		"chunked, refused": "POST " + files + "?name=/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
		"too large":        "POST " + execute + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nContent-Length: 2000000\r\n\r\n",
		"bad chunk":        "POST " + execute + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"bad address":      "POST /api/v1/%zz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := s.dial(t)
			_, err := io.WriteString(conn, head+strings.Repeat("x", 9000)+strings.Repeat(smuggled, 1000))
			require.NoError(t, err)
			reader := bufio.NewReader(conn)
			response, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			_, err = io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			assert.GreaterOrEqual(t, response.StatusCode, 400)
			assert.True(t, response.Close)
			rest, _ := io.ReadAll(reader)
			assert.Empty(t, rest)
		})
	}
}

// TestBodiesThatBreakOff: what came of a body is not taken for all of it.
func TestBodiesThatBreakOff(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	executed := make(chan struct{}, 10)
	s.answerWith(t, func(ctx context.Context, command accept.Command) (accept.Outcome, error) {
		executed <- struct{}{}
		return success(ctx, command)
	})
	body := `{"agent_id":"cook","recipe_id":"soup"}`
	for _, head := range []string{
		"POST " + execute + " HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\nAuthorization: Bearer " + key + "\r\n\r\n" + body + strings.Repeat(" ", 20_000),
		"POST " + execute + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer " + key + "\r\n\r\n26\r\n" + body + "\r\n",
		"POST " + files + " HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\nAuthorization: Bearer " + key + "\r\n\r\n" + strings.Repeat("x", 20_000),
		"POST " + files + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer " + key + "\r\n\r\n1\r\nx\r\n",
	} {
		conn := s.dial(t)
		_, err := io.WriteString(conn, head)
		require.NoError(t, err)
		half, ok := conn.(*net.TCPConn)
		require.True(t, ok)
		require.NoError(t, half.CloseWrite())
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil { // to a client that still listens
			assert.Equal(t, 400, answer.StatusCode)
			require.NoError(t, answer.Body.Close())
		}
	}
	assert.Empty(t, executed)
}

// TestConnectionsAreKept: whatever the body of a request looks like, the next one on the connection is answered.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	conn := s.dial(t)
	reader := bufio.NewReader(conn)
	body := `{"agent_id":"cook","recipe_id":"soup","input_data":{"x":"` + strings.Repeat("x", 100_000) + `"}}`
	for _, request := range []string{
		"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /api/v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nContent-Length: 5\r\n\r\nhello",
		"POST " + execute + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", // without a key
		"POST " + execute + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000),
		"POST " + execute + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body,
		"POST " + execute + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n0\r\n\r\n",
		"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20_000),
	} {
		for range 2 {
			_, err := io.WriteString(conn, request)
			require.NoError(t, err)
			response, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.False(t, response.Close, "%.40s", request)
		}
	}
}

func (s *server) dial(t *testing.T) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.base, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return conn
}

// TestTransfersAreBounded: uploads that stall take the customer's places and nobody else's, and give them back.
func TestTransfersAreBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice, bob := s.customer(t, "alice"), s.customer(t, "bob")
	// One more than may be under way: it is the one that gets an answer.
	stalled := make([]net.Conn, 9)
	answers := make(chan *http.Response, len(stalled))
	for i := range stalled {
		stalled[i] = s.dial(t)
		_, err := io.WriteString(stalled[i], "POST "+files+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+alice+"\r\nContent-Length: 9000000\r\n\r\n"+
			strings.Repeat("x", 9000))
		require.NoError(t, err)
		go func() {
			answer, err := http.ReadResponse(bufio.NewReader(stalled[i]), nil) //nolint:bodyclose // it goes with the connection
			if err != nil {
				answer = nil
			}
			answers <- answer
		}()
	}
	refused := <-answers
	require.NotNil(t, refused)
	assert.Equal(t, []any{503, "1"}, []any{refused.StatusCode, refused.Header.Get("Retry-After")})
	small := func(key string) *reply { return s.upload(t, key, files, strings.NewReader("x"), 1, "a/b") }
	p := small(alice).problem(t)
	assert.Equal(t, []any{"UNAVAILABLE", true}, []any{p.Code, p.Retryable})
	assert.Equal(t, 201, small(bob).status)
	for _, conn := range stalled {
		require.NoError(t, conn.Close())
	}
	for range len(stalled) - 1 {
		require.Nil(t, <-answers)
	}
	require.Eventually(t, func() bool { return small(alice).status == 201 }, 30*time.Second, 10*time.Millisecond)
}

// TestDownloadThatIsLeft: a caller who goes away gives his place back.
func TestDownloadThatIsLeft(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	var made httpapi.File
	s.upload(t, key, files, io.LimitReader(endless{}, file.MaxBytes), file.MaxBytes, "a/b").into(t, &made)
	for range 20 {
		conn := s.dial(t)
		_, err := io.WriteString(conn, "GET "+files+"/"+made.ID+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+key+"\r\n\r\n")
		require.NoError(t, err)
		_, _ = conn.Read(make([]byte, 1000))
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { return s.call(t, key, "GET", files+"/"+made.ID, nil).status == 200 }, 30*time.Second, 10*time.Millisecond)
}
