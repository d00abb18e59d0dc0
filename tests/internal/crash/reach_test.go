package crash

import (
	"fmt"
	"io"
	"net/http"
	"net/smtp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/tests/internal/inspect"
)

// reachedJournal is the journal of an execution of reach that has come so far, ended with this code; "" for a success.
func reachedJournal(t *testing.T, code problem.Code, usage map[string]event.Usage, done ...string) inspect.Journal {
	t.Helper()
	end := response(done...)
	var kept []string
	for n, piece := range pieces() {
		kept = append(kept, fmt.Sprintf(`{"key":"crash.e.%s","revision":%d}`, piece, n+1))
	}
	end.Status, end.Data = event.StatusSuccess, []byte(`{"kept":[`+strings.Join(kept, ",")+`]}`)
	if code != "" {
		end.Status, end.Data = event.StatusFailed, nil
	}
	for i := range end.Metadata.Steps {
		step := &end.Metadata.Steps[i]
		if used, ok := usage[step.ID]; ok {
			step.Usage = &used
			step.Credits, _ = measured(step.ID, &used)
		}
	}
	journal := recorded{journalOf(t, end)}.ended(code).Journal
	journal["e"].Last(event.Completed).Header.Set(event.HeaderSubject, reachRecipe)
	return journal
}

// all are the steps of reach, and used what those that are measured use with the first call.
func all() []string { return []string{"ask", "mail", "work", "keep", "note", "tell", "end"} }

func used() map[string]event.Usage {
	return map[string]event.Usage{"ask": {InputTokens: promptTokens + 1, OutputTokens: completionTokens}, "work": {Units: 1}}
}

func seenOf(steps ...string) seen {
	outside := seen{calls: map[string][]time.Time{}, ways: map[string]way{}}
	for _, step := range steps {
		outside.calls["e/"+step], outside.ways["e/"+step] = at(0.5), wayOf(step)
	}
	return outside
}

func TestCompareReach(t *testing.T) {
	t.Parallel()
	changed := func(step string, usage event.Usage) map[string]event.Usage {
		all := used()
		all[step] = usage
		return all
	}
	everything := seenOf("ask", "mail", "work", "tell")
	misled := seenOf("ask", "mail", "work", "tell")
	misled.ways["e/mail"] = byHTTP
	tests := map[string]struct {
		journal inspect.Journal
		outside seen
		wrong   int
	}{
		"success":                       {reachedJournal(t, "", used(), all()...), everything, 0},
		"failed":                        {reachedJournal(t, problem.WorkerLost, used(), "ask", "mail"), everything, 1},
		"cancelled":                     {reachedJournal(t, problem.Cancelled, used(), "ask"), everything, 0},
		"too poor":                      {reachedJournal(t, problem.InsufficientCredits, nil), seenOf(), 0},
		"a mail that nobody saw":        {reachedJournal(t, "", used(), all()...), seenOf("ask", "work", "tell"), 1},
		"a mail that was none":          {reachedJournal(t, "", used(), all()...), misled, 1},
		"tokens of nobody":              {reachedJournal(t, "", changed("ask", event.Usage{InputTokens: 7}), all()...), everything, 1},
		"tokens of a call too many":     {reachedJournal(t, "", changed("ask", event.Usage{InputTokens: promptTokens + 2, OutputTokens: completionTokens}), all()...), everything, 1},
		"units of two calls instead":    {reachedJournal(t, "", changed("work", event.Usage{Units: 2}), all()...), everything, 1},
		"a worker that measured itself": {reachedJournal(t, "", map[string]event.Usage{"ask": used()["ask"]}, all()...), everything, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, compareReach(test.outside, test.journal), test.wrong)
		})
	}
}

func TestChargeOfWhatIsMeasured(t *testing.T) {
	t.Parallel()
	journal := reachedJournal(t, "", used(), all()...)
	const fixed = 40_000
	journal["e"].Last(event.Accepted).Header = map[string][]string{event.HeaderCredits: {strconv.Itoa(fixed + maxAsk + maxWork)}}
	charge := credit.Micro(fixed + (promptTokens+1)*perInput + completionTokens*perOutput + perUnit)
	completed := journal["e"].Last(event.Completed)
	completed.Header.Set(event.HeaderCredits, strconv.FormatInt(int64(charge), 10))
	require.Empty(t, compareCharges(journal))
	completed.Header.Set(event.HeaderCredits, strconv.FormatInt(int64(charge+perUnit), 10))
	require.Len(t, compareCharges(journal), 1)
}

func TestCompareIDs(t *testing.T) {
	t.Parallel()
	require.Empty(t, compareIDs(map[string][]string{"e/mail": {"1", "1"}, "f/mail": {"2"}}))
	require.Len(t, compareIDs(map[string][]string{"e/mail": {"1", "2"}}), 1, "another id in the second attempt")
	require.Len(t, compareIDs(map[string][]string{"e/mail": {"1"}, "f/mail": {"1"}}), 1, "the id of another one")
	require.Len(t, compareIDs(map[string][]string{"e/mail": {""}}), 1, "no id")
}

func TestCompareStore(t *testing.T) {
	t.Parallel()
	keeps := func(change func(values []value) []value) []value {
		var values []value
		for n, piece := range pieces() {
			values = append(values, value{"c.crash.e." + piece, `"m"`, uint64(n + 1)})
		}
		return change(values)
	}
	mine := keeps(func(values []value) []value { return values })
	finished := reachedJournal(t, "", used(), all()...)
	cancelled := reachedJournal(t, problem.Cancelled, used(), "ask", "mail", "work")
	tests := map[string]struct {
		journal inspect.Journal
		kept    store
		wrong   int
	}{
		"once":                        {finished, store{mine, 8}, 0},
		"written twice":               {finished, store{mine, 9}, 1},
		"lost":                        {finished, store{mine[:7], 7}, 1},
		"another revision":            {finished, store{keeps(func(v []value) []value { v[1].revision = 9; return v }), 8}, 1},
		"another value":               {finished, store{keeps(func(v []value) []value { v[1].json = `"n"`; return v }), 8}, 1},
		"one of nobody":               {finished, store{keeps(func(v []value) []value { return append(v, value{"c.crash.f.a", `"m"`, 9}) }), 9}, 1},
		"cancelled before":            {cancelled, store{nil, 0}, 0},
		"cancelled before it knew it": {cancelled, store{mine[:2], 2}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, compareStore(test.kept, test.journal), test.wrong)
		})
	}
}

func TestCompareNotes(t *testing.T) {
	t.Parallel()
	var mine []note
	for _, piece := range pieces() {
		mine = append(mine, note{"c", "m." + piece, "e"})
	}
	finished := reachedJournal(t, "", used(), all()...)
	cancelled := reachedJournal(t, problem.Cancelled, used(), "ask")
	require.Equal(t, 8, countNotes(finished))
	require.Zero(t, countNotes(cancelled))
	require.Empty(t, compareNotes(mine, finished))
	require.Empty(t, compareNotes(mine[:1], cancelled))
	require.Empty(t, compareNotes(nil, cancelled))
	require.Len(t, compareNotes(mine[1:], finished), 1, "lost")
	require.Len(t, compareNotes(append(mine[:8:8], mine[2]), finished), 1, "twice")
	require.Len(t, compareNotes(append(mine[:8:8], note{"c", "m.a", "f"}), finished), 1, "of nobody")
}

// TestCounter calls the outside world in each way.
func TestCounter(t *testing.T) {
	t.Parallel()
	outside, err := newCounter(0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, outside.close()) })
	post := func(path, key string) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, outside.url+path, http.NoBody)
		require.NoError(t, err)
		request.Header.Set(headerKey, key)
		request.Header.Set("Webhook-Id", "msg_1")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close() //nolint:errcheck // it was read to its end
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(text)
	}
	require.JSONEq(t, `{"call": 1}`, post("/worked/work", "e/work"))
	require.JSONEq(t, `{"call": 2}`, post("/worked/work", "e/work"))
	require.JSONEq(t, `{"call": 1}`, post("/hook/tell", "e/tell"))
	require.Contains(t, post("/v1/chat/completions", "e/ask"), fmt.Sprintf(`"prompt_tokens":%d`, promptTokens+1))
	post("/call/first", "")
	letter := "Subject: e/mail\r\nMessage-ID: <1@crash.example>\r\n\r\nHello\r\n"
	require.NoError(t, smtp.SendMail(outside.mail.address, nil, "a@crash.example", []string{"b@crash.example"}, []byte(letter)))
	broken, err := smtp.Dial(outside.mail.address)
	require.NoError(t, err)
	require.NoError(t, broken.Mail("a@crash.example"))
	require.NoError(t, broken.Rcpt("b@crash.example"))
	body, err := broken.Data()
	require.NoError(t, err)
	_, err = io.Copy(body, strings.NewReader(letter))
	require.NoError(t, err)
	require.NoError(t, broken.Close(), "who dies in the middle has sent nothing")

	saw := outside.snapshot()
	require.Equal(t, 1, saw.keyless)
	require.Equal(t, map[string]way{"e/work": byWorker, "e/tell": byWebhook, "e/ask": byModel, "e/mail": byMail, "": byHTTP}, saw.ways)
	require.Len(t, saw.calls["e/work"], 2)
	require.Equal(t, []string{"<1@crash.example>"}, saw.ids["e/mail"])
}
