package actionhttp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/actionhttp"
)

// serveFiles is serve with a component that has files.
func serveFiles(t *testing.T, handler http.HandlerFunc) (string, *actionhttp.Component, *file.Store, *testkit.NATSServer) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	messages := testkit.NATS(t)
	conn, err := bus.New(messages.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, conn.Provision(t.Context()))
	network, err := outbound.New([]string{server.Listener.Addr().String()}, clock.System)
	require.NoError(t, err)
	t.Cleanup(network.Close)
	files := file.NewStore(conn.JS)
	return server.URL, actionhttp.New(network, files), files, messages
}

func random(t *testing.T, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	_, err := rand.Read(data)
	require.NoError(t, err)
	return data
}

func content(t *testing.T, files *file.Store, id string) []byte {
	t.Helper()
	reader, _, err := files.Open(t.Context(), "cust_001", id)
	require.NoError(t, err)
	data, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	return data
}

func TestAnswerAsFile(t *testing.T) {
	t.Parallel()
	picture := random(t, 3<<20)
	base, c, files, _ := serveFiles(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		if disposition := r.URL.Query().Get("disposition"); disposition != "" {
			w.Header().Set("Content-Disposition", disposition)
		}
		if r.URL.Path != "/empty" {
			_, _ = w.Write(picture)
		}
	})
	long := strings.Repeat("ä", 150)
	for _, test := range []struct{ path, contentType, disposition, wantName, wantType string }{
		{"/a/logo.png", "image/png", "", "logo.png", "image/png"},
		{"/", "", "", "find", "application/octet-stream"},
		{"/x", "Text/HTML; Charset=utf-8", `attachment; filename="re port.html"`, "re port.html", "text/html; charset=utf-8"},
		{"/x", "no type at all", "attachment; filename*=UTF-8''%e2%82%ac.txt", "€.txt", "application/octet-stream"},
		{"/x", "a/b", `attachment; filename="../../etc/passwd"`, "passwd", "a/b"},
		{"/x", "a/b", `attachment; filename="..\\..\\boot.ini"`, "boot.ini", "a/b"},
		{"/x", "a/b", `attachment; filename=".."`, "x", "a/b"},
		{"/x", "a/b", `attachment; filename*=UTF-8''a%0d%0ab%00`, "a__b_", "a/b"},
		{"/x/..%2f" + long, "a/b", "", strings.Repeat("ä", 100), "a/b"},
	} {
		output, err := execute(t, c, with{"url": base + test.path, "response": "file", "query": with{
			"type": test.contentType, "disposition": test.disposition,
		}})
		require.NoError(t, err)
		assert.Equal(t, with{
			"file": "e1.find", "name": test.wantName, "content_type": test.wantType, "size": float64(len(picture)),
		}, output["body"])
	}
	assert.Equal(t, picture, content(t, files, "e1.find"))
	_, _, err := files.Open(t.Context(), "cust_002", "e1.find")
	require.ErrorIs(t, err, file.ErrNotFound)

	output, err := execute(t, c, with{"url": base + "/empty", "response": "file"})
	require.NoError(t, err)
	body, _ := output["body"].(with)
	assert.Zero(t, body["size"])
	assert.Empty(t, content(t, files, "e1.find"), "another attempt has replaced it")
}

func TestItemsHaveFilesOfTheirOwn(t *testing.T) {
	t.Parallel()
	base, c, files, _ := serveFiles(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }) //nolint:gosec // no browser
	for item, path := range []string{"/a", "/b-hush"} {
		result, err := c.Execute(t.Context(), &component.Call{
			Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "find", Item: &item,
			With:   with{"url": base + path, "response": "file"},
			Redact: func(text string) string { return strings.ReplaceAll(text, "hush", "[secret:x]") },
		})
		require.NoError(t, err)
		output, _ := result.Output.(map[string]any)
		body, _ := output["body"].(map[string]any)
		assert.NotContains(t, body["name"], "hush")
	}
	assert.Equal(t, "/a", string(content(t, files, "e1.find.0")))
	assert.Equal(t, "/b-hush", string(content(t, files, "e1.find.1")))
}

func TestAnswersThatBecomeNoFile(t *testing.T) {
	t.Parallel()
	base, c, files, messages := serveFiles(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = w.Write(make([]byte, file.MaxBytes+1))
		case "/broken":
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(make([]byte, 500_000))
		case "/stalled":
			_, _ = w.Write(make([]byte, 500_000))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/refused":
			w.WriteHeader(http.StatusForbidden)
		}
	})
	for path, want := range map[string]problem.Error{
		"/large":   {Code: problem.StateTooLarge},
		"/broken":  {Code: problem.Connection, Retryable: true},
		"/stalled": {Code: problem.Timeout, Retryable: true},
		"/refused": {Code: problem.Upstream4xx},
	} {
		timeout := time.Minute
		if want.Code == problem.Timeout {
			timeout = 300 * time.Millisecond
		}
		_, err := executeIn(t, c, with{"url": base + path, "response": "file"}, timeout)
		requireProblem(t, err, want.Code, want.Retryable)
	}
	_, _, err := files.Open(t.Context(), "cust_001", "e1.find")
	require.ErrorIs(t, err, file.ErrNotFound)
	messages.Shutdown()
	_, err = executeIn(t, c, with{"url": base, "response": "file"}, time.Second)
	var found *problem.Error
	require.ErrorAs(t, err, &found)
	assert.True(t, found.Retryable)
}

func TestBodyOfFile(t *testing.T) {
	t.Parallel()
	type seen struct {
		contentType, length string
		body                []byte
	}
	requests := make(chan seen, 10)
	base, c, files, messages := serveFiles(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		requests <- seen{r.Header.Get("Content-Type"), r.Header.Get("Content-Length"), body}
		if r.URL.Path == "/moved" {
			w.Header().Set("Location", "/here")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	picture := random(t, 1<<20)
	put := func(customer, id, contentType string, data []byte) with {
		ref, err := files.Put(t.Context(), customer, file.Ref{ID: id, Name: "a.png", ContentType: contentType}, bytes.NewReader(data))
		require.NoError(t, err)
		return ref.Value()
	}
	png := put("cust_001", "f1", "image/png", picture)
	_, err := execute(t, c, with{"url": base, "method": "PUT", "body_file": png})
	require.NoError(t, err)
	got := <-requests
	assert.Equal(t, "image/png", got.contentType)
	assert.Equal(t, "1048576", got.length)
	assert.True(t, bytes.Equal(picture, got.body))

	_, err = execute(t, c, with{"url": base + "/moved", "method": "POST", "body_file": png, "headers": with{"content-type": "x/y"}})
	require.NoError(t, err)
	for range 2 { // the redirect gets all of it too
		got = <-requests
		assert.Equal(t, "x/y", got.contentType)
		assert.True(t, bytes.Equal(picture, got.body))
	}

	_, err = execute(t, c, with{"url": base, "method": "PUT", "body_file": put("cust_001", "f2", "a/b\r\nX-A: c", nil)})
	require.NoError(t, err)
	got = <-requests
	assert.Equal(t, seen{"application/octet-stream", "0", []byte{}}, got)

	put("cust_002", "theirs", "image/png", picture)
	for _, id := range []string{"none", "theirs", "../cust_002/theirs", "cust_002/theirs", "*", ">", strings.Repeat("x", 5000)} {
		_, err = execute(t, c, with{"url": base, "method": "PUT", "body_file": with{"file": id}})
		requireProblem(t, err, problem.FileUnavailable, false)
	}
	messages.Shutdown()
	_, err = executeIn(t, c, with{"url": base, "method": "PUT", "body_file": png}, time.Second)
	requireProblem(t, err, problem.Unavailable, true)
	assert.Empty(t, requests)
}

// TestFileIsLetGo: a call that the breaker stops leaves no reader of the file behind; goleak looks for it.
func TestFileIsLetGo(t *testing.T) {
	t.Parallel()
	base, c, files, _ := serveFiles(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	ref, err := files.Put(t.Context(), "cust_001", file.Ref{ID: "f1"}, bytes.NewReader(random(t, 1<<20)))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20 {
		_, err = c.Execute(ctx, &component.Call{
			Execution: subject.Execution{Customer: "cust_001", ID: "e1"}, Step: "find", With: with{"url": base, "body_file": ref.Value(), "method": "POST"},
		})
		require.Error(t, err)
	}
	requireProblem(t, err, problem.CircuitOpen, true)
}
