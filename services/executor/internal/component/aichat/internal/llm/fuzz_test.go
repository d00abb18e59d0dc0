package llm

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/schemas/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzAnswer says that whatever comes is an answer within its limits or a *problem.Error, in all formats, at once or as a stream.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
		`{"type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"max_tokens","usage":{"input_tokens":5}}`,
		"data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
		"data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\r\n\r\ndata: {\"type\":\"message_stop\"}\n\n",
		`{"error":{"type":"rate_limit_error","code":429}}`,
		`{"error":"x","x_groq":{"error":{}}}`,
		"data:\ndata:\n\n:\n\n", "null", "[]", "{\"choices\":null}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, format := range []Format{FormatOpenAI, FormatAnthropic} {
			for _, read := range []func(t *transcript) error{
				func(t *transcript) error { return format.wire().whole([]byte(body), t) },
				func(t *transcript) error { return t.follow(format.wire(), io.NopCloser(strings.NewReader(body))) },
			} {
				heard := ""
				transcript := &transcript{request: &Request{Model: "m", OnText: func(text string) { heard += text }}}
				err := read(transcript)
				var failed *problem.Error
				require.True(t, err == nil || errors.As(err, &failed), "%v", err)
				answer := transcript.answer()
				assert.Equal(t, heard, answer.Text)
				assert.LessOrEqual(t, len(answer.Text), MaxAnswer)
				if answer.Usage != nil {
					assert.GreaterOrEqual(t, answer.Usage.InputTokens, int64(0))
					assert.GreaterOrEqual(t, answer.Usage.OutputTokens, int64(0))
				}
				if answer.Text != "" {
					require.NotNil(t, answer.Usage)
					assert.Positive(t, answer.Usage.OutputTokens)
				}
			}
		}
	})
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stream string
		want   []string
	}{
		"one":          {"data: a\n\n", []string{"a"}},
		"two":          {"data: a\n\ndata: b\n\n", []string{"a", "b"}},
		"over lines":   {"data: a\ndata:  b\ndata:c\n\n", []string{"a\n b\nc"}},
		"CRLF":         {"data: a\r\n\r\n", []string{"a"}},
		"named":        {"event: x\nid: 1\ndata: a\nretry: 5\n\n", []string{"a"}},
		"comments":     {": hello\n\n:\ndata: a\n: in between\n\n", []string{"a"}},
		"empty":        {"data:\n\ndata\n\ndata: \n\n", nil},
		"not complete": {"data: a\n\ndata: b\n", []string{"a"}},
		"nothing":      {"", nil},
	} {
		events := newEventReader(io.NopCloser(strings.NewReader(test.stream)))
		var got []string
		data, err := events.next()
		for ; err == nil; data, err = events.next() {
			got = append(got, string(data))
		}
		require.ErrorIs(t, err, io.EOF, name)
		assert.Equal(t, test.want, got, name)
	}
}
