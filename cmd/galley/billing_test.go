package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ask calls the API and decodes the answer.
func (i *installation) ask(t *testing.T, key, method, path, body string) map[string]any {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+i.http+"/api/v1"+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	if body != "" && body[0] != '{' {
		request.Header.Set("Content-Type", "application/yaml")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Less(t, response.StatusCode, 300, "%s", text)
	return decoded(t, text)
}

func decoded(t *testing.T, text []byte) (value map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&value), "%s", text)
	return value
}

// masked hides what is another one each time: ids, times and days.
func masked(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			switch name {
			case "execution_id", "transaction_id", "created_at", "from", "to":
				value[name] = "…"
			default:
				value[name] = masked(inner)
			}
		}
	case []any:
		for i := range value {
			value[i] = masked(value[i])
		}
	}
	return value
}

// example is a block of docs/billing.md.
func example(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "billing.md"))
	require.NoError(t, err)
	_, block, found := strings.Cut(string(page), "<!-- example "+name+" -->\n```")
	require.True(t, found, name)
	_, block, _ = strings.Cut(block, "\n")
	block, _, _ = strings.Cut(block, "```")
	return block
}

// TestWorkedExampleOfBilling does what docs/billing.md tells, and compares every number; then it has the commands print the same.
func TestWorkedExampleOfBilling(t *testing.T) {
	t.Parallel()
	i := install(t)
	p := i.start(t)
	operator := strings.TrimSpace(i.files(t)["admin.key"])
	key, _ := i.ask(t, operator, "POST", "/customers", `{"customer_id": "acme", "name": "Acme"}`)["api_key"].(string)
	i.ask(t, operator, "POST", "/credits/grants", `{"customer_id": "acme", "amount": 1}`)
	i.ask(t, key, "POST", "/agents", `{"agent_id": "the-clerk"}`)
	i.ask(t, key, "POST", "/recipes", example(t, "recipe"))
	same := func(name string, got map[string]any) {
		t.Helper()
		require.Equal(t, masked(decoded(t, []byte(example(t, name)))), masked(got), name)
	}

	const asked = `{"agent_id": "the-clerk", "recipe_id": "scan", "input_data": {"letters": ["bills", "cards"], "pages": 7}}`
	same("quote", i.ask(t, key, "POST", "/recipes/quote", asked))
	response := i.ask(t, key, "POST", "/recipes/execute", asked)
	id, _ := response["execution_id"].(string)
	metadata, _ := response["metadata"].(map[string]any)
	require.Equal(t, []any{json.Number("0.37"), json.Number("0.37"), json.Number("0.3195"), json.Number("0.0505")}, []any{
		metadata["quoted_credits"], metadata["debited_credits"], metadata["refunded_credits"], metadata["credits_consumed"],
	})
	var receipt, usage map[string]any
	now := time.Now().UTC()
	from, to := now.AddDate(0, 0, -1).Format(time.DateOnly), now.AddDate(0, 0, 1).Format(time.DateOnly)
	days := "from=" + from + "&to=" + to
	require.Eventually(t, func() bool {
		receipt = i.ask(t, key, "GET", "/executions/"+id+"/receipt", "")
		usage = i.ask(t, key, "GET", "/usage?group_by=kind&"+days, "")
		items, _ := usage["items"].([]any)
		return receipt["settled"] == true && len(items) > 0
	}, patience, 20*time.Millisecond, "billing and the projection follow")
	same("receipt", receipt)
	same("usage", usage)
	same("statement", i.ask(t, key, "GET", "/statement?"+days, ""))

	const input = `{"letters": [], "pages": 1}`
	quoted := i.succeed(t, "quote", "the-clerk", "scan", "--input", input, "--api-key", key)
	assert.Regexp(t, `stamp +audit.note +0.01 an item +0.05\n +pages +subscription.charge +0.0015 per unit +0.3\n`, quoted)
	assert.Regexp(t, `at most +0.37 credits\n +available +0.9495 credits, covered`, quoted)
	printed := i.succeed(t, "receipt", id, "--api-key", key)
	assert.Regexp(t, `stamp +audit.note +success +2 of 2 +0.01 an item +0.02`, printed)
	assert.Regexp(t, `quoted +0.37\n +debited +0.37\n +refunded +0.3195\n +consumed +0.0505`, printed)
	assert.NotContains(t, printed, "not settled")
	assert.Regexp(t, `acme +1 +3 +0.0505 +0 +0 +7`, i.succeed(t, "usage", "--all", "--by", "customer", "--from", from, "--to", to))
	assert.Regexp(t, `^kind,executions,steps,credits,input_tokens,output_tokens,units\r\naudit.note,1,1,0.02,0,0,0\r\n`,
		i.succeed(t, "usage", "--by", "kind", "--csv", "--from", from, "--to", to, "--api-key", key))
	assert.Regexp(t, `grant \(top_up\) +1 +1\n.*debit +1 +-0.37\n.*refund +1 +0.3195\n.*balance after +0.9495`,
		i.succeed(t, "statement", "--from", from, "--to", to, "--customer", "acme"))
	assert.Contains(t, i.succeed(t, "statement", "--from", from, "--to", to, "--csv", "--api-key", key), "closing_balance,,,0.9495\r\n")
	out, code := i.run(t, "usage", "--from", "2026-01-01", "--to", "2026-12-31")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "/to must be at most 92 days from from")
	assert.Zero(t, p.end(t, syscall.SIGTERM))
}
