package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// watched is a stream of server-sent events that a client reads.
type watched struct {
	lines *bufio.Scanner
}

func (s *server) watch(t *testing.T, key, id string) *watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/api/v1/executions/"+id+"/progress", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	return &watched{lines: bufio.NewScanner(response.Body)}
}

// next gives the next event; its name is empty at the end.
func (w *watched) next(t *testing.T) (name, data string) {
	t.Helper()
	for w.lines.Scan() {
		switch line := w.lines.Text(); {
		case line == "" && name != "":
			return name, data
		case strings.HasPrefix(line, "event: "):
			name = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			data = strings.TrimPrefix(line, "data: ")
		}
	}
	require.NoError(t, w.lines.Err())
	return "", ""
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key, other := s.customer(t, "cust_001"), s.customer(t, "cust_002")
	s.publishParty(t, key)
	s.ran(t, "cust_001", goingID, event.Request{}, []event.Wait{}, "")
	s.ran(t, "cust_001", endedID, event.Request{}, nil, event.StatusSuccess)

	refused := s.call(t, other, "GET", "/api/v1/executions/"+goingID+"/progress", nil)
	assert.Equal(t, "NOT_FOUND", refused.problem(t).Code, "another customer's")
	assert.Equal(t, "NOT_FOUND", s.call(t, key, "GET", "/api/v1/executions/"+askingID+"/progress", nil).problem(t).Code)
	assert.Equal(t, "UNAUTHENTICATED", s.call(t, "", "GET", "/api/v1/executions/"+goingID+"/progress", nil).problem(t).Code)

	ended := s.watch(t, key, endedID)
	name, data := ended.next(t)
	assert.Equal(t, "completed", name)
	var response event.Response
	require.NoError(t, json.Unmarshal([]byte(data), &response))
	assert.Equal(t, event.StatusSuccess, response.Status)
	name, _ = ended.next(t)
	assert.Empty(t, name, "nothing comes after the end")

	execution := subject.Execution{Customer: "cust_001", ID: goingID}
	watch := s.watch(t, key, goingID)
	// The watch may begin after the first of these.
	tell, stop := context.WithCancel(t.Context())
	told := make(chan struct{})
	go func() {
		defer close(told)
		for tell.Err() == nil {
			_ = s.bus.Conn.Publish(subject.Execution{Customer: "cust_002", ID: goingID}.Progress("enrich"), []byte(`{"text":"not yours"}`))
			_ = s.bus.Conn.Publish(execution.Progress("enrich.0"), []byte("{\"text\":\"so\",\n\"sequence\":1}"))
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // until the watch has begun
		}
	}()
	name, data = watch.next(t)
	stop()
	<-told
	assert.Equal(t, "progress", name)
	assert.Equal(t, `{"text":"so","sequence":1}`, data)
	s.ended(t, execution)
	for name == "progress" {
		assert.Equal(t, `{"text":"so","sequence":1}`, data)
		name, data = watch.next(t)
	}
	assert.Equal(t, "completed", name)
	assert.Contains(t, data, `"status":"partial"`)
}
