package sandbox

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/pkg/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTest(t *testing.T) *sandbox {
	t.Helper()
	s, err := newSandbox(Config{Clock: func() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }})
	require.NoError(t, err)
	return s
}

func TestSearchFindsExactlyWhatFits(t *testing.T) {
	t.Parallel()
	directory := NewDirectory()
	californian := func(b Business) bool { return b.Trade == "dentist" && b.State == "California" }
	for query, fits := range map[string]func(Business) bool{
		"dentists in california":           californian,
		"Dentist, California":              californian,
		"CALIFORNIA   dentists!":           californian,
		"the best bakery near Los Angeles": func(b Business) bool { return b.Trade == "bakery" && b.City == "Los Angeles" },
		"plumbers and electricians in Portland, Oregon": func(b Business) bool {
			return (b.Trade == "plumber" || b.Trade == "electrician") && b.City == "Portland"
		},
		"florists in new york": func(b Business) bool { return b.Trade == "florist" && b.State == "New York" },
		"lawyers":              func(b Business) bool { return b.Trade == "lawyer" },
		"seattle":              func(b Business) bool { return b.City == "Seattle" },
		"dentists chen":        func(b Business) bool { return b.Trade == "dentist" && strings.HasPrefix(b.Name, "Chen ") },
		"o'brien":              func(b Business) bool { return strings.HasPrefix(b.Name, "O'Brien ") },
	} {
		wanted := 0
		for _, b := range directory.businesses {
			if fits(b) {
				wanted++
			}
		}
		found := directory.Search(query)
		assert.NotEmpty(t, found, query)
		assert.Len(t, found, wanted, query)
		for i, b := range found {
			assert.True(t, fits(b), "%s: %+v", query, b)
			assert.True(t, i == 0 || found[i-1].Rating >= b.Rating, "%s: the best rated first", query)
		}
	}
	for _, query := range []string{"", "in the", "dentists in atlantis", "astronauts in texas", "portland, texas", "'; DROP TABLE"} {
		assert.Empty(t, directory.Search(query), query)
	}
}

func TestSampleDataIsFictionAndStaysTheSame(t *testing.T) {
	t.Parallel()
	directory := NewDirectory()
	assert.Equal(t, directory.businesses, NewDirectory().businesses)
	assert.Greater(t, len(directory.businesses), 300)
	ids := map[string]bool{}
	for _, b := range directory.businesses {
		assert.Regexp(t, regexp.MustCompile(`^\(\d{3}\) 555-01\d\d$`), b.Phone)
		assert.Regexp(t, regexp.MustCompile(`^https://[\p{L}\d-]+\.example$`), b.Website)
		assert.False(t, ids[b.ID], b.ID)
		ids[b.ID] = true
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	handler := newTest(t).handler()
	get := func(target string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
		return w
	}
	search := func(query string) Answer {
		w := get("/search?q=" + url.QueryEscape(query))
		require.Equal(t, http.StatusOK, w.Code)
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		var answer Answer
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		assert.Equal(t, query, answer.Query)
		assert.Equal(t, Notice, answer.Notice)
		return answer
	}

	dentists := search("dentists in california")
	assert.Len(t, dentists.Results, dentists.Total)
	assert.NotEqual(t, dentists.Results, search("plumbers in texas").Results)
	most := search("california")
	assert.Len(t, most.Results, maxResults)
	assert.Greater(t, most.Total, maxResults)
	assert.Contains(t, get("/search?q=atlantis").Body.String(), `"results":[]`)

	for _, target := range []string{"/search", "/search?q=", "/search?q=" + strings.Repeat("x", maxQueryLength+1)} {
		w := get(target)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Body.String(), "/search?q=")
	}
	root := get("/")
	assert.Equal(t, http.StatusOK, root.Code)
	assert.Contains(t, root.Body.String(), Notice)
	assert.Contains(t, root.Body.String(), "/mailbox")
	assert.Equal(t, "nosniff", root.Header().Get("X-Content-Type-Options"))
	assert.Equal(t, http.StatusNotFound, get("/elsewhere").Code)
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // to find a free port
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func TestServeUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	addr := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	err = Serve(ctx, Config{HTTPAddr: taken.Addr().String(), SMTPAddr: addr, Clock: clock.System})
	require.ErrorContains(t, err, "serve the sandbox")
	err = Serve(ctx, Config{HTTPAddr: addr, SMTPAddr: taken.Addr().String(), Clock: clock.System})
	require.ErrorContains(t, err, "serve the mailbox of the sandbox")

	served := make(chan error, 1)
	mail := freeAddress(t)
	go func() { served <- Serve(ctx, Config{HTTPAddr: addr, SMTPAddr: mail, Clock: clock.System}) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	require.Eventually(t, func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
		require.NoError(t, err)
		response, err := client.Do(request)
		if err != nil {
			return false
		}
		body, err := io.ReadAll(response.Body)
		require.NoError(t, response.Body.Close())
		return err == nil && strings.Contains(string(body), mail)
	}, 10*time.Second, 5*time.Millisecond)
	stalled, err := net.Dial("tcp", mail) //nolint:noctx // it does not wait
	require.NoError(t, err)
	defer func() { require.NoError(t, stalled.Close()) }()
	_, err = stalled.Read(make([]byte, 1)) // the greeting has begun: the server has the connection
	require.NoError(t, err)
	cancel()
	require.NoError(t, <-served, "a client that stays does not keep it")
}
