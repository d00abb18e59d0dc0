package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
)

// TestExampleRecipes runs the recipes of the directory recipes as their users would, against the sandbox.
func TestExampleRecipes(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.start(t)
	assert.NotContains(t, p.out.String(), "The demo:", "%s", &p.out)

	response := i.finished(t, i.begin(t, "discovery", `{"search_query": "plumbers in seattle", "notify": "me@example.com"}`))
	assert.Equal(t, event.StatusSuccess, response.Status, "%v", response.Errors)
	leads := i.mailTo(t, "me@example.com")
	require.Len(t, leads, 1)
	assert.Contains(t, leads[0].Subject, "leads for plumbers in seattle")
	assert.Contains(t, leads[0].Text, "Sandbox model")

	i.outreach(t)

	out := i.succeed(t, "run", "the-clerk", "extraction", "--input",
		`{"document": "INVOICE 2026-118 from Lindqvist Power & Light, 2 x circuit breaker at 45.00, 1 x inspection at 120.00. Total 210.00 USD"}`)
	assert.Contains(t, out, "SUCCESS")
	assert.Contains(t, out, `"currency"`)
	assert.Contains(t, out, "tokens in")

	i.report(t)
	assert.Contains(t, i.succeed(t, "billing", "reconcile"), "0 differences")
}

func (i *installation) outreach(t *testing.T) {
	t.Helper()
	const input = `{"lead": {"id": "biz-0001", "name": "Bergström Dental", "email": "office@bergstrom.example"}, "offer": "a booking page"}`
	id := i.begin(t, "outreach", input)
	i.eventually(t, "somebody is asked", func() bool { return i.standing(t, id).Status == event.StatusWaiting })
	assert.Empty(t, i.mailTo(t, "office@bergstrom.example"), "nothing is sent before the decision")
	i.succeed(t, "executions", "approve", id, "decide")
	response := i.finished(t, id)
	require.Equal(t, event.StatusSuccess, response.Status, "%v", response.Errors)
	assert.Len(t, i.mailTo(t, "office@bergstrom.example"), 1)
	i.eventually(t, "the note is in the audit log", func() bool { return strings.Contains(i.succeed(t, "audit"), "lead_contacted") })

	again := i.finished(t, i.begin(t, "outreach", input))
	assert.Equal(t, event.StatusSuccess, again.Status)
	assert.Contains(t, string(again.Data), `"sent":false`)
	assert.Contains(t, string(again.Data), id, "the store knows which execution has written")
	assert.Len(t, i.mailTo(t, "office@bergstrom.example"), 1)

	rejected := i.begin(t, "outreach", strings.ReplaceAll(input, "biz-0001", "biz-0002"))
	i.eventually(t, "somebody is asked", func() bool { return i.standing(t, rejected).Status == event.StatusWaiting })
	i.succeed(t, "executions", "reject", rejected, "decide")
	response = i.finished(t, rejected)
	assert.Equal(t, event.StatusFailed, response.Status)
	assert.Positive(t, response.Metadata.CreditsConsumed, "what the model has used is spent")
	assert.Len(t, i.mailTo(t, "office@bergstrom.example"), 1)
}

func (i *installation) report(t *testing.T) {
	t.Helper()
	input := `{"search_query": "bakeries in texas", "to": "analyst@example.com"}`
	for n, name := range []string{"first", "second"} {
		at := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339)
		i.succeed(t, "schedules", "create", name, "the-analyst", "report", "--input", input, "--at", at)
		i.eventually(t, "the report has come", func() bool { return len(i.mailTo(t, "analyst@example.com")) == n+1 })
	}
	reports := i.mailTo(t, "analyst@example.com") // the newest first
	assert.Equal(t, "0 new for bakeries in texas", reports[0].Subject)
	assert.NotEqual(t, reports[0].Subject, reports[1].Subject)
}

// mail is a message of the sandbox's mailbox.
type mail struct {
	Kind    string   `json:"kind"`
	To      []string `json:"to"`
	Subject string   `json:"subject"`
	Text    string   `json:"text"`
}

// mailTo gives the e-mails to an address, the newest first.
func (i *installation) mailTo(t *testing.T, address string) []mail {
	t.Helper()
	var box struct {
		Messages []mail `json:"messages"`
	}
	require.NoError(t, json.Unmarshal(i.call(t, "", http.MethodGet, "http://"+i.sandbox+"/mailbox.json", ""), &box))
	var found []mail
	for _, message := range box.Messages {
		if strings.Contains(strings.Join(message.To, " "), address) {
			found = append(found, message)
		}
	}
	return found
}

// begin has a recipe of the hunter run and does not wait for it.
func (i *installation) begin(t *testing.T, recipe, input string) (id string) {
	t.Helper()
	var accepted event.Response
	body := `{"agent_id": "the-hunter", "recipe_id": "` + recipe + `", "input_data": ` + input + `}`
	answer := i.call(t, "demo.key", http.MethodPost, "http://"+i.http+"/api/v1/recipes/execute", body)
	require.NoError(t, json.Unmarshal(answer, &accepted))
	require.NotEmpty(t, accepted.ExecutionID, string(answer))
	return accepted.ExecutionID
}

func (i *installation) standing(t *testing.T, id string) event.Response {
	t.Helper()
	var response event.Response
	require.NoError(t, json.Unmarshal(i.call(t, "demo.key", http.MethodGet, "http://"+i.http+"/api/v1/executions/"+id, ""), &response))
	return response
}

func (i *installation) finished(t *testing.T, id string) (response event.Response) {
	t.Helper()
	i.eventually(t, id+" ends", func() bool {
		response = i.standing(t, id)
		return response.Status.Terminal()
	})
	return response
}

func (i *installation) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, patience, 50*time.Millisecond, what)
}

// call calls an HTTP interface with the key of a file in the data directory, if one is named.
func (i *installation) call(t *testing.T, keyFile, method, url, body string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Prefer", "respond-async")
	if keyFile != "" {
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(i.files(t)[keyFile]))
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Less(t, response.StatusCode, 300, string(answer))
	return answer
}
